//! CUDA devices: opening, describing and checking them.
//!
//! Must not know: which device a model wants, what happens to one that fails.

use candle_core::cuda_backend::{CudaError, WrapErr as _};
use candle_core::{CudaDevice, Device};
use cudarc::cublas::sys::cublasStatus_t;
use cudarc::driver::sys::{self, CUresult};
use cudarc::driver::{CudaContext, DevicePtr as _, DriverError};
use parking_lot::Mutex;

use super::module::{kernel, launch};
use crate::KernelError;
use crate::cuda::types::{Argument, Launch, Properties};

/// Major CUDA version of the compiler that built the kernels: older drivers cannot load them.
const MADE_BY: &str = env!("PROXIMA_CUDA_MAJOR");

/// The oldest compute capability that the kernels support (Ampere).
const OLDEST: (i32, i32) = (8, 0);

/// The number of CUDA devices on this machine.
///
/// # Errors
///
/// There is no driver, it does not start, or it is too old for the kernels of this build.
pub fn count() -> Result<usize, KernelError> {
    let count = CudaContext::device_count().map_err(|error| no_driver(&error))?;
    let mut version = 0;
    // SAFETY: the driver writes one integer to `version`.
    unsafe { sys::cuDriverGetVersion(&mut version) }.result().map_err(|error| no_driver(&error))?;
    if MADE_BY.parse().is_ok_and(|made_by: i32| version / 1000 < made_by) {
        return Err(KernelError::Msg(format!(
            "the NVIDIA driver supports CUDA {}.{}; this build needs a driver for CUDA {MADE_BY}.0",
            version / 1000,
            version % 1000 / 10
        )));
    }
    Ok(usize::try_from(count).unwrap_or(0))
}

/// Checks that a device is present.
///
/// # Errors
///
/// As [`count`], or there is no such device.
pub fn present(ordinal: usize) -> Result<(), KernelError> {
    let found = count()?;
    if ordinal < found {
        return Ok(());
    }
    let have = match found {
        0 => "no CUDA device".to_owned(),
        1 => "one CUDA device, number 0".to_owned(),
        more => format!("{more} CUDA devices, numbers 0 to {}", more - 1),
    };
    let message = format!("there is no CUDA device {ordinal}: this machine has {have}");
    Err(KernelError::Msg(message))
}

/// Opens a device with a single stream, on which all its work runs in order, whichever thread
/// submits it. Tensors of two separately opened devices must not be mixed, even on the same GPU.
///
/// # Errors
///
/// No driver or one too old, no such device, one older than the kernels support, or cuBLAS is
/// missing.
pub fn device(ordinal: usize, memory_fraction: Option<f64>) -> Result<Device, KernelError> {
    present(ordinal)?;
    let device =
        Device::new_cuda_with_stream(ordinal).map_err(|error| not_opened(ordinal, &error))?;
    let cuda = device.as_cuda_device()?;
    let found = properties(&device)?;
    if found.capability < OLDEST {
        let (major, minor) = found.capability;
        return Err(KernelError::Msg(format!(
            "CUDA device {ordinal} ({}) has compute capability {major}.{minor}; the kernels need \
             {}.{} or later",
            found.name, OLDEST.0, OLDEST.1
        )));
    }
    keep_memory(cuda.cuda_stream().context(), memory_fraction)?;
    // SAFETY: candle creates and uses all tensors of this device on its one stream, in order; code
    // that adds a stream must order it with events of its own.
    unsafe { cuda.disable_event_tracking() };
    Ok(device)
}

/// Makes the driver keep freed memory for the next batch, instead of returning it to the device
/// whenever the host synchronises. With a fraction, tensors get no more than that share of the
/// device's memory.
fn keep_memory(context: &CudaContext, fraction: Option<f64>) -> Result<(), KernelError> {
    let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    let mut all = u64::MAX;
    context.bind_to_thread().w()?;
    let mut pool = match fraction {
        Some(fraction) => limited_pool(context, fraction)?,
        None => std::ptr::null_mut(),
    };
    // SAFETY: the driver writes the pool's address, then reads a value of the attribute's type.
    unsafe {
        if pool.is_null() {
            sys::cuDeviceGetDefaultMemPool(&mut pool, context.cu_device()).result().w()?;
        }
        sys::cuMemPoolSetAttribute(pool, attribute, (&raw mut all).cast()).result().w()?;
    }
    Ok(())
}

