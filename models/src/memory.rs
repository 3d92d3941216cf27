//! How much memory a model needs, computed before it is loaded.
//!
//! Must not know: how much memory there is.

use proxima_kernels::spec::Precision;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::load::LoadOptions;
use crate::precision::stored_precision;

/// Lower bound, in bytes, on the memory for a checkpoint's packed weights on a CPU: every linear
/// layer, without embedding tables, activations and caches.
///
/// # Errors
/// If the weights have no supported precision.
pub fn memory_needed(
    checkpoint: &Checkpoint,
    options: &LoadOptions,
) -> Result<u64, CheckpointError> {
    let precision = options.precision.map_or_else(|| stored_precision(checkpoint), Ok)?;
    let bytes = match precision {
        Precision::Float32 => 4,
        Precision::Bfloat16 | Precision::Float16 => 2,
        Precision::Int8 => 1,
    };
    Ok(checkpoint.weights().packed_elements() * bytes)
}
