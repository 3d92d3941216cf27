//! The precision that a model is served in.
//!
//! Must not know: how it is loaded, devices.

use proxima_kernels::DType;
use proxima_kernels::spec::Precision;

use crate::checkpoint::{Checkpoint, CheckpointError};

/// Precision of the linear layers. Norms, softmax and sums are always float32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// Weights as they are stored, float32 activations. With AMX, which multiplies bfloat16
    /// numbers, weights in float32 or IEEE half are each two of these, as activations then are:
    /// errors of about 2^-16 of the products instead of float32's 2^-24.
    Float32,
    /// bfloat16 weights, and bfloat16 activations where the CPU multiplies such numbers.
    Bfloat16,
    /// IEEE half weights, float32 activations. With AMX as `Float32`, in 4 bytes a weight.
    Float16,
    /// 8-bit weights with a scale an output, 8-bit activations with a scale a token.
    Int8,
}

impl Dtype {
    /// Its name in config files and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Bfloat16 => "bfloat16",
            Self::Float16 => "float16",
            Self::Int8 => "int8",
        }
    }

    /// The precision of most of a checkpoint's numbers.
    ///
    /// # Errors
    /// None that is served.
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
