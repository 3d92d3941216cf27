//! Bodies of Jina's rerank and embeddings APIs and Cohere's v1 rerank, with Proxima's additions.

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::dialects::items::{ItemObject, Object};
use crate::dialects::misspelt;
use crate::dialects::ranking::{Document, Documents, ranking_body};
use crate::dialects::{Inputs, Side};
use crate::encoding::EncodedVector;
pub use crate::encoding::OutputEncoding as EmbeddingType;

crate::dialects::object::objects! {
    RerankBody: &misspelt::RERANK,
    EmbeddingsBody: &misspelt::JINA,
}

ranking_body! {
    /// `POST /v1/rerank`
    #[derive(Debug, Deserialize, ToSchema)]
    #[serde(remote = "Self")]
    #[schema(as = JinaRerankBody)]
    pub struct RerankBody {
        /// The query.
        pub query: Document,
        /// The documents; a single object is one document.
        pub documents: Documents,
        /// The served name of a model; the default model if absent.
        pub model: Option<String>,
        /// Return only the best ones; all if absent or 0.
        pub top_n: Option<usize>,
        /// Return the documents; on if absent, unless the body has keys of Cohere.
        pub return_documents: Option<bool>,
        /// Cohere: the fields of documents that are objects.
        pub rank_fields: Option<Vec<String>>,
        /// Cohere: accepted without effect, as documents are not split.
        #[schema(value_type = Option<usize>)]
        pub max_chunks_per_doc: Option<IgnoredAny>,
        /// Number of tokens of each document that are used.
        #[schema(minimum = 1)]
        pub max_tokens_per_doc: Option<usize>,
        /// Addition: return logits instead of probabilities.
        pub raw_scores: Option<bool>,
        /// Addition: truncate documents that are too long (`true`) or refuse them (`false`).
        #[serde(alias = "truncation")]
        pub truncate: Option<bool>,
    }
}

/// The response to a rerank request.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JinaRerankResults)]
pub struct RerankResults {
    /// Id of this response.
    pub id: String,
    /// The served name of the model.
    pub model: String,
    /// `list`
    pub object: &'static str,
    /// Addition: how documents were ranked: `pointwise`, `listwise` or `similarity`.
    pub method: &'static str,
    /// Tokens.
    pub usage: Usage,
    /// As in Cohere's API.
    pub meta: Meta,
    /// Best first; of equal ones the earlier first.
    pub results: Vec<ResultEntry>,
}

/// A ranked document.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JinaResult)]
pub struct ResultEntry {
    /// Its index in the request.
    pub index: usize,
    /// Its score.
    pub relevance_score: f32,
    /// The document, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ItemObject>)]
    pub document: Option<Object>,
}

/// Tokens of a request.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JinaUsage)]
pub struct Usage {
    /// Tokens of all sequences, special tokens included.
    pub total_tokens: usize,
    /// The same.
    pub prompt_tokens: usize,
}

/// As in Cohere's API.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JinaMeta)]
pub struct Meta {
    /// Which version answered.
    pub api_version: ApiVersion,
    /// Billed units.
    pub billed_units: BilledUnits,
}

/// A version.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JinaApiVersion)]
pub struct ApiVersion {
    /// `1` or `2`
    pub version: &'static str,
}

/// Billed units.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JinaBilledUnits)]
pub struct BilledUnits {
    /// Always 1.
    pub search_units: usize,
}

/// `POST /v1/embeddings` with keys of Jina.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(remote = "Self")]
#[schema(as = JinaEmbeddingsBody)]
pub struct EmbeddingsBody {
    /// What to embed.
    pub input: Inputs,
    /// The served name of a model.
    pub model: Option<String>,
    /// What texts are for; selects the checkpoint's prompt of this name, if it has one.
    pub task: Option<String>,
    /// Keep only the first components.
    #[schema(minimum = 1)]
    pub dimensions: Option<usize>,
    /// Scale vectors to length one; on if absent.
    #[serde(alias = "normalize")]
    pub normalized: Option<bool>,
    /// Encoding of the vectors.
    #[serde(alias = "encoding_type", alias = "encoding_format")]
    pub embedding_type: Option<written::OneOrMore<EmbeddingType>>,
    /// Must be off.
    pub late_chunking: Option<bool>,
    /// One vector per token, for models that support it.
    pub return_multivector: Option<bool>,
    /// Truncate inputs that are too long (`true`) or refuse them (`false`).
    pub truncate: Option<bool>,
    /// Addition: a free-form instruction, put before each text in the model's own template.
    pub instruction: Option<String>,
    /// Addition: a prompt of the checkpoint, by name.
    pub prompt_name: Option<String>,
    /// Addition: which end of an overlong input is cut.
    pub truncation_direction: Option<Side>,
}

/// Values that may be given singly or as a list.
pub mod written {
    use serde::Deserialize;
    use utoipa::ToSchema;

    /// One or several.
    #[derive(Debug, Deserialize, ToSchema)]
    #[serde(untagged, expecting = "expected a type of embeddings or a list of one")]
    pub enum OneOrMore<T> {
        /// One.
        One(T),
        /// Several.
        More(Vec<T>),
    }
}

/// The response to an embeddings request.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JinaEmbeddingsAnswer)]
pub struct EmbeddingsAnswer<E> {
    /// The served name of the model.
    pub model: String,
    /// `list`
    pub object: &'static str,
    /// Tokens.
    pub usage: Usage,
    /// One entry per input, in order.
    pub data: Vec<E>,
}

/// One vector.
#[derive(Debug, Serialize, ToSchema)]
pub struct JinaEntry {
    /// `embedding`
    pub object: &'static str,
    /// Index of its input.
    pub index: usize,
    /// The vector.
    pub embedding: EncodedVector,
}

/// The vectors of one input's tokens.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JinaTokensEntry)]
pub struct TokensEntry {
    /// `embeddings`
    pub object: &'static str,
    /// Index of its input.
    pub index: usize,
    /// One vector per token.
    pub embeddings: Vec<Vec<f32>>,
}

/// An error.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JinaErrorBody)]
pub struct ErrorBody {
    /// The message.
    pub detail: String,
    /// The same, for clients of Cohere.
    pub message: String,
}
