//! The precision that a model is served in.
//!
//! Must not know: how it is loaded, devices.

use proxima_kernels::DType;
use proxima_kernels::spec::Precision;

use crate::checkpoint::{Checkpoint, CheckpointError};

/// Precision of linear layers. Norms, softmax and sums are always float32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// Weights as stored, float32 activations. With AMX, which multiplies bfloat16, weights stored
    /// as float32 or IEEE half, and activations with them, are each split into two bfloat16 values:
    /// errors are about 2^-16 of the products instead of float32's 2^-24.
    Float32,
    /// bfloat16 weights; bfloat16 activations too on CPUs that multiply bfloat16.
    Bfloat16,
    /// IEEE half weights, float32 activations. With AMX as `Float32`, at 4 bytes per weight.
    Float16,
    /// 8-bit weights with a scale per output, 8-bit activations with a scale per token.
    Int8,
}

impl Dtype {
    /// Its name in config files and responses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Bfloat16 => "bfloat16",
            Self::Float16 => "float16",
            Self::Int8 => "int8",
        }
    }

    /// The precision of most of a checkpoint's weights.
    ///
    /// # Errors
    /// If it is not float32, bfloat16 or float16.
    pub fn of(checkpoint: &Checkpoint) -> Result<Self, CheckpointError> {
        match checkpoint.weights().main_dtype() {
            Some(DType::F32) => Ok(Self::Float32),
            Some(DType::BF16) => Ok(Self::Bfloat16),
            Some(DType::F16) => Ok(Self::Float16),
            _ => Err(CheckpointError::new(
                checkpoint.dir(),
                "it has no tensors in F32, BF16 or F16; convert it to one of them",
            )),
        }
    }
}

impl From<Dtype> for Precision {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::Float32 => Self::Float32,
            Dtype::Bfloat16 => Self::Bfloat16,
            Dtype::Float16 => Self::Float16,
            Dtype::Int8 => Self::Int8,
        }
    }
}
