//! Estimates the size of a response before it is computed, so that its bytes can be reserved.
//!
//! Must not know: any dialect's bodies.

use proxima_engine::{EmbedRequest, Engine, PredictRequest, RerankRequest, TokensRequest};
use proxima_models::{Content, Input};

/// Bytes of a component written as JSON: sign, up to nine digits, point, exponent, comma.
const COMPONENT_BYTES: usize = 14;
/// Bytes of a term weight, with its id and both keys.
const WEIGHT_BYTES: usize = 48;
/// Weighted terms of an input: learned sparse models expand a text to some hundreds.
const WEIGHTS_OF_AN_INPUT: usize = 256;
/// Bytes of a score, with its index, its label and all their keys.
const SCORE_BYTES: usize = 96;
/// Bytes of a token with its id, offsets and text, per byte of text; a token has about four.
const TOKEN_BYTES_OF_A_BYTE: usize = 24;
/// Bytes of text per token.
const TEXT_BYTES_OF_A_TOKEN: usize = 8;
/// Components of a hidden state if a model does not report it.
const WIDTH: usize = 1_024;

/// What a response contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerSize {
    /// Vectors: how many, and of how many components if that is not the model's width.
    Vectors(usize, Option<usize>),
    /// A vector per token: the number of inputs and the bytes of their texts, from which the number
    /// of tokens is estimated; no input has more tokens than the model accepts.
    TokenVectors(usize, usize),
    /// Term weights of this many inputs.
    Words(usize),
    /// A score per label, for this many inputs.
    Scores(usize),
    /// Bytes that follow from the request alone.
    Bytes(usize),
}

impl AnswerSize {
    /// For vectors.
    pub fn embed(request: &EmbedRequest) -> Self {
        Self::Vectors(request.inputs.len(), request.dimensions)
    }

    /// For one vector per token.
    pub fn tokens(request: &TokensRequest) -> Self {
        let bytes = request.inputs.iter().map(Input::bytes).sum();
        Self::TokenVectors(request.inputs.len(), bytes)
    }

    /// For term weights.
    pub fn sparse(request: &TokensRequest) -> Self {
        Self::Words(request.inputs.len())
    }

    /// For a ranking; the documents count too, since they may be returned.
    pub fn rerank(request: &RerankRequest) -> Self {
        let texts: usize = request.documents.iter().map(Content::bytes).sum();
        Self::Bytes(request.documents.len() * SCORE_BYTES + texts)
    }

    /// For classes.
    pub fn predict(request: &PredictRequest) -> Self {
        Self::Scores(request.inputs.len())
    }

    /// For tokens.
    pub fn tokenize(texts: &[String]) -> Self {
        let bytes: usize = texts.iter().map(String::len).sum();
        Self::Bytes(bytes.saturating_mul(TOKEN_BYTES_OF_A_BYTE))
    }

    /// For decoded texts.
    pub fn decode(ids: &[Vec<u32>]) -> Self {
        Self::Bytes(ids.iter().map(|ids| ids.len() * TEXT_BYTES_OF_A_TOKEN).sum())
    }

    /// Approximate bytes of this engine's response. Inputs beyond its limit do not count: it
    /// refuses such a request with an error of its own.
    pub fn bytes(self, engine: &Engine) -> usize {
        let capabilities = &engine.info().capabilities;
        let inputs_max = engine.config().inputs_max;
        let width = capabilities.embedding.unwrap_or(WIDTH);
        match self {
            Self::Vectors(count, dimensions) => {
                let count = count.min(inputs_max);
                count.saturating_mul(dimensions.unwrap_or(width).min(width) * COMPONENT_BYTES)
            }
            Self::TokenVectors(inputs, bytes) => {
                let tokens = engine.tokens_about(inputs.min(inputs_max), bytes);
                tokens.saturating_mul(width * COMPONENT_BYTES)
            }
            Self::Scores(inputs) => {
                let labels = capabilities.labels.as_ref().map_or(1, Vec::len).max(1);
                inputs.min(inputs_max).saturating_mul(labels * SCORE_BYTES)
            }
            Self::Words(inputs) => inputs.min(inputs_max) * (WEIGHTS_OF_AN_INPUT * WEIGHT_BYTES),
            Self::Bytes(bytes) => bytes,
        }
    }
}
