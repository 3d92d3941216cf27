//! What stands for `cuda` in a build without it: the same functions, which say so.
//!
//! Must not know: CUDA.

use candle_core::{Device, Tensor};

use crate::KernelError;
use crate::cuda::types::{Argument, Gemm, Launch, Properties};

/// What every function here answers.
pub const ABSENT: &str = "this build has no CUDA: build it with --features cuda";

/// A kernel on a device: there are none.
#[derive(Clone)]
pub enum Kernel {}

/// What was launched on a device: nothing.
pub enum Recording {}

impl Recording {
    /// Launches what was recorded, which there never is.
    ///
    /// # Errors
    ///
    /// Never: there is none.
    pub fn replay(&mut self) -> Result<(), KernelError> {
        match *self {}
    }
}

fn absent<T>() -> Result<T, KernelError> {
    Err(KernelError::Msg(ABSENT.to_owned()))
}

/// How many CUDA devices this machine has.
///
/// # Errors
///
/// Always: this build has no CUDA.
pub fn count() -> Result<usize, KernelError> {
    absent()
}

/// That a device is there.
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

/// What a device is.
///
/// # Errors
///
/// Always: this build has no CUDA.
pub fn properties(_device: &Device) -> Result<Properties, KernelError> {
    absent()
}

/// Has a device compute a little and reads the result back.
///
/// # Errors
///
/// Always: this build has no CUDA.
pub fn check(_device: &Device) -> Result<(), KernelError> {
    absent()
}

/// Gives back memory that nobody uses.
///
/// # Errors
///
/// Always: this build has no CUDA.
pub fn release_memory(_device: &Device) -> Result<(), KernelError> {
    absent()
}

/// Whether an operation failed for want of the device's memory: never, without devices.
pub fn is_out_of_memory(_error: &KernelError) -> bool {
    false
}

/// The kernel of a name in the source of a name.
///
/// # Errors
///
/// Always: this build has no CUDA.
pub fn kernel(_device: &Device, _source: &str, _name: &str) -> Result<Kernel, KernelError> {
    absent()
}

/// Lets go of what was loaded to a device: nothing.
pub fn forget(_device: &Device) {}

/// Starts a kernel, of which there are none.
///
/// # Errors
///
/// Always: this build has no CUDA.
///
/// # Safety
///
/// Nothing is asked of the caller here; where there is CUDA, the arguments must be right.
pub unsafe fn launch(
    _device: &Device,
    kernel: &Kernel,
    _shape: Launch,
    _arguments: &[Argument],
) -> Result<(), KernelError> {
    match *kernel {}
}

/// The address of a tensor's first number on its device.
///
/// # Errors
///
/// Always: this build has no CUDA.
pub fn address(_tensor: &Tensor) -> Result<u64, KernelError> {
    absent()
}

/// A product of matrices.
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

/// Copies a tensor's numbers.
///
/// # Errors
///
/// Always: this build has no CUDA.
pub fn copy(_from: &Tensor, _to: &Tensor) -> Result<(), KernelError> {
    absent()
}