/// A memory pool with a size limit.
struct Limited {
    /// Ordinal of its device.
    ordinal: usize,
    /// The driver's pool handle.
    pool: usize,
    /// Number of open devices that use it.
    users: usize,
}

static POOLS: Mutex<Vec<Limited>> = Mutex::new(Vec::new());

/// The pool limited to this fraction of a device's memory. From now on, all allocations of this
/// process on the device come from it. There is one per device, sized by the first caller and
/// shared by all models.
fn limited_pool(context: &CudaContext, fraction: f64) -> Result<sys::CUmemoryPool, KernelError> {
    let mut pools = POOLS.lock();
    let ordinal = context.ordinal();
    let (_, bytes_total) = context.mem_get_info().w()?;
    if let Some(known) = pools.iter_mut().find(|known| known.ordinal == ordinal) {
        known.users += 1;
        return Ok(known.pool as sys::CUmemoryPool);
    }
    let wanted = sys::CUmemPoolProps {
        allocType: sys::CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED,
        handleTypes: sys::CUmemAllocationHandleType::CU_MEM_HANDLE_TYPE_NONE,
        location: sys::CUmemLocation {
            type_: sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE,
            id: context.cu_device(),
        },
        win32SecurityAttributes: std::ptr::null_mut(),
        maxSize: (bytes_total as f64 * fraction) as usize,
        usage: 0,
        reserved: [0; 54],
    };
    let mut pool = std::ptr::null_mut();
    // SAFETY: the driver reads the properties and writes the pool's address.
    unsafe {
        sys::cuMemPoolCreate(&mut pool, &wanted).result().w()?;
        sys::cuDeviceSetMemPool(context.cu_device(), pool).result().w()?;
    }
    pools.push(Limited { ordinal, pool: pool as usize, users: 1 });
    Ok(pool)
}

/// Removes one user of a device's limited pool, if it has one. After the last one, allocations come
/// from the driver's default pool again, and the limited pool is freed with its last tensor.
pub(super) fn leave_pool(device: &CudaDevice) {
    let stream = device.cuda_stream();
    let context = stream.context();
    let mut pools = POOLS.lock();
    let Some(index) = pools.iter().position(|known| known.ordinal == context.ordinal()) else {
        return;
    };
    pools[index].users -= 1;
    if pools[index].users == 0 {
        let limited = pools.swap_remove(index).pool as sys::CUmemoryPool;
        let mut own = std::ptr::null_mut();
        // SAFETY: `limited_pool` created the pool, and it is destroyed only once; the driver keeps
        // it until its last allocation is freed. Errors are ignored: on a failed device nothing can
        // be done about them here.
        unsafe {
            if sys::cuDeviceGetDefaultMemPool(&mut own, context.cu_device()).result().is_ok() {
                let _ = sys::cuDeviceSetMemPool(context.cu_device(), own).result();
            }
            let _ = sys::cuMemPoolDestroy(limited).result();
        }
    }
}

/// Properties of a device.
///
/// # Errors
///
/// Not a CUDA device, or the driver does not answer.
pub fn properties(device: &Device) -> Result<Properties, KernelError> {
    let stream = device.as_cuda_device()?.cuda_stream();
    let context = stream.context();
    let multiprocessors = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
    let (bytes_free, bytes_total) = context.mem_get_info().w()?;
    Ok(Properties {
        name: context.name().w()?,
        capability: context.compute_capability().w()?,
        multiprocessors: usize::try_from(context.attribute(multiprocessors).w()?).unwrap_or(0),
        bytes_total,
        bytes_free,
    })
}

