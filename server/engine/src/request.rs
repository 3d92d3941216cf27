//! What the engine is asked and what it answers.
//!
//! Must not know: wire formats.

use std::time::Duration;

use proxima_models::{Input, Prepare};

/// Vectors wanted for some inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbedRequest {
    /// One or more inputs; answered in this order.
    pub inputs: Vec<Input>,
    /// Prompt and truncation, the same for all inputs.
    pub prepare: Prepare,
    /// Keep the first components only (Matryoshka); `1..=width`.
    pub dimensions: Option<usize>,
    /// Scale vectors to length one.
    pub normalize: bool,
}

/// The vectors of an [`EmbedRequest`].
#[derive(Debug, Clone, PartialEq)]
pub struct EmbedAnswer {
    /// One vector an input, cut and normalised as asked.
    pub vectors: Vec<Vec<f32>>,
    /// What it took.
    pub timings: Timings,
}

/// Hidden states of every token wanted for some inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct TokensRequest {
    /// One or more inputs; answered in this order.
    pub inputs: Vec<Input>,
    /// Prompt and truncation, the same for all inputs.
    pub prepare: Prepare,
}

/// The hidden states of a [`TokensRequest`].
#[derive(Debug, Clone, PartialEq)]
pub struct TokensAnswer {
    /// `[n_inputs][n_tokens][width]`, special tokens included.
    pub rows: Vec<Vec<Vec<f32>>>,
    /// What it took.
    pub timings: Timings,
}

/// What a request took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// Characters of all texts (0 for token ids).
    pub n_chars: usize,
    /// Tokens of all inputs, special tokens included, after truncation; also of inputs answered
    /// from the cache.
    pub n_tokens: usize,
    /// From the call to the answer.
    pub total: Duration,
    /// Tokenising, the mean over the inputs.
    pub tokenization: Duration,
    /// Waiting for a batch, the mean over the inputs (0 for a cached input).
    pub queue: Duration,
    /// The forward pass, the mean over the inputs (0 for a cached input).
    pub inference: Duration,
}
