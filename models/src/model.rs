//! A loaded model: network, recipe and readouts, and what it tells of itself.
//!
//! Must not know: requests, wire formats, devices beyond their name.

use std::collections::BTreeMap;

use crate::batch::Encoder;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::readout::{EmbeddingReadout, Pooling};
use crate::recipes::Recipe;

/// What a loaded model tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// Architecture, as `config.json` calls it (`bert`, `qwen3`).
    pub family: String,
    /// Where it runs (`cpu`).
    pub device: String,
    /// Precision of the weights (`float32`, `bfloat16`, `float16`).
    pub dtype: String,
    /// Instruction set of the kernels (`avx512`, `avx2`, `portable`).
    pub isa: String,
    /// Longest sequence in tokens, special tokens included.
    pub tokens_max: usize,
    /// Tokens in the vocabulary.
    pub vocabulary: usize,
    /// Prompts by name.
    pub prompts: BTreeMap<String, String>,
    /// The prompt used where a request names none.
    pub default_prompt_name: Option<String>,
}

/// What can be read out of a model; an absent capability is an absent value.
#[derive(Debug, Default)]
pub struct Readouts {
    /// One vector a sequence.
    pub embedding: Option<EmbeddingReadout>,
}

/// A loaded model.
pub struct Model {
    /// What it tells of itself.
    pub info: ModelInfo,
    /// Inputs to sequences.
    pub recipe: Box<dyn Recipe>,
    /// Sequences to hidden states.
    pub encoder: Box<dyn Encoder>,
    /// Hidden states to answers.
    pub readouts: Readouts,
}

/// Precision of the linear layers' weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// 32-bit floating point.
    Float32,
    /// bfloat16 weights, float32 activations and sums.
    Bfloat16,
    /// IEEE half weights, float32 activations and sums.
    Float16,
}

/// How to load a checkpoint; the default is as the checkpoint says.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Precision of the weights; `None` keeps the checkpoint's.
    pub dtype: Option<Dtype>,
    /// Pooling; `None` takes the checkpoint's, and refuses one that says nothing.
    pub pooling: Option<Pooling>,
    /// Longest sequence in tokens; `None` takes the checkpoint's, which is also the upper limit.
    pub tokens_max: Option<usize>,
}

impl Model {
    /// Makes a model of a checkpoint.
    ///
    /// # Errors
    /// An architecture, pooling or activation that is not known, a tensor that is missing or of the wrong shape.
    pub fn load(checkpoint: &Checkpoint, options: &LoadOptions) -> Result<Self, CheckpointError> {
        let _ = options;
        Err(CheckpointError {
            path: format!("{checkpoint:?}").into(),
            problem: "not written yet".into(),
        })
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model")
            .field("info", &self.info)
            .field("readouts", &self.readouts)
            .finish_non_exhaustive()
    }
}
