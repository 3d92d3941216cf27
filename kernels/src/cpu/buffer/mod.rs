//! Memory that kernels read and write. Must not know: what it holds.

pub mod aligned;
pub mod shared;
