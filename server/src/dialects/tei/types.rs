//! Bodies of text-embeddings-inference 1.9, with Proxima's additions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::dialects::misspelt;
use crate::dialects::ranking::{Document, Scores, ranking_body};
use crate::dialects::{Inputs, Side};
use crate::encoding::{EncodedVector, OutputEncoding};

crate::dialects::object::objects! {
    EmbedBody: &misspelt::TEI,
    EmbedAllBody: &misspelt::TEI,
    RerankBody: &misspelt::TEI_RERANK,
    PredictBody: &misspelt::TEI,
    SimilarityBody: &misspelt::TEI,
    SimilarityInputs: &misspelt::NONE,
    SimilarityParameters: &misspelt::NONE,
    TokenizeBody: &misspelt::TEI,
    DecodeBody: &misspelt::NONE,
    VertexBody: &misspelt::VERTEX,
}

/// `POST /embed`
#[derive(Debug, Deserialize, ToSchema)]
#[serde(remote = "Self")]
pub struct EmbedBody {
    /// What to embed.
    pub inputs: Inputs,
    /// Truncate inputs longer than the model's limit (`true`) or refuse them (`false`); the
    /// server's setting if absent.
    pub truncate: Option<bool>,
    /// Which end is cut.
    pub truncation_direction: Option<Side>,
    /// A prompt of the checkpoint, by name.
    pub prompt_name: Option<String>,
    /// Scale vectors to length one; on if absent.
    pub normalize: Option<bool>,
    /// Keep only the first components (Matryoshka), then normalise again.
    #[schema(minimum = 1)]
    pub dimensions: Option<usize>,
    /// Addition: a free-form instruction, put before each text in the model's own template.
    pub instruction: Option<String>,
    /// Addition: what inputs are for, such as `query` or `document`; selects the checkpoint's
    /// prompt for it.
    pub input_type: Option<String>,
    /// Addition: encoding of the vectors.
    pub encoding_format: Option<OutputEncoding>,
    /// Addition: the served name of a model; the default model if absent.
    pub model: Option<String>,
}

/// `POST /embed_all`
#[derive(Debug, Deserialize, ToSchema)]
#[serde(remote = "Self")]
pub struct EmbedAllBody {
    /// What to embed.
    pub inputs: Inputs,
    /// As for `/embed`.
    pub truncate: Option<bool>,
    /// Which end is cut.
    pub truncation_direction: Option<Side>,
    /// A prompt of the checkpoint, by name.
    pub prompt_name: Option<String>,
    /// Addition: a free-form instruction.
    pub instruction: Option<String>,
    /// Addition: what inputs are for, as for `/embed`.
    pub input_type: Option<String>,
    /// Addition: the served name of a model.
    pub model: Option<String>,
}

/// The weight of a word.
#[derive(Debug, Serialize, ToSchema)]
pub struct SparseValue {
    /// The word's id in the vocabulary.
    pub index: u32,
    /// Its weight, above zero.
    pub value: f32,
}

ranking_body! {
    /// `POST /rerank`
    #[derive(Debug, Deserialize, ToSchema)]
    #[serde(remote = "Self")]
    #[schema(as = TeiRerankBody)]
    pub struct RerankBody {
        /// The query.
        pub query: Document,
        /// The texts, or objects with images and videos.
        #[schema(min_items = 1)]
        pub texts: Vec<Document>,
        /// Truncate texts that are too long (`true`) or refuse them (`false`); the server's setting
        /// if absent.
        pub truncate: Option<bool>,
        /// Return logits instead of probabilities.
        pub raw_scores: Option<bool>,
        /// Return the texts.
        #[serde(alias = "return_documents")]
        pub return_text: Option<bool>,
        /// Addition: return only the best ones; all if absent.
        pub top_n: Option<usize>,
        /// Addition: number of tokens of each text that are used.
        #[schema(minimum = 1)]
        pub max_tokens_per_doc: Option<usize>,
        /// Addition: the served name of a model.
        pub model: Option<String>,
    }
}

/// The response to a rerank request, the best text first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TeiRanks)]
pub struct Ranks(pub Vec<Rank>);

/// A ranked text.
#[derive(Debug, Serialize, ToSchema)]
pub struct Rank {
    /// Its index in the request.
    pub index: usize,
    /// The text, if asked for; absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Its score.
    pub score: f32,
}

/// `POST /predict`
#[derive(Debug, Deserialize, ToSchema)]
#[serde(remote = "Self")]
pub struct PredictBody {
    /// What to classify.
    pub inputs: PredictInputs,
    /// As for `/rerank`.
    pub truncate: Option<bool>,
    /// Which end is cut.
    pub truncation_direction: Option<Side>,
    /// Return logits instead of probabilities.
    pub raw_scores: Option<bool>,
    /// Addition: `checkpoint` gives the scores of sentence-transformers' CrossEncoder instead of
    /// those of transformers' classification pipeline.
    pub scores: Option<Scores>,
    /// Addition: the served name of a model.
    pub model: Option<String>,
}

/// A text, a pair of texts, or a list of lists of one text or two.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a string, a pair of strings, or a list of lists of one or two strings"
)]
pub enum PredictInputs {
    /// A text.
    Text(String),
    /// A pair (or, with one string, a text).
    Pair(Vec<String>),
    /// Several.
    Batch(Vec<Vec<String>>),
}

