//! The CUDA driver and cuBLASLt: devices, and the kernels that the build script compiled from
//! `cu/`.
//!
//! Must not know: models, batches, what is computed on a device and why.

mod device;
mod gemm;
mod graph;
mod module;

pub use device::{check, count, device, is_out_of_memory, present, properties, release_memory};
pub use gemm::gemm;
pub use graph::{Recording, copy, record};
pub use module::{Kernel, address, kernel, launch};

use candle_core::Device;

/// Drops everything loaded for a device, so that nothing here keeps a failed one open.
pub fn forget(device: &Device) {
    if let Device::Cuda(device) = device {
        module::forget(device);
        gemm::forget(device);
        device::leave_pool(device);
    }
}
