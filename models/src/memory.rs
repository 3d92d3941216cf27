//! How much memory a model takes, told before it is loaded.
//!
//! Must not know: how much there is.

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::dtype::Dtype;
use crate::load::LoadOptions;

/// Bytes of memory that a checkpoint's packed weights take at least on a processor: every linear
/// layer, without embedding tables, activations and what is kept of batches.
///
/// # Errors
/// Weights of no precision that is served.
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
