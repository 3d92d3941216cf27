//! Bodies of Voyage's rerank and embeddings APIs, with Proxima's additions.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::dialects::misspelt;
use crate::dialects::ranking::{Document, Documents, ranking_body};
use crate::dialects::{Inputs, Side};
use crate::encoding::{EncodedVector, OutputEncoding};
use crate::http::Failure;

crate::dialects::object::objects! {
    RerankBody: &misspelt::RERANK,
    EmbeddingsBody: &misspelt::VOYAGE,
}

crate::dialects::object::words! { EncodingFormat }

ranking_body! {
    /// `POST /v1/rerank` with `top_k`
    #[derive(Debug, Deserialize, ToSchema)]
    #[serde(remote = "Self")]
    #[schema(as = VoyageRerankBody)]
    pub struct RerankBody {
        /// The query.
        pub query: Document,
        /// The documents; a single object is one document.
        pub documents: Documents,
        /// The served name of a model; the default model if absent.
        pub model: Option<String>,
        /// Return only the best ones; all if null.
        pub top_k: Option<usize>,
        /// The same, as other dialects call it.
        pub top_n: Option<usize>,
        /// Return the documents.
        pub return_documents: Option<bool>,
        /// Truncate documents that are too long (on if absent) or refuse them.
        pub truncation: Option<bool>,
        /// Addition: return logits instead of probabilities.
        pub raw_scores: Option<bool>,
    }
}

impl RerankBody {
    /// Maximum number of documents to return.
    ///
    /// # Errors
    /// Both keys are given, and differ.
    pub fn limit(&self) -> Result<Option<usize>, Failure> {
        match (self.top_k, self.top_n) {
            (Some(top_k), Some(top_n)) if top_k != top_n => {
                Err(Failure::body("send either \"top_k\" or \"top_n\", not both"))
            }
            (top_k, top_n) => Ok(top_k.or(top_n)),
        }
    }
}

/// The response to a rerank request.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = VoyageRerankResults)]
pub struct RerankResults {
    /// `list`
    pub object: &'static str,
    /// Best first; of equal ones the earlier first.
    pub data: Vec<ResultEntry>,
    /// The served name of the model.
    pub model: String,
    /// Tokens.
    pub usage: Usage,
    /// Addition: how documents were ranked.
    pub method: &'static str,
}

/// A ranked document.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = VoyageResult)]
pub struct ResultEntry {
    /// Its index in the request.
    pub index: usize,
    /// Its score.
    pub relevance_score: f32,
    /// The document, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<Document>,
}

/// Tokens of a request.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = VoyageUsage)]
pub struct Usage {
    /// Tokens of all sequences, special tokens included.
    pub total_tokens: usize,
}

/// `POST /v1/embeddings` with keys of Voyage.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(remote = "Self")]
#[schema(as = VoyageEmbeddingsBody)]
pub struct EmbeddingsBody {
    /// What to embed.
    pub input: Inputs,
    /// The served name of a model.
    pub model: Option<String>,
    /// `query` or `document`; selects the checkpoint's prompt of this name, if it has one.
    pub input_type: Option<String>,
    /// Truncate inputs that are too long (on if absent) or refuse them.
    #[serde(alias = "truncate")]
    pub truncation: Option<bool>,
    /// Keep only the first components.
    #[serde(alias = "dimensions")]
    #[schema(minimum = 1)]
    pub output_dimension: Option<usize>,
    /// Type of the numbers.
    pub output_dtype: Option<OutputEncoding>,
    /// `base64`, or lists if absent.
    pub encoding_format: Option<EncodingFormat>,
    /// Addition: a free-form instruction, put before each text in the model's own template.
    pub instruction: Option<String>,
    /// Addition: a prompt of the checkpoint, by name.
    pub prompt_name: Option<String>,
    /// Addition: which end of an overlong input is cut.
    pub truncation_direction: Option<Side>,
    /// Addition: scale vectors to length one; on if absent.
    pub normalize: Option<bool>,
}

/// Encoding of the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[schema(as = VoyageEncodingFormat)]
#[serde(remote = "Self", rename_all = "lowercase")]
pub enum EncodingFormat {
    /// In base64.
    Base64,
}

/// The response to an embeddings request.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = VoyageEmbeddingsAnswer)]
pub struct EmbeddingsAnswer {
    /// `list`
    pub object: &'static str,
    /// One entry per input, in order.
    pub data: Vec<VoyageEntry>,
    /// The served name of the model.
    pub model: String,
    /// Tokens.
    pub usage: Usage,
}

/// One vector.
#[derive(Debug, Serialize, ToSchema)]
pub struct VoyageEntry {
    /// `embedding`
    pub object: &'static str,
    /// The vector.
    pub embedding: EncodedVector,
    /// Index of its input.
    pub index: usize,
}

/// Vectors as entries, in order; as base64 if `packed`.
pub fn entries(vectors: Vec<Vec<f32>>, encoding: OutputEncoding, packed: bool) -> Vec<VoyageEntry> {
    let entries = vectors.into_iter().enumerate().map(|(index, vector)| VoyageEntry {
        object: "embedding",
        embedding: if packed { encoding.packed(vector) } else { encoding.encode(vector) },
        index,
    });
    entries.collect()
}

/// An error.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = VoyageErrorBody)]
pub struct ErrorBody {
    /// The message.
    pub detail: String,
}
