//! The CPU's kernels: slices in, slices out. Must not know candle, layers or batches.

pub mod aligned;
pub mod attention;
#[cfg(target_arch = "x86_64")]
pub mod avx2;
#[cfg(target_arch = "x86_64")]
pub mod avx512;
pub mod epilogue;
pub mod gemm;
pub mod isa;
pub mod math;
pub mod portable;
pub mod rows;
mod shared;
pub mod simd;
mod tile;

pub use epilogue::{Activation, Epilogue};
pub use isa::Isa;
pub use rows::l2_normalize;
