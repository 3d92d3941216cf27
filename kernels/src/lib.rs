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
mod device;
mod gpu;
mod knobs;
pub mod ops;
pub mod stored;

pub use candle_core::{DType, Device, Tensor};
pub use device::{DeviceChoice, OpenDevice};

/// A failure of an operation or its device.
pub type KernelError = candle_core::Error;

/// Rows that keep a device busy. With more, activations leave the CPU's caches, and a batch takes
/// longer for nothing.
pub fn rows_of_a_batch(device: &Device) -> usize {
    /// Of a thread of the CPU.
    const ROWS: usize = 256;
    /// Of a GPU: products of a large one need some ten thousand for full speed.
    const ROWS_GPU: usize = 16_384;
    if device.is_cpu() { ROWS * cpu::team::threads() } else { ROWS_GPU }
}

/// Sets the number of threads that kernels use, before the first of them runs; later calls change
/// nothing.
pub fn set_threads(threads: usize) {
    cpu::team::set_threads(threads);
}
