//! How large an answer will be, before it is computed: room for it is reserved first.
//!
//! Must not know: any dialect's bodies.

use proxima_engine::{EmbedRequest, Engine, PredictRequest, RerankRequest, TokensRequest};
use proxima_models::{Content, Input};

/// Bytes of a component written as JSON: sign, up to nine digits, point, exponent, comma.
const COMPONENT_BYTES: usize = 14;
/// Bytes of a word's weight, with its id and the keys of both.
const WEIGHT_BYTES: usize = 48;
/// Words of an input that have a weight: learned models expand a text to some hundreds.
const WEIGHTS_OF_AN_INPUT: usize = 256;
/// Bytes of a score, with its index, its label and the keys of all.
const SCORE_BYTES: usize = 96;
/// Bytes of a token with its id, place and text, for a byte of text: tokens have four of these.
const TOKEN_BYTES_OF_A_BYTE: usize = 24;
/// Bytes of the text of a token.
const TEXT_BYTES_OF_A_TOKEN: usize = 8;
/// Components of a hidden state where a model does not tell.
const WIDTH: usize = 1_024;

/// What an answer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerSize {
    /// Vectors: so many, of so many components if that is not the model's width.
    Vectors(usize, Option<usize>),
    /// A vector for each of so many tokens of inputs, about, each input no longer than the model
    /// takes: inputs and bytes of their texts.
    TokenVectors(usize, usize),
    /// Weights of the words of so many inputs.
    Words(usize),
    /// A score for each label of so many inputs.
    Scores(usize),
    /// Bytes that follow from the request alone.
    Bytes(usize),
}

impl AnswerSize {
    /// Of vectors.
    pub fn embed(request: &EmbedRequest) -> Self {
        Self::Vectors(request.inputs.len(), request.dimensions)
    }

    /// Of a vector a token.
    pub fn tokens(request: &TokensRequest) -> Self {
        let bytes = request.inputs.iter().map(Input::bytes).sum();
        Self::TokenVectors(request.inputs.len(), bytes)
    }

    /// Of weights of words.
    pub fn sparse(request: &TokensRequest) -> Self {
        Self::Words(request.inputs.len())
    }

    /// Of a ranking, with the documents if they are to be returned.
    pub fn rerank(request: &RerankRequest) -> Self {
        let texts: usize = request.documents.iter().map(Content::bytes).sum();
        Self::Bytes(request.documents.len() * SCORE_BYTES + texts)
    }

    /// Of classes.
    pub fn predict(request: &PredictRequest) -> Self {
        Self::Scores(request.inputs.len())
    }

    /// Of tokens.
    pub fn tokenize(texts: &[String]) -> Self {
        let bytes: usize = texts.iter().map(String::len).sum();
        Self::Bytes(bytes.saturating_mul(TOKEN_BYTES_OF_A_BYTE))
    }

    /// Of texts of tokens.
    pub fn decode(ids: &[Vec<u32>]) -> Self {
        Self::Bytes(ids.iter().map(|ids| ids.len() * TEXT_BYTES_OF_A_TOKEN).sum())
    }

    /// Bytes, about, of the answer of this engine. Inputs beyond its limit do not count: it refuses
    /// a request with more, and says so.
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
