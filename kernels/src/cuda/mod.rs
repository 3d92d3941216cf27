//! NVIDIA GPUs: devices, and the kernels that the build script compiled from this folder's `*.cu`.
//!
//! Must not know: models, batches, what is computed on a device and why.

mod device;
mod graph;
mod module;
mod product;

pub use device::{check, count, device, is_out_of_memory, present, properties, release_memory};
pub use graph::{Recording, copy, record};
pub use module::{Kernel, address, forget, kernel, launch};
pub use product::product;

pub use crate::cuda_types::{Argument, Launch, Product, Properties};
