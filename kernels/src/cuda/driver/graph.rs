//! Launches recorded once, which the driver then starts as one.
//!
//! Must not know: what is launched, when that is worth it.

use candle_core::cuda_backend::WrapErr as _;
use candle_core::{Device, Tensor, bail};
use cudarc::driver::sys::{
    CUgraphInstantiate_flags as Flags, CUstreamCaptureMode as Mode,
    CUstreamCaptureStatus as CaptureStatus,
};
use cudarc::driver::{CudaGraph, CudaStream, result};

use super::module::address;
use crate::KernelError;

/// What was launched on a device, to be launched again.
pub struct Recording(CudaGraph);

// SAFETY: a graph may be used from any thread, one after another, and `&mut` is needed for all.
unsafe impl Send for Recording {}

/// Records what `run` launches on the device's stream instead of computing it: tensors that it
/// makes hold no numbers, and must be gone when it ends. Nobody else may use the device meanwhile.
///
/// # Errors
///
/// The device is no CUDA device, a failure of `run`, or something that cannot be recorded: waiting
/// for the device, or copying from the processor's memory. The device works on after that.
pub fn record(
    device: &Device,
    run: impl FnOnce() -> Result<(), KernelError>,
) -> Result<Recording, KernelError> {
    let stream = device.as_cuda_device()?.cuda_stream();
    stream.begin_capture(Mode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).w()?;
    let capture = Capture(&stream);
    let ran = run();
    // A tensor that could not be freed is told of here, not by the end of the capture.
    let freed = stream.context().check_err().w();
    let graph = stream.end_capture(Flags(0)).w();
    drop(capture);
    ran?;
    freed?;
    let Some(graph) = graph? else { bail!("nothing was recorded") };
    graph.upload().w()?;
    Ok(Recording(graph))
}

/// A stream that records; it is over at the end of this, also if something panics.
struct Capture<'a>(&'a CudaStream);

impl Drop for Capture<'_> {
    fn drop(&mut self) {
        let is_over = |status| status == CaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE;
        if self.0.capture_status().is_ok_and(is_over) {
            return;
        }
        // SAFETY: the stream lives. What was recorded is of no use, nor is a failure.
        let _ = unsafe { result::stream::end_capture(self.0.cu_stream()) };
    }
}

impl Recording {
    /// Launches what was recorded.
    ///
    /// # Errors
    ///
    /// An earlier kernel failed on the device.
    pub fn replay(&mut self) -> Result<(), KernelError> {
        self.0.launch().w()
    }
}

/// Copies all numbers of a tensor into another one of the same dtype and shape, on the device's
/// stream.
///
/// # Errors
///
/// Tensors that are not alike, or not contiguous on one CUDA device.
pub fn copy(from: &Tensor, to: &Tensor) -> Result<(), KernelError> {
    if from.shape() != to.shape() || from.dtype() != to.dtype() {
        bail!("copying {:?} into {:?}", from.shape(), to.shape());
    }
    if !from.device().same_device(to.device()) {
        bail!("copying from one device to another");
    }
    let stream = from.device().as_cuda_device()?.cuda_stream();
    stream.context().bind_to_thread().w()?;
    let bytes = from.elem_count() * from.dtype().size_in_bytes();
    // SAFETY: both are tensors of this device, of so many bytes, and freed in the stream's order.
    unsafe { result::memcpy_dtod_async(address(to)?, address(from)?, bytes, stream.cu_stream()) }
        .w()
}
