//! Memory that kernels read and write. Must not know what is kept in it.

pub mod aligned;
pub mod shared;
