//! Numbers only: the numeric operations of Proxima's models over candle tensors.
//!
//! Must not know: checkpoints, tokens, requests, HTTP, files (except one memory map).

pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
#[cfg(not(feature = "cuda"))]
#[path = "cuda_absent.rs"]
pub mod cuda;
mod cuda_types;
mod gpu;
mod knobs;
pub mod ops;
pub mod stored;

pub use candle_core::{DType, Device, Tensor};

/// A failure of an operation or its device.
pub type KernelError = candle_core::Error;

/// Rows that keep all threads busy on the CPU. With more, activations leave the caches, and a batch
/// takes longer for nothing.
pub fn rows_of_a_batch() -> usize {
    /// Of a thread.
    const ROWS: usize = 256;
    ROWS * cpu::team::threads()
}

/// Sets the number of threads that kernels use, before the first of them runs; later calls change
/// nothing.
pub fn set_threads(threads: usize) {
    cpu::team::set_threads(threads);
}
