//! Compute only: the numeric operations of Proxima's models, on candle tensors.
//!
//! Must not know: checkpoints, tokens, requests, HTTP, files (except one memory map).

pub mod cpu;
pub mod cuda;
mod device;
mod knobs;
mod memory;
pub mod ops;
pub mod reference;
pub mod spec;
pub mod stored;

pub use candle_core::{DType, Device, Tensor};
pub use cpu::{l2_normalize, thread_pool};
pub use device::{BatchRows, DeviceChoice, OpenDevice, is_out_of_memory, sentence};
pub use memory::{Allocator, Loading};

/// An error of an operation or its device.
pub type KernelError = candle_core::Error;

/// Sets how many threads kernels use. Call it before the first kernel runs; later calls have no
/// effect.
pub fn set_threads(threads: usize) {
    thread_pool::set_threads(threads);
}

/// Whether the instruction set that `PROXIMA_ISA` names can be used; if it cannot, the first kernel
/// panics.
///
/// # Errors
/// A sentence that names those of this CPU.
pub fn check_instruction_set() -> Result<(), String> {
    cpu::Isa::chosen().map(|_| ())
}

/// The CPU instruction set that kernels use, as `PROXIMA_ISA` names it.
pub fn instruction_set() -> &'static str {
    cpu::Isa::current().name()
}

/// Whether float32 products are computed as products of two bfloat16 parts on this CPU, with errors
/// of about 2^-16.
pub fn splits_float32() -> bool {
    cpu::Isa::current().multiplies_tiles()
}
