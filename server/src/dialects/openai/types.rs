//! Bodies of OpenAI's embeddings API, with Proxima's additions.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::dialects::inputs::PromptTokens;
use crate::dialects::misspelt;
use crate::dialects::{Inputs, Side};
use crate::encoding::{EncodedVector, OutputEncoding};

crate::dialects::object::objects! {
    EmbeddingsBody: &misspelt::OPENAI,
}

/// `POST /v1/embeddings`
#[derive(Debug, Deserialize, ToSchema)]
#[serde(remote = "Self")]
pub struct EmbeddingsBody {
    /// What to embed.
    pub input: Inputs,
    /// The served name of a model; the default model if absent.
    pub model: Option<String>,
    /// Encoding of the vectors.
    pub encoding_format: Option<OutputEncoding>,
    /// Keep only the first components (Matryoshka), then normalise again.
    #[schema(minimum = 1)]
    pub dimensions: Option<usize>,
    /// Addition: a free-form instruction, put before each text in the model's own template.
    pub instruction: Option<String>,
    /// Addition: a prompt of the checkpoint, by name.
    pub prompt_name: Option<String>,
    /// Addition: truncate inputs longer than the model's limit (`true`) or refuse them (`false`);
    /// the server's setting if absent.
    pub truncate: Option<bool>,
    /// Addition: which end is cut.
    #[serde(alias = "truncation_side")]
    pub truncation_direction: Option<Side>,
    /// Addition: scale vectors to length one; on if absent.
    #[serde(alias = "use_activation")]
    pub normalize: Option<bool>,
    /// vLLM: number of tokens of each input that are used; -1 for the model's limit.
    pub truncate_prompt_tokens: Option<PromptTokens>,
}

/// The response to an embeddings request.
#[derive(Debug, Serialize, ToSchema)]
pub struct EmbeddingsAnswer {
    /// `list`
    pub object: &'static str,
    /// One entry per input, in order.
    pub data: Vec<EmbeddingEntry>,
    /// The served name of the model.
    pub model: String,
    /// Tokens.
    pub usage: Usage,
}

/// One vector.
#[derive(Debug, Serialize, ToSchema)]
pub struct EmbeddingEntry {
    /// `embedding`
    pub object: &'static str,
    /// Index of its input.
    pub index: usize,
    /// The vector, in the requested encoding.
    pub embedding: EncodedVector,
}

/// Tokens of a request.
#[derive(Debug, Serialize, ToSchema)]
pub struct Usage {
    /// Tokens of all inputs, special tokens included.
    pub prompt_tokens: usize,
    /// The same.
    pub total_tokens: usize,
}

/// `GET /v1/models`
#[derive(Debug, Serialize, ToSchema)]
pub struct ModelsAnswer {
    /// `list`
    pub object: &'static str,
    /// The served models, the default first.
    pub data: Vec<ModelEntry>,
}

/// One model.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModelEntry {
    /// Its served name.
    pub id: String,
    /// `model`
    pub object: &'static str,
    /// When it was loaded, in seconds since 1970.
    pub created: u64,
    /// `proxima`
    pub owned_by: &'static str,
    /// Addition: longest input in tokens.
    pub max_model_len: usize,
    /// Addition: components of a vector.
    #[schema(minimum = 1)]
    pub dimensions: Option<usize>,
}

/// An error.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OpenAiErrorBody)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorEntry,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OpenAiErrorEntry)]
pub struct ErrorEntry {
    /// The message.
    pub message: String,
    /// Who caused it.
    pub r#type: &'static str,
    /// The invalid field.
    pub param: Option<&'static str>,
    /// A machine-readable code.
    pub code: Option<&'static str>,
}
