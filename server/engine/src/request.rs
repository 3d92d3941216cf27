//! Requests to the engine and its answers.
//!
//! Must not know: wire formats.

use std::time::Duration;

use proxima_models::readout::ScoreFunction;
use proxima_models::{Content, Input, ListwiseTemplate, Prepare};

/// A request to embed inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbedRequest {
    /// One or more inputs, answered in this order.
    pub inputs: Vec<Input>,
    /// Prompt and truncation, the same for all inputs.
    pub prepare: Prepare,
    /// Keep only the first components (Matryoshka); `1..=width`.
    pub dimensions: Option<usize>,
    /// Scale vectors to unit length.
    pub normalize: bool,
}

/// The answer to an [`EmbedRequest`].
#[derive(Debug, Clone, PartialEq)]
pub struct EmbedAnswer {
    /// One vector per input, truncated and normalised as requested.
    pub vectors: Vec<Vec<f32>>,
    /// Counts and timings.
    pub timings: Timings,
}

/// The answer to several [`EmbedRequest`]s that were admitted together.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbedAllAnswer {
    /// One vector per input, for each request in order.
    pub vectors: Vec<Vec<Vec<f32>>>,
    /// Counts and timings of all of them together.
    pub timings: Timings,
}

/// A request for outputs per token: hidden states, vectors for late interaction, or sparse weights.
#[derive(Debug, Clone, PartialEq)]
pub struct TokensRequest {
    /// One or more inputs, answered in this order.
    pub inputs: Vec<Input>,
    /// Prompt and truncation, the same for all inputs.
    pub prepare: Prepare,
}

/// Hidden states, or vectors for late interaction, of the inputs of a [`TokensRequest`].
#[derive(Debug, Clone, PartialEq)]
pub struct TokensAnswer {
    /// `[n_inputs][n_tokens][width]`, special tokens included; vectors for late interaction omit
    /// the first token.
    pub rows: Vec<Vec<Vec<f32>>>,
    /// Counts and timings.
    pub timings: Timings,
}

/// The sparse weights of the inputs of a [`TokensRequest`].
#[derive(Debug, Clone, PartialEq)]
pub struct SparseAnswer {
    /// For each input, the token ids with a weight above zero as `(id, weight)`, by ascending id.
    pub weights: Vec<Vec<(u32, f32)>>,
    /// Counts and timings.
    pub timings: Timings,
}

/// A request to classify texts or pairs of texts.
#[derive(Debug, Clone, PartialEq)]
pub struct PredictRequest {
    /// One or more inputs, answered in this order.
    pub inputs: Vec<Input>,
    /// Truncation, the same for all inputs.
    pub prepare: Prepare,
}

/// The answer to a [`PredictRequest`].
#[derive(Debug, Clone, PartialEq)]
pub struct PredictAnswer {
    /// `[n_inputs][n_labels]`, in the order of the model's labels.
    pub logits: Vec<Vec<f32>>,
    /// Counts and timings.
    pub timings: Timings,
}

/// A request to rank documents for a query.
#[derive(Debug, Clone, PartialEq)]
pub struct RerankRequest {
    /// The query.
    pub query: Content,
    /// One or more documents.
    pub documents: Vec<Content>,
    /// Instruction (as prompt) and truncation.
    pub prepare: Prepare,
    /// How to rank; `None` for the model's default method.
    pub method: Option<RerankMethod>,
    /// Options of listwise ranking.
    pub listwise: Listwise,
    /// Vectors of the documents, if the client has them: one per document, or none. They may have
    /// any length (norm) but zero.
    pub document_vectors: Vec<Vec<f32>>,
    /// How logits become scores.
    pub scores: ScoreForm,
}

/// How the logits of pointwise ranking become scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ScoreForm {
    /// A probability, by the sigmoid.
    #[default]
    Probability,
    /// The function that the checkpoint's files specify, or the sigmoid if they specify none.
    Checkpoint,
}

/// Similarities of pairs of texts.
#[derive(Debug, Clone, PartialEq)]
pub struct SimilaritiesAnswer {
    /// One per pair, in order.
    pub values: Vec<f32>,
    /// Counts and timings.
    pub timings: Timings,
}

impl RerankRequest {
    /// A request with a query, documents and default options.
    pub fn new(query: impl Into<Content>, documents: Vec<Content>) -> Self {
        Self {
            query: query.into(),
            documents,
            prepare: Prepare::default(),
            method: None,
            listwise: Listwise::default(),
            document_vectors: Vec::new(),
            scores: ScoreForm::default(),
        }
    }
}

/// How documents are ranked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RerankMethod {
    /// Each document is scored together with the query.
    Pointwise,
    /// A pseudo-query of the query and the first candidates is embedded and compared with each
    /// document's vector (E2Rank), or by reading whole lists (jina-reranker-v3).
    Listwise,
    /// The query's vector is compared with each document's.
    Similarity,
    /// Each of the query's token vectors is compared with the nearest of the document's (late
    /// interaction).
    MaxSim,
}

impl RerankMethod {
    /// Its name in external formats.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pointwise => "pointwise",
            Self::Listwise => "listwise",
            Self::Similarity => "similarity",
            Self::MaxSim => "maxsim",
        }
    }
}

/// Options of listwise ranking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listwise {
    /// Number of candidates in the pseudo-query: the first ones, or those of a window.
    pub candidates: usize,
    /// Rank in windows of `candidates`, from last to first, moving by this many documents. `None`
    /// ranks without windows.
    pub step: Option<usize>,
    /// Number of passes. Each starts from the order of the one before.
    pub passes: usize,
    /// The template that combines query and candidates.
    pub template: ListwiseTemplate,
}

impl Default for Listwise {
    /// As published: one pass, the first 20 candidates.
    fn default() -> Self {
        Self { candidates: 20, step: None, passes: 1, template: ListwiseTemplate::Paper }
    }
}

/// The answer to a [`RerankRequest`].
#[derive(Debug, Clone, PartialEq)]
pub struct RerankAnswer {
    /// One logit (pointwise) or similarity per document, in the order of the documents. Finite.
    pub raw: Vec<f32>,
    /// The function that turns a logit into a score (pointwise only).
    pub function: ScoreFunction,
    /// Indices of the documents, best first; ties keep their order.
    pub order: Vec<usize>,
    /// The method used.
    pub method: RerankMethod,
    /// Counts and timings.
    pub timings: Timings,
}

impl RerankAnswer {
    /// The score of a document: what `function` makes of its logit (pointwise), or its similarity.
    pub fn score(&self, document: usize) -> f32 {
        match self.method {
            RerankMethod::Pointwise => self.function.apply(&self.raw[document..=document])[0],
            RerankMethod::Listwise | RerankMethod::Similarity | RerankMethod::MaxSim => {
                self.raw[document]
            }
        }
    }
}

/// Counts and timings of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// Characters of all texts (0 for token ids).
    pub n_chars: usize,
    /// Tokens of all inputs after truncation, including special tokens and inputs answered from the
    /// cache.
    pub n_tokens: usize,
    /// Inputs that exceeded their limit and were cut.
    pub n_cut: usize,
    /// Time from the call to the answer.
    pub total: Duration,
    /// Tokenisation, including the wait for a thread; the mean over the inputs.
    pub tokenization: Duration,
    /// The wait for a thread alone; the mean over the inputs.
    pub tokenizer_wait: Duration,
    /// The wait for a batch; the mean over the inputs (0 for a cached input).
    pub queue: Duration,
    /// The forward pass and readout; the mean over the inputs (0 for a cached input).
    pub inference: Duration,
}
