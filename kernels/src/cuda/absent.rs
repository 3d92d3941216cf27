//! Replaces `driver` in builds without CUDA: the same functions, whose errors say so.
//!
//! Must not know: CUDA.

use candle_core::{Device, Tensor};

use crate::KernelError;
use crate::cuda::types::{Argument, Gemm, Launch, Properties};

/// The error of every function here.
pub const ABSENT: &str = "this build has no CUDA: build it with --features cuda";

/// A kernel on a device. None exist in this build.
#[derive(Clone)]
pub enum Kernel {}

/// Launches recorded on a device. None exist in this build.
pub enum Recording {}

impl Recording {
    /// Launches the recorded work.
    ///
    /// # Errors
    ///
    /// Never: there are no recordings.
    pub fn replay(&mut self) -> Result<(), KernelError> {
        match *self {}
    }
}

fn absent<T>() -> Result<T, KernelError> {
    Err(KernelError::Msg(ABSENT.to_owned()))
}

/// The number of CUDA devices on this machine.
///
/// # Errors
///
/// Always: this build has no CUDA.
pub fn count() -> Result<usize, KernelError> {
    absent()
}

/// Checks that a device is present.
///
/// # Errors
///
/// Always: this build has no CUDA.
pub fn present(_ordinal: usize) -> Result<(), KernelError> {
    absent()
}

/// Opens a device.
///
/// # Errors
///
/// Always: this build has no CUDA.
pub fn device(_ordinal: usize, _memory_fraction: Option<f64>) -> Result<Device, KernelError> {
    absent()
}

/// Properties of a device.
///
/// # Errors
///
/// Always: this build has no CUDA.
pub fn properties(_device: &Device) -> Result<Properties, KernelError> {
    absent()
}

/// Runs a small kernel on a device and verifies the result.
///
/// # Errors
///
/// Always: this build has no CUDA.
pub fn check(_device: &Device) -> Result<(), KernelError> {
    absent()
}

/// Releases memory that is not in use.
///
/// # Errors
///
/// Always: this build has no CUDA.
pub fn release_memory(_device: &Device) -> Result<(), KernelError> {
    absent()
}

/// Whether an operation ran out of device memory: never, without devices.
pub fn is_out_of_memory(_error: &KernelError) -> bool {
    false
}

/// A kernel by its name and its source's name.
///
/// # Errors
///
/// Always: this build has no CUDA.
pub fn kernel(_device: &Device, _source: &str, _name: &str) -> Result<Kernel, KernelError> {
    absent()
}

/// Drops everything loaded for a device: nothing.
pub fn forget(_device: &Device) {}

/// Launches a kernel. None exist in this build.
///
/// # Errors
///
/// Always: this build has no CUDA.
///
/// # Safety
///
/// No requirements here; with CUDA, the arguments must match the kernel.
pub unsafe fn launch(
    _device: &Device,
    kernel: &Kernel,
    _shape: Launch,
    _arguments: &[Argument],
) -> Result<(), KernelError> {
    match *kernel {}
}

/// The device address of a tensor's first element.
///
/// # Errors
///
/// Always: this build has no CUDA.
pub fn address(_tensor: &Tensor) -> Result<u64, KernelError> {
    absent()
}

/// A matrix product.
///
/// # Errors
///
/// Always: this build has no CUDA.
pub fn gemm(_product: &Gemm<'_>, _out: &Tensor) -> Result<(), KernelError> {
    absent()
}

/// Records launches.
///
/// # Errors
///
/// Always: this build has no CUDA.
pub fn record(
    _device: &Device,
    _run: impl FnOnce() -> Result<(), KernelError>,
) -> Result<Recording, KernelError> {
    absent()
}

/// Copies a tensor's elements.
///
/// # Errors
///
/// Always: this build has no CUDA.
pub fn copy(_from: &Tensor, _to: &Tensor) -> Result<(), KernelError> {
    absent()
}
