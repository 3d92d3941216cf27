//! Kernels by name: fat binaries embedded in the executable, loaded to a device on first use, and
//! launched on the device's one stream.
//!
//! Must not know: what a kernel computes, or which arguments are right.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use candle_core::backend::BackendStorage as _;
use candle_core::cuda_backend::{CudaDType, DeviceId, WrapErr as _};
use candle_core::{CudaDevice, CudaStorage, DType, Device, Storage, Tensor};
use cudarc::driver::sys::CUfunction_attribute_enum as Attribute;
use cudarc::driver::{CudaFunction, CudaModule, DevicePtr as _, LaunchConfig, PushKernelArg as _};
use cudarc::nvrtc::Ptx;
use half::{bf16, f16};
use parking_lot::{Mutex, RwLock};

use crate::KernelError;
use crate::cuda::types::{Argument, Launch};

/// The fat binary of each source, by source name.
static IMAGES: &[(&str, &[u8])] = &include!(concat!(env!("OUT_DIR"), "/cuda_images.rs"));

/// What each device has loaded so far.
static LOADED: LazyLock<RwLock<HashMap<DeviceId, Modules>>> = LazyLock::new(RwLock::default);

/// Dynamic shared memory that a block may use without raising the kernel's limit.
const SHARED_BYTES_FREE: u32 = 48 << 10;

type Modules = HashMap<&'static str, SourceKernels>;

/// The kernels of a source on a device.
struct SourceKernels {
    code: Arc<CudaModule>,
    kernels: HashMap<Box<str>, Kernel>,
}

/// A kernel on a device. Clones are cheap, and keep it loaded.
#[derive(Clone)]
pub struct Kernel(Arc<Function>);

struct Function {
    name: Box<str>,
    code: CudaFunction,
    /// The limit on dynamic shared memory set so far.
    shared_bytes_allowed: Mutex<u32>,
}

/// The kernel `name` of a source (`norm` is `norm.cu`), loaded on first use.
///
/// # Errors
///
/// Not a CUDA device, no such source or kernel, or the driver cannot load it.
pub fn kernel(device: &Device, source: &str, name: &str) -> Result<Kernel, KernelError> {
    let device = device.as_cuda_device()?;
    let known = LOADED
        .read()
        .get(&device.id())
        .and_then(|modules| modules.get(source)?.kernels.get(name).cloned());
    if let Some(found) = known {
        return Ok(found);
    }
    let mut loaded = LOADED.write();
    let modules = loaded.entry(device.id()).or_default();
    let module = match modules.get_mut(source) {
        Some(module) => module,
        None => {
            let (source, code) = load(device, source)?;
            modules.entry(source).or_insert(SourceKernels { code, kernels: HashMap::new() })
        }
    };
    let code = module.code.load_function(name).w();
    let code = code.map_err(|error| error.context(format!("{source}.cu has no kernel {name}")))?;
    let name = Box::<str>::from(name);
    let shared_bytes_allowed = Mutex::new(SHARED_BYTES_FREE);
    let kernel = Kernel(Arc::new(Function { name: name.clone(), code, shared_bytes_allowed }));
    Ok(module.kernels.entry(name).or_insert(kernel).clone())
}

/// Drops everything loaded for a device.
pub(super) fn forget(device: &CudaDevice) {
    LOADED.write().remove(&device.id());
}

/// Launches a kernel on the device's stream, without waiting for it.
///
/// # Errors
///
/// Not a CUDA device, or the driver refuses the launch, because of its shape or because an earlier
/// kernel failed.
///
/// # Safety
///
/// The arguments match the kernel's parameters in number, order and type. They point to memory of
/// this device that stays allocated until the kernel has run (memory freed on the device's stream
/// does) and is at least as large as what the kernel reads and writes for these arguments and this
/// grid; nothing else writes to it meanwhile.
pub unsafe fn launch(
    device: &Device,
    kernel: &Kernel,
    shape: Launch,
    arguments: &[Argument],
) -> Result<(), KernelError> {
    if shape.grid.contains(&0) {
        return Ok(());
    }
    let function = &*kernel.0;
    let refused = |error: KernelError| error.context(format!("launching {}", function.name));
    function.allow(shape.shared_bytes).map_err(refused)?;
    let stream = device.as_cuda_device()?.cuda_stream();
    let mut launch = stream.launch_builder(&function.code);
    for argument in arguments {
        match argument {
            Argument::Pointer(value) => launch.arg(value),
            Argument::Int(value) => launch.arg(value),
            Argument::Unsigned(value) => launch.arg(value),
            Argument::Long(value) => launch.arg(value),
            Argument::Float(value) => launch.arg(value),
        };
    }
    let config = LaunchConfig {
        grid_dim: shape.grid.into(),
        block_dim: shape.block.into(),
        shared_mem_bytes: shape.shared_bytes,
    };
    // SAFETY: the caller vouches for the arguments; they outlive the call, which copies them.
    unsafe { launch.launch(config) }.w().map_err(refused)?;
    Ok(())
}

/// The device address of a tensor's first element, valid while the tensor lives.
///
/// # Errors
///
/// The tensor is on another device, is not contiguous, or has a dtype that no kernel takes.
pub fn address(tensor: &Tensor) -> Result<u64, KernelError> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cuda(storage) = &*storage else {
        candle_core::bail!("a tensor for a CUDA kernel is on another device")
    };
    let Some((first, _)) = layout.contiguous_offsets() else {
        candle_core::bail!("a tensor for a CUDA kernel is not contiguous")
    };
    match storage.dtype() {
        DType::F32 => address_of::<f32>(storage, first),
        DType::BF16 => address_of::<bf16>(storage, first),
        DType::F16 => address_of::<f16>(storage, first),
        DType::U32 => address_of::<u32>(storage, first),
        DType::U8 => address_of::<u8>(storage, first),
        DType::I64 => address_of::<i64>(storage, first),
        other => candle_core::bail!("no CUDA kernel computes with {other:?}"),
    }
}

// === impl Function ===

impl Function {
    /// Raises the kernel's limit on dynamic shared memory, if this is above it.
    fn allow(&self, shared_bytes: u32) -> Result<(), KernelError> {
        if shared_bytes <= SHARED_BYTES_FREE {
            return Ok(());
        }
        let mut allowed = self.shared_bytes_allowed.lock();
        if shared_bytes > *allowed {
            let attribute = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            self.code.set_attribute(attribute, shared_bytes.cast_signed()).w()?;
            *allowed = shared_bytes;
        }
        Ok(())
    }
}

fn load(device: &CudaDevice, source: &str) -> Result<(&'static str, Arc<CudaModule>), KernelError> {
    let Some((source, image)) = IMAGES.iter().find(|(name, _)| *name == source) else {
        candle_core::bail!("this build has no CUDA kernels of {source}.cu")
    };
    if image.is_empty() {
        candle_core::bail!(
            "this build is for type checks only (NVCC_MODE=stub) and has no CUDA kernels: build it \
             with nvcc"
        )
    }
    let code = device.cuda_stream().context().load_module(Ptx::from_binary(image.to_vec())).w();
    let code = code.map_err(|error| {
        error.context(format!("the driver cannot load the CUDA kernels of {source}.cu"))
    })?;
    Ok((source, code))
}

fn address_of<T: CudaDType>(storage: &CudaStorage, first: usize) -> Result<u64, KernelError> {
    let elements = storage.as_cuda_slice::<T>()?;
    let stream = storage.device().cuda_stream();
    let wanted = elements.slice(first..);
    let (address, _guard) = wanted.device_ptr(&stream);
    Ok(address)
}
