//! Operations on CUDA devices: which kernels compute them, with which launch configuration and
//! arguments.
//!
//! Compiled in every build; without the feature `cuda` there are no such devices, so none of it is
//! ever reached. Kernels write their whole output, so outputs are allocated uninitialised.
//! Must not know: CUDA's own types, families, batches.

pub(crate) mod attention;
pub(crate) mod embedding;
pub(crate) mod linear;
pub(crate) mod pool;
pub(crate) mod recording;
pub(crate) mod rows;
mod upload;

use candle_core::{DType, Device, Result, Tensor, bail};

use crate::cuda::{self, Argument, Launch};

pub(crate) use upload::{forget, uploaded};

/// Threads per warp.
const WARP: usize = 32;
/// Threads per block, unless stated otherwise.
const BLOCK: usize = 128;

/// A kernel of a source, for one dtype.
struct Call<'a> {
    source: &'static str,
    operation: &'static str,
    dtype: DType,
    device: &'a Device,
}

impl Call<'_> {
    /// Launches `{operation}_{dtype}`.
    ///
    /// # Errors
    /// A dtype without a kernel, or a device failure.
    ///
    /// # Safety
    /// As [`cuda::start`].
    unsafe fn launch(&self, shape: Launch, arguments: &[Argument]) -> Result<()> {
        let name = format!("{}_{}", self.operation, suffix(self.dtype)?);
        let kernel = cuda::kernel(self.device, self.source, &name)?;
        // SAFETY: the caller vouches for the arguments.
        unsafe { cuda::start(self.device, &kernel, shape, arguments) }
    }
}

/// The suffix of kernel names for a dtype.
fn suffix(dtype: DType) -> Result<&'static str> {
    Ok(match dtype {
        DType::F32 => "f32",
        DType::BF16 => "bf16",
        DType::F16 => "f16",
        other => bail!("no CUDA kernel computes with {other:?}"),
    })
}

/// An uninitialised tensor, for a kernel to write.
fn empty(shape: impl Into<candle_core::Shape>, dtype: DType, device: &Device) -> Result<Tensor> {
    let shape = shape.into();
    if let Some(tensor) = recording::taken(&shape, dtype)? {
        return Ok(tensor);
    }
    // SAFETY: any bits are valid elements, and the kernel that gets the tensor writes all of them.
    unsafe { Tensor::empty(shape, dtype, device) }
}

/// The address of a tensor's first element.
fn at(tensor: &Tensor) -> Result<Argument> {
    Ok(cuda::address(tensor)?.into())
}

/// The address of a tensor's first element, or null.
fn at_or_null(tensor: Option<&Tensor>) -> Result<Argument> {
    tensor.map_or(Ok(Argument::Pointer(0)), at)
}

/// A count as a kernel's `int`.
fn int(count: usize) -> Result<Argument> {
    match i32::try_from(count) {
        Ok(count) => Ok(count.into()),
        Err(_) => bail!("{count} does not fit a 32-bit kernel argument"),
    }
}

/// A count as a kernel's `long long`.
fn long(count: usize) -> Argument {
    Argument::Long(count as i64)
}

/// Enough blocks of [`BLOCK`] threads for `count` warps.
fn warps(count: usize) -> Launch {
    blocks(count.div_ceil(BLOCK / WARP))
}

/// `count` blocks of [`BLOCK`] threads.
fn blocks(count: usize) -> Launch {
    Launch { grid: [count as u32, 1, 1], block: [BLOCK as u32, 1, 1], shared_bytes: 0 }
}

/// The tensor, contiguous and aligned for GEMMs and vector loads: a slice of another tensor may
/// start anywhere.
fn aligned(tensor: &Tensor) -> Result<Tensor> {
    /// The device's allocation alignment, which cuBLASLt expects.
    const ALIGNMENT: u64 = 256;
    let tensor = tensor.contiguous()?;
    if cuda::address(&tensor)?.is_multiple_of(ALIGNMENT) {
        Ok(tensor)
    } else {
        tensor.force_contiguous()
    }
}

/// The tensor in float32, contiguous and aligned.
fn float32(tensor: &Tensor) -> Result<Tensor> {
    aligned(&tensor.to_dtype(DType::F32)?)
}
