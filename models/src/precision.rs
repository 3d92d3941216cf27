//! The precision of a checkpoint's weights.
//!
//! Must not know: how it is loaded, devices.

use proxima_kernels::DType;
use proxima_kernels::spec::Precision;

use crate::checkpoint::{Checkpoint, CheckpointError};

/// The precision of most of a checkpoint's weights.
///
/// # Errors
/// If it is not float32, bfloat16 or float16.
pub fn stored_precision(checkpoint: &Checkpoint) -> Result<Precision, CheckpointError> {
    match checkpoint.weights().main_dtype() {
        Some(DType::F32) => Ok(Precision::Float32),
        Some(DType::BF16) => Ok(Precision::Bfloat16),
        Some(DType::F16) => Ok(Precision::Float16),
        _ => Err(CheckpointError::new(
            checkpoint.dir(),
            "it has no tensors in F32, BF16 or F16; convert it to one of them",
        )),
    }
}
