//! The `proxima` executable.

fn main() {}
