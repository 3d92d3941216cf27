//! The CPU's kernels: slices in, slices out. Must not know candle, layers or batches.

pub mod aligned;
#[cfg(target_arch = "x86_64")]
pub mod amx;
pub mod attention;
#[cfg(target_arch = "x86_64")]
pub mod avx2;
#[cfg(target_arch = "x86_64")]
pub mod avx2_int8;
#[cfg(target_arch = "x86_64")]
pub mod avx512;
#[cfg(target_arch = "x86_64")]
pub mod avx512_bf16;
mod cores;
pub mod epilogue;
pub mod fma;
pub mod gemm;
pub mod isa;
pub mod math;
#[cfg(target_arch = "aarch64")]
pub mod neon;
#[cfg(target_arch = "aarch64")]
pub mod neon_dot;
#[cfg(target_arch = "aarch64")]
pub mod neon_fma;
pub mod operand;
pub mod portable;
pub mod product;
pub mod rows;
mod shared;
pub mod simd;
pub mod team;
pub mod weights;

pub use epilogue::{Activation, Epilogue};
pub use isa::Isa;
pub use rows::l2_normalize;
