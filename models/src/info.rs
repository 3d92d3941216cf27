//! What a loaded model tells of itself.
//!
//! Must not know: networks, devices beyond their name.

use std::collections::BTreeMap;

use proxima_kernels::BatchRows;
use proxima_kernels::spec::Pooling;

use crate::readout::{Scores, Similarity};
use crate::recipes::SpecialTokens;

/// What a loaded model tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// Architecture, as `config.json` calls it (`bert`, `qwen3`).
    pub family: String,
    /// Where it runs (`cpu`).
    pub device: String,
    /// Precision of the linear layers (`float32`, `bfloat16`, `float16`, `int8`).
    pub dtype: String,
    /// Instruction set of the kernels (`amx`, `avx512_bf16`, `avx512`, `avx2_vnni`, `avx2`,
    /// `neon_bf16`, `neon`, `portable`).
    pub isa: String,
    /// Longest sequence in tokens, special tokens included.
    pub tokens_max: usize,
    /// Tokens that keep the device busy: larger batches bring nothing.
    pub batch_tokens: BatchRows,
    /// Tokens in the vocabulary.
    pub vocabulary: usize,
    /// Prompts by name.
    pub prompts: BTreeMap<String, String>,
    /// What the recipe puts around one text.
    pub special_tokens: SpecialTokens,
    /// The prompt used where a request names none.
    pub default_prompt_name: Option<String>,
    /// What is done around the network (`text_embedding`, `qwen3_reranker`, ...).
    pub recipe: String,
    /// Whether a query and its candidates make a vector that ranks them.
    pub listwise: bool,
    /// Whether inputs may have images and videos.
    pub media: bool,
    /// How its raw vectors are compared.
    pub similarity: Similarity,
    /// What its logits go through to be scores, if it has any.
    pub scores: Option<Scores>,
    /// What whoever serves it should know of its files: keys that are not known, tensors that are
    /// not used.
    pub warnings: Vec<String>,
    /// What can be read out of it.
    pub capabilities: Capabilities,
}

/// What can be read out of a model; an absent capability is an absent value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// One vector a sequence, of so many components.
    pub embedding: Option<usize>,
    /// How tokens are pooled to it: methods whose vectors are laid end to end.
    pub pooling: Vec<Pooling>,
    /// Logits of a sequence, by these names.
    pub labels: Option<Vec<String>>,
    /// Weights of words.
    pub sparse: bool,
    /// One vector a token.
    pub multi: bool,
}