/// A class.
#[derive(Debug, Serialize, ToSchema)]
pub struct Prediction {
    /// Its probability, or its logit.
    pub score: f32,
    /// Its name.
    pub label: String,
}

/// The classes of one input or of several.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Predictions {
    /// Of one, the most probable first.
    One(Vec<Prediction>),
    /// Of several, in order.
    Batch(Vec<Vec<Prediction>>),
}

/// `POST /similarity`
#[derive(Debug, Deserialize, ToSchema)]
#[serde(remote = "Self")]
pub struct SimilarityBody {
    /// What to compare.
    pub inputs: SimilarityInputs,
    /// How to embed it.
    #[serde(default)]
    pub parameters: SimilarityParameters,
    /// Addition: the served name of a model.
    pub model: Option<String>,
}

/// One sentence and those it is compared with.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(remote = "Self")]
pub struct SimilarityInputs {
    /// The sentence to compare.
    pub source_sentence: String,
    /// The sentences it is compared with.
    #[schema(min_items = 1)]
    pub sentences: Vec<String>,
}

/// How sentences are embedded.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(remote = "Self")]
pub struct SimilarityParameters {
    /// As for `/embed`.
    pub truncate: Option<bool>,
    /// Which end is cut.
    pub truncation_direction: Option<Side>,
    /// A prompt of the checkpoint, by name.
    pub prompt_name: Option<String>,
}

/// One text or several.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
pub enum Texts {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

/// `POST /tokenize`
#[derive(Debug, Deserialize, ToSchema)]
#[serde(remote = "Self")]
pub struct TokenizeBody {
    /// What to tokenise.
    pub inputs: Texts,
    /// Add the template's special tokens; on if absent.
    pub add_special_tokens: Option<bool>,
    /// A prompt of the checkpoint, by name.
    pub prompt_name: Option<String>,
    /// Addition: the served name of a model.
    pub model: Option<String>,
}

/// One token.
#[derive(Debug, Serialize, ToSchema)]
pub struct TokenEntry {
    /// Its id.
    pub id: u32,
    /// The text it stands for.
    pub text: String,
    /// Added by the template.
    pub special: bool,
    /// Where it starts, in characters.
    pub start: Option<usize>,
    /// Where it ends, in characters.
    pub stop: Option<usize>,
}

/// Token ids of one text or several.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a list of token ids or a list of such lists")]
pub enum Ids {
    /// One.
    One(Vec<u32>),
    /// Several.
    Many(Vec<Vec<u32>>),
}

/// `POST /decode`
#[derive(Debug, Deserialize, ToSchema)]
#[serde(remote = "Self")]
pub struct DecodeBody {
    /// What to decode.
    pub ids: Ids,
    /// Leave special tokens out; on if absent.
    pub skip_special_tokens: Option<bool>,
    /// Addition: the served name of a model.
    pub model: Option<String>,
}

/// `POST /vertex`
#[derive(Debug, Deserialize, ToSchema)]
#[serde(remote = "Self")]
pub struct VertexBody {
    /// Bodies of `/embed`.
    #[schema(min_items = 1)]
    pub instances: Vec<EmbedBody>,
}

/// The response to a Vertex AI request.
#[derive(Debug, Serialize, ToSchema)]
pub struct VertexAnswer {
    /// Answers of `/embed`.
    pub predictions: Vec<Vec<EncodedVector>>,
}

/// `GET /info`
#[derive(Debug, Serialize, ToSchema)]
pub struct InfoAnswer {
    /// The served name of the model.
    pub model_id: String,
    /// Unknown: `null`.
    pub model_sha: Option<String>,
    /// Precision of the weights.
    pub model_dtype: String,
    /// The same as `model_id`.
    pub served_model_name: String,
    /// `{"embedding": {"pooling": ..}}`, or `reranker` or `classifier` with their labels.
    pub model_type: BTreeMap<&'static str, BTreeMap<&'static str, serde_json::Value>>,
    /// Maximum concurrent requests.
    pub max_concurrent_requests: usize,
    /// Longest input in tokens.
    pub max_input_length: usize,
    /// Maximum tokens per batch.
    pub max_batch_tokens: usize,
    /// `null`: no limit.
    pub max_batch_requests: Option<usize>,
    /// Maximum inputs per request.
    pub max_client_batch_size: usize,
    /// Whether overlong inputs are truncated unless a request says otherwise.
    pub auto_truncate: bool,
    /// Tokenizer threads.
    pub tokenization_workers: usize,
    /// Proxima's version.
    pub version: &'static str,
    /// Unknown: `null`.
    pub sha: Option<&'static str>,
    /// Unknown: `null`.
    pub docker_label: Option<&'static str>,
    /// Addition: how vectors are compared by `/similarity` and in ranking by similarity.
    pub similarity_fn_name: &'static str,
    /// Addition: the functions from logits to scores, for a model that has any.
    pub scores: Option<ScoresInfo>,
    /// Addition: unknown keys of the checkpoint's files, and unused tensors.
    pub warnings: Vec<String>,
}

/// The functions from logits to scores: `identity`, `sigmoid`, `softmax` or `tanh`.
#[derive(Debug, Serialize, ToSchema)]
pub struct ScoresInfo {
    /// In `/predict`.
    pub predict: &'static str,
    /// If a request sets `"scores": "checkpoint"`.
    pub checkpoint: &'static str,
}

/// An error.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TeiErrorBody)]
pub struct ErrorBody {
    /// The message.
    pub error: String,
    /// What kind of error it is.
    pub error_type: &'static str,
}
