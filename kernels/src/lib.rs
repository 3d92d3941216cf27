//! Numbers only: the numeric operations of Proxima's models over candle tensors.
//!
//! Must not know: checkpoints, tokens, requests, HTTP, files (except one memory map).

pub mod cpu;
pub mod cuda;
mod device;
mod knobs;
mod memory;
pub mod ops;
pub mod spec;
pub mod stored;

pub use candle_core::{DType, Device, Tensor};
pub use cpu::{l2_normalize, thread_pool};
pub use device::{BatchRows, DeviceChoice, OpenDevice, is_out_of_memory, sentence};
pub use memory::{Allocator, Loading};

/// A failure of an operation or its device.
pub type KernelError = candle_core::Error;

/// Sets the number of threads that kernels use, before the first of them runs; later calls change
/// nothing.
pub fn set_threads(threads: usize) {
    thread_pool::set_threads(threads);
}

/// The CPU's instruction set that kernels use, as `PROXIMA_ISA` names it.
pub fn instruction_set() -> &'static str {
    cpu::Isa::current().name()
}