/// Returns the memory that the driver keeps for future tensors to the device, after all work queued
/// on its stream.
///
/// # Errors
///
/// Not a CUDA device, or an earlier kernel failed on it.
pub fn release_memory(device: &Device) -> Result<(), KernelError> {
    let stream = device.as_cuda_device()?.cuda_stream();
    let context = stream.context();
    stream.synchronize().w()?;
    context.bind_to_thread().w()?;
    let mut pool = std::ptr::null_mut();
    // SAFETY: the driver writes the pool's address; memory in use is not released.
    unsafe {
        sys::cuDeviceGetMemPool(&mut pool, context.cu_device()).result().w()?;
        sys::cuMemPoolTrimTo(pool, 0).result().w()
    }
}

/// Runs a small kernel on a device, after all work queued on its stream, and verifies the result.
///
/// # Errors
///
/// Not a CUDA device, an earlier kernel failed on it, or the result is wrong.
pub fn check(device: &Device) -> Result<(), KernelError> {
    const COUNT: u32 = 256;
    let stream = device.as_cuda_device()?.cuda_stream();
    let given: Vec<u32> = (0..COUNT).map(|index| index ^ 0x5bd1_e995).collect();
    let input = stream.clone_htod(&given).w()?;
    let output = stream.alloc_zeros::<u32>(given.len()).w()?;
    let check = kernel(device, "check", "check")?;
    let shape = Launch { grid: [COUNT / 64, 1, 1], block: [64, 1, 1], shared_bytes: 0 };
    let arguments: [Argument; 3] =
        [input.device_ptr(&stream).0.into(), COUNT.into(), output.device_ptr(&stream).0.into()];
    // SAFETY: the arguments match the parameters of `check`; both buffers hold COUNT elements and
    // live until the result has been read.
    unsafe { launch(device, &check, shape, &arguments) }?;
    let answers = stream.clone_dtoh(&output).w()?;
    stream.synchronize().w()?;
    let right = (0..COUNT).zip(&given);
    let right = right.map(|(index, given)| given.wrapping_mul(3).wrapping_add(index));
    if !right.eq(answers.iter().copied()) {
        candle_core::bail!("the CUDA device computes wrong results")
    }
    Ok(())
}

/// Whether an operation ran out of device memory, so that a smaller one may succeed.
pub fn is_out_of_memory(error: &KernelError) -> bool {
    match cause(error) {
        Some(CudaError::Cuda(error)) => error.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY,
        Some(CudaError::Cublas(error)) => error.0 == cublasStatus_t::CUBLAS_STATUS_ALLOC_FAILED,
        _ => false,
    }
}

/// The underlying CUDA error, without added context.
fn cause(error: &KernelError) -> Option<&CudaError> {
    match error {
        KernelError::Cuda(inner) => inner.downcast_ref(),
        KernelError::WithBacktrace { inner, .. } | KernelError::Context { inner, .. } => {
            cause(inner)
        }
        _ => None,
    }
}

/// Why CUDA is not available.
fn no_driver(error: &DriverError) -> KernelError {
    KernelError::Msg(match error.0 {
        // Returned by the stubs of `scripts/cuda/shims.py` if the library is missing.
        CUresult::CUDA_ERROR_STUB_LIBRARY => {
            "there is no NVIDIA driver on this machine: libcuda.so.1 cannot be loaded".to_owned()
        }
        CUresult::CUDA_ERROR_NO_DEVICE => {
            "the NVIDIA driver finds no GPU (a container sees only those given with --gpus)"
                .to_owned()
        }
        _ => format!("the NVIDIA driver does not start: {error}"),
    })
}

/// Why a device that is present does not open.
fn not_opened(ordinal: usize, error: &KernelError) -> KernelError {
    KernelError::Msg(match cause(error) {
        Some(CudaError::Cublas(_)) => {
            "cuBLAS does not start: are libcublas and libcublasLt in LD_LIBRARY_PATH?".to_owned()
        }
        Some(CudaError::Curand(_)) => {
            "cuRAND does not start: is libcurand in LD_LIBRARY_PATH?".to_owned()
        }
        Some(other) => format!("CUDA device {ordinal} does not open: {other}"),
        None => format!("CUDA device {ordinal} does not open: {error}"),
    })
}
