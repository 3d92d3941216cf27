//! CUDA graphs: launches recorded once, then started with one call.
//!
//! Must not know: what is launched, when recording pays off.

use candle_core::cuda_backend::WrapErr as _;
use candle_core::{Device, Tensor, bail};
use cudarc::driver::sys::{
    CUgraphInstantiate_flags as Flags, CUstreamCaptureMode as Mode,
    CUstreamCaptureStatus as CaptureStatus,
};
use cudarc::driver::{CudaGraph, CudaStream, result};

use super::module::address;
use crate::KernelError;

/// Launches recorded on a device, for replay.
pub struct Recording(CudaGraph);

// SAFETY: a graph may be used from any thread, one at a time, and every use needs `&mut`.
unsafe impl Send for Recording {}

/// Records what `run` launches on the device's stream instead of executing it: tensors that it
/// allocates hold no data and must be dropped before it returns. Nothing else may use the device
/// meanwhile.
///
/// # Errors
///
/// Not a CUDA device, a failure of `run`, or something that cannot be captured: waiting for the
/// device, or copying from host memory. The device remains usable.
pub fn record(
    device: &Device,
    run: impl FnOnce() -> Result<(), KernelError>,
) -> Result<Recording, KernelError> {
    let stream = device.as_cuda_device()?.cuda_stream();
    stream.begin_capture(Mode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).w()?;
    let capture = Capture(&stream);
    let ran = run();
    // A failure to free a tensor is reported here, not by the end of the capture.
    let freed = stream.context().check_err().w();
    let graph = stream.end_capture(Flags(0)).w();
    drop(capture);
    ran?;
    freed?;
    let Some(graph) = graph? else { bail!("nothing was recorded") };
    graph.upload().w()?;
    Ok(Recording(graph))
}

/// A stream in capture mode. Dropping this ends the capture, also on panic.
struct Capture<'a>(&'a CudaStream);

impl Drop for Capture<'_> {
    fn drop(&mut self) {
        if let Ok(CaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE) = self.0.capture_status() {
            return;
        }
        // SAFETY: the stream is alive. The graph is discarded, and an error does not matter.
        let _ = unsafe { result::stream::end_capture(self.0.cu_stream()) };
    }
}

impl Recording {
    /// Launches the recorded work.
    ///
    /// # Errors
    ///
    /// An earlier kernel failed on the device.
    pub fn replay(&mut self) -> Result<(), KernelError> {
        self.0.launch().w()
    }
}

/// Copies all elements of a tensor into another one of the same dtype and shape, on the device's
/// stream.
///
/// # Errors
///
/// Different shapes, dtypes or devices, or tensors that are not contiguous on a CUDA device.
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
    // SAFETY: dtype, shape and device were compared above and `address` checks contiguity, so both
    // tensors have `bytes` bytes on this device; they are freed in stream order.
    unsafe { result::memcpy_dtod_async(address(to)?, address(from)?, bytes, stream.cu_stream()) }
        .w()
}
