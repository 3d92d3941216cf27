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
mod memory;
pub mod ops;
pub mod stored;

pub use candle_core::{DType, Device, Tensor};
pub use device::{BatchRows, DeviceChoice, OpenDevice, is_out_of_memory, sentence};
pub use memory::{Allocator, Loading};

/// A failure of an operation or its device.
pub type KernelError = candle_core::Error;

/// Sets the number of threads that kernels use, before the first of them runs; later calls change
/// nothing.
pub fn set_threads(threads: usize) {
    cpu::team::set_threads(threads);
}
