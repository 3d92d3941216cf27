//! What the engine is asked and what it answers.
//!
//! Must not know: wire formats.

use std::time::Duration;

use proxima_models::readout::ScoreFunction;
use proxima_models::{Content, Input, ListwiseTemplate, Prepare};

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

/// The vectors of several [`EmbedRequest`]s that were admitted together.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbedAllAnswer {
    /// One vector an input, for each request in order.
    pub vectors: Vec<Vec<Vec<f32>>>,
    /// What they took together.
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

/// The weights of words of a [`TokensRequest`]'s inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct SparseAnswer {
    /// `(id, weight)` of the words with a weight, by ascending id, an input each.
    pub weights: Vec<Vec<(u32, f32)>>,
    /// What it took.
    pub timings: Timings,
}

/// Classes wanted of some texts or pairs of texts.
#[derive(Debug, Clone, PartialEq)]
pub struct PredictRequest {
    /// One or more inputs; answered in this order.
    pub inputs: Vec<Input>,
    /// Truncation, the same for all inputs.
    pub prepare: Prepare,
}

/// The logits of a [`PredictRequest`].
#[derive(Debug, Clone, PartialEq)]
pub struct PredictAnswer {
    /// `[n_inputs][n_labels]`, in the order of the model's labels.
    pub logits: Vec<Vec<f32>>,
    /// What it took.
    pub timings: Timings,
}

/// Documents to be ranked for a query.
#[derive(Debug, Clone, PartialEq)]
pub struct RerankRequest {
    /// The query.
    pub query: Content,
    /// One or more documents.
    pub documents: Vec<Content>,
    /// Instruction (as prompt) and truncation.
    pub prepare: Prepare,
    /// How to rank; `None` takes the model's own way.
    pub method: Option<RerankMethod>,
    /// How a listwise model sees the candidates.
    pub listwise: Listwise,
    /// Vectors of the documents, if the client has them: as many as documents, or none. Any length
    /// but zero.
    pub document_vectors: Vec<Vec<f32>>,
    /// What logits go through to be scores.
    pub scores: ScoreForm,
}

/// What the logits of a pointwise ranking go through to be scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ScoreForm {
    /// A probability: the sigmoid.
    #[default]
    Probability,
    /// The function that the checkpoint's files ask for.
    Checkpoint,
}

/// Similarities of pairs of texts.
#[derive(Debug, Clone, PartialEq)]
pub struct SimilaritiesAnswer {
    /// One for each pair, in order.
    pub values: Vec<f32>,
    /// What they took.
    pub timings: Timings,
}

impl RerankRequest {
    /// A request with nothing but query and documents.
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
    /// Each is scored with the query.
    Pointwise,
    /// Query and first candidates make a vector, which is compared with each document's (E2Rank).
    Listwise,
    /// The query's vector is compared with each document's.
    Similarity,
    /// Each of the query's token vectors with the nearest of the document's (late interaction).
    MaxSim,
}

impl RerankMethod {
    /// Its name in outside formats.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pointwise => "pointwise",
            Self::Listwise => "listwise",
            Self::Similarity => "similarity",
            Self::MaxSim => "maxsim",
        }
    }
}

/// How a listwise model sees the candidates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listwise {
    /// Candidates that go into the pseudo-query: the first ones, or those of a window.
    pub candidates: usize,
    /// Rank in windows of `candidates` from the back to the front, this many documents apart.
    pub step: Option<usize>,
    /// How often: each pass begins with the order of the one before.
    pub passes: usize,
    /// How query and candidates are put together.
    pub template: ListwiseTemplate,
}

impl Default for Listwise {
    /// As published: one pass, the first 20 candidates.
    fn default() -> Self {
        Self { candidates: 20, step: None, passes: 1, template: ListwiseTemplate::Paper }
    }
}

/// The scores of a [`RerankRequest`].
#[derive(Debug, Clone, PartialEq)]
pub struct RerankAnswer {
    /// A logit (pointwise) or similarity a document, in the order of the documents. Finite.
    pub raw: Vec<f32>,
    /// What a logit goes through to be a score.
    pub function: ScoreFunction,
    /// Places of the documents, the best first; of equal ones the earlier first.
    pub order: Vec<usize>,
    /// How they were ranked.
    pub method: RerankMethod,
    /// What it took.
    pub timings: Timings,
}

impl RerankAnswer {
    /// The score of a document: what its logit becomes, or its similarity.
    pub fn score(&self, document: usize) -> f32 {
        match self.method {
            RerankMethod::Pointwise => self.function.apply(&self.raw[document..=document])[0],
            RerankMethod::Listwise | RerankMethod::Similarity | RerankMethod::MaxSim => {
                self.raw[document]
            }
        }
    }
}

/// What a request took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// Characters of all texts (0 for token ids).
    pub n_chars: usize,
    /// Tokens of all inputs, special tokens included, after truncation; also of inputs answered
    /// from the cache.
    pub n_tokens: usize,
    /// Inputs that were longer than their limit, and were cut.
    pub n_cut: usize,
    /// From the call to the answer.
    pub total: Duration,
    /// Tokenising, the wait for a thread that does it included; the mean over the inputs.
    pub tokenization: Duration,
    /// Of this the wait for a thread.
    pub tokenizer_wait: Duration,
    /// Waiting for a batch, the mean over the inputs (0 for a cached input).
    pub queue: Duration,
    /// The forward pass, the mean over the inputs (0 for a cached input).
    pub inference: Duration,
}
