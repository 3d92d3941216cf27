//! Bodies of Weaviate's inference containers.

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::dialects::misspelt;

crate::dialects::object::objects! {
    VectorBody: &misspelt::WEAVIATE,
    VectorConfig: &misspelt::WEAVIATE_CONFIG,
    RerankBody: &misspelt::RERANK,
}

/// `POST /vectors`
#[derive(Debug, Deserialize, ToSchema)]
#[serde(remote = "Self")]
pub struct VectorBody {
    /// A text.
    pub text: Option<String>,
    /// Several texts, instead.
    #[schema(min_items = 1)]
    pub texts: Option<Vec<String>>,
    /// How to embed.
    pub config: Option<VectorConfig>,
}

/// How to embed; tokens are pooled as the checkpoint specifies, whatever `pooling_strategy` says.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(remote = "Self")]
pub struct VectorConfig {
    /// `query` or `passage`; selects the checkpoint's prompt of this name, if it has one.
    pub task_type: Option<String>,
    /// Keep only the first components.
    #[schema(minimum = 1)]
    pub dimensions: Option<usize>,
}

/// The response to a vector request with one text.
#[derive(Debug, Serialize, ToSchema)]
pub struct VectorAnswer {
    /// The text.
    pub text: String,
    /// Components of the vector.
    pub dims: usize,
    /// The vector.
    pub vector: Vec<f32>,
}

/// The response to a vector request with several texts.
#[derive(Debug, Serialize, ToSchema)]
pub struct VectorsAnswer {
    /// Components of a vector.
    pub dims: usize,
    /// One vector per text, in order.
    pub vectors: Vec<Vec<f32>>,
}

/// The response to a vector request.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = WeaviateVectors)]
pub enum TextVectors {
    /// With one text.
    One(VectorAnswer),
    /// With several.
    Several(VectorsAnswer),
}

/// `POST /rerank` with `property`
#[derive(Debug, Deserialize, ToSchema)]
#[serde(remote = "Self")]
#[schema(as = WeaviateRerankBody)]
pub struct RerankBody {
    /// The query.
    pub query: String,
    /// The documents.
    #[schema(min_items = 1)]
    pub documents: Vec<String>,
    /// Where the documents are from: has no effect, but identifies the body as Weaviate's.
    #[schema(value_type = Option<String>)]
    pub property: Option<IgnoredAny>,
}

/// The response to a rerank request.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WeaviateRerankResults)]
pub struct RerankResults {
    /// The query.
    pub query: String,
    /// One entry per document, in order.
    pub scores: Vec<ScoredDocument>,
}

/// A scored document.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WeaviateScore)]
pub struct ScoredDocument {
    /// The document.
    pub document: String,
    /// Its score.
    pub score: f32,
}

/// `GET /meta`
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WeaviateMeta)]
pub struct MetaAnswer {
    /// The served name of the model.
    pub model: String,
    /// Its family.
    pub model_type: String,
}

/// An error.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WeaviateErrorBody)]
pub struct ErrorBody {
    /// The message.
    pub error: String,
}
