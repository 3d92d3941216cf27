//! How much memory a model needs, computed before it is loaded.
//!
//! Must not know: how much memory there is.

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::dtype::Dtype;
use crate::load::LoadOptions;

/// Lower bound, in bytes, on the memory for a checkpoint's packed weights on a CPU: every linear
/// layer, without embedding tables, activations and caches.
///
/// # Errors
/// If the weights have no supported precision.
pub fn memory_needed(
    checkpoint: &Checkpoint,
    options: &LoadOptions,
) -> Result<u64, CheckpointError> {
    let dtype = options.dtype.map_or_else(|| Dtype::of(checkpoint), Ok)?;
    let bytes = match dtype {
        Dtype::Float32 => 4,
        Dtype::Bfloat16 | Dtype::Float16 => 2,
        Dtype::Int8 => 1,
    };
    Ok(checkpoint.weights().packed_elements() * bytes)
}
