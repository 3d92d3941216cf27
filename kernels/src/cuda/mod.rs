//! NVIDIA GPUs: `cu/` has the kernels, `driver/` opens devices and launches kernels, and `launch/`
//! decides which kernels compute an operation, with which arguments.
//!
//! Only `driver/` needs the feature `cuda`; without it, `absent.rs` takes its place, and all its
//! functions fail. Must not know: models, batches.

#[cfg(feature = "cuda")]
mod driver;
#[cfg(not(feature = "cuda"))]
#[path = "absent.rs"]
mod driver;
pub(crate) mod launch;
mod types;

use candle_core::{Device, Tensor};

use crate::KernelError;

pub use driver::{
    Kernel, Recording, address, check, copy, count, device, forget, gemm, is_out_of_memory, kernel,
    launch as start, present, properties, record, release_memory,
};
pub use types::{Argument, Gemm, Launch, Properties};

/// The signatures of `driver`, checked in builds with and without CUDA, so that neither version
/// changes alone.
const _: () = {
    let _: fn() -> Result<usize, KernelError> = driver::count;
    let _: fn(usize) -> Result<(), KernelError> = driver::present;
    let _: fn(usize, Option<f64>) -> Result<Device, KernelError> = driver::device;
    let _: fn(&Device) -> Result<Properties, KernelError> = driver::properties;
    let _: fn(&Device) -> Result<(), KernelError> = driver::check;
    let _: fn(&Device) -> Result<(), KernelError> = driver::release_memory;
    let _: fn(&KernelError) -> bool = driver::is_out_of_memory;
    let _: fn(&Device, &str, &str) -> Result<Kernel, KernelError> = driver::kernel;
    let _: fn(&Device) = driver::forget;
    let _: Start = driver::launch;
    let _: fn(&Tensor) -> Result<u64, KernelError> = driver::address;
    let _: fn(&Gemm<'_>, &Tensor) -> Result<(), KernelError> = driver::gemm;
    let _: fn(&Tensor, &Tensor) -> Result<(), KernelError> = driver::copy;
    let _: fn(&Device, Run) -> Result<Recording, KernelError> = driver::record;
    let _: fn(&mut Recording) -> Result<(), KernelError> = Recording::replay;
};

type Run = fn() -> Result<(), KernelError>;
type Start = unsafe fn(&Device, &Kernel, Launch, &[Argument]) -> Result<(), KernelError>;
