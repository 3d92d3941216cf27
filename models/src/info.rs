//! The description of a loaded model.
//!
//! Must not know: networks, devices beyond their name.

use std::collections::BTreeMap;

use proxima_kernels::BatchRows;
use proxima_kernels::spec::Pooling;

use crate::readout::{ScoreFunctions, Similarity};
use crate::recipes::SpecialTokens;

/// The description of a loaded model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// Model type in `config.json` (`bert`, `qwen3`).
    pub family: String,
    /// The device it runs on (`cpu`).
    pub device: String,
    /// Precision of the linear layers (`float32`, `bfloat16`, `float16`, `int8`).
    pub precision: String,
    /// Instruction set of the kernels (`amx`, `avx512_bf16`, `avx512`, `avx2_vnni`, `avx2`,
    /// `neon_bf16`, `neon`, `portable`).
    pub isa: String,
    /// Longest sequence in tokens, special tokens included.
    pub tokens_max: usize,
    /// Batch size in tokens at which the device is saturated.
    pub batch_tokens: BatchRows,
    /// Tokens in the vocabulary.
    pub vocabulary: usize,
    /// Prompts by name.
    pub prompts: BTreeMap<String, String>,
    /// The special tokens that the recipe puts around one text.
    pub special_tokens: SpecialTokens,
    /// The prompt used when a request names none.
    pub default_prompt_name: Option<String>,
    /// The recipe that prepares inputs (`text_embedding`, `qwen3_reranker`, ...).
    pub recipe: String,
    /// Whether it ranks listwise: by a vector of the query and its first candidates, or by reading
    /// whole lists ([`Capabilities::lists`]).
    pub listwise: bool,
    /// Whether inputs may have images and videos.
    pub media: bool,
    /// How its unnormalised vectors are compared.
    pub similarity: Similarity,
    /// How its logits become scores, if it has any.
    pub scores: Option<ScoreFunctions>,
    /// Warnings about its files for the operator: unknown keys, unused tensors.
    pub warnings: Vec<String>,
    /// What can be read out of it.
    pub capabilities: Capabilities,
}

/// What can be read out of a model; an unsupported readout is `None` or `false`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// One vector per sequence, with this many components.
    pub embedding: Option<usize>,
    /// The poolings that produce it; their vectors are concatenated.
    pub pooling: Vec<Pooling>,
    /// Logits per sequence, with these names.
    pub labels: Option<Vec<String>>,
    /// Word weights.
    pub sparse: bool,
    /// One vector per token.
    pub multi: bool,
    /// Scores of documents that it reads as a list, together with the query.
    pub lists: bool,
}
