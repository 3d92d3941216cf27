//! A loaded model: network, recipe and readouts, and what it tells of itself.
//!
//! Must not know: requests, wire formats, devices beyond their name.

use std::collections::BTreeMap;

use crate::batch::Encoder;
use crate::readout::EmbeddingReadout;
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

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model")
            .field("info", &self.info)
            .field("readouts", &self.readouts)
            .finish_non_exhaustive()
    }
}
