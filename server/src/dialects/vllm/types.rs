//! Bodies of vLLM's score and rerank APIs.

use std::fmt;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::embeddings::{ProcessorKwargs, TemplateKwargs};
use crate::dialects::Side;
use crate::dialects::inputs::PromptTokens;
use crate::dialects::items::Object;
use crate::dialects::misspelt;
use crate::dialects::ranking::{Document, DocumentVisitor, Documents, ranking_body};

crate::dialects::object::objects! {
    ScoreBody: &misspelt::SCORE,
    RerankBody: &misspelt::RERANK,
}

/// One text or several.
#[derive(Debug, ToSchema)]
#[serde(untagged)]
pub enum ScoreInput {
    /// Several.
    Several(Vec<Document>),
    /// One.
    One(Document),
}

impl<'de> Deserialize<'de> for ScoreInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScoreVisitor;
        impl<'de> Visitor<'de> for ScoreVisitor {
            type Value = ScoreInput;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, an object with \"content\", or a list of these")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ScoreInput, E> {
                DocumentVisitor.visit_str(text).map(ScoreInput::One)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<ScoreInput, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(ScoreInput::Several)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ScoreInput, A::Error> {
                DocumentVisitor.visit_map(map).map(ScoreInput::One)
            }
        }
        deserializer.deserialize_any(ScoreVisitor)
    }
}

impl From<ScoreInput> for Vec<Document> {
    fn from(input: ScoreInput) -> Self {
        match input {
            ScoreInput::One(one) => vec![one],
            ScoreInput::Several(several) => several,
        }
    }
}

/// `POST /score`
#[derive(Debug, Deserialize, ToSchema)]
#[serde(remote = "Self")]
pub struct ScoreBody {
    /// The served name of a model; the default model if absent.
    pub model: Option<String>,
    /// The first texts: one, or as many as there are second ones.
    #[serde(alias = "text_1", alias = "data_1")]
    pub queries: Option<ScoreInput>,
    /// The second texts.
    #[serde(alias = "text_2", alias = "data_2", alias = "items")]
    pub documents: Option<ScoreInput>,
    /// What makes a document relevant, for models that take an instruction.
    pub instruction: Option<String>,
    /// `instruction`, if not given above; other keys have no effect, as the format is the model's.
    #[serde(default)]
    #[schema(value_type = Option<TemplateKwargs>)]
    pub chat_template_kwargs: TemplateKwargs,
    /// Must be empty: images are resized as the checkpoint's processor does.
    #[serde(default)]
    pub mm_processor_kwargs: ProcessorKwargs,
    /// Number of tokens of each pair that are used; -1 for the model's limit.
    pub truncate_prompt_tokens: Option<PromptTokens>,
    /// Number of tokens of each document that are used; all if absent or 0.
    pub max_tokens_per_doc: Option<usize>,
    /// Number of tokens of each query that are used; all if absent or 0.
    pub max_tokens_per_query: Option<usize>,
    /// Which end is cut.
    #[serde(alias = "truncation_direction")]
    pub truncation_side: Option<Side>,
    /// Return logits if `false`.
    pub use_activation: Option<bool>,
}

impl ScoreBody {
    /// Takes both sides out of the body, if both are given.
    pub fn sides(&mut self) -> Option<(Vec<Document>, Vec<Document>)> {
        Some((self.queries.take()?.into(), self.documents.take()?.into()))
    }
}

/// The response to a score request.
#[derive(Debug, Serialize, ToSchema)]
pub struct ScoreAnswer {
    /// Id of this response.
    pub id: String,
    /// `list`
    pub object: &'static str,
    /// Seconds since 1970.
    pub created: u64,
    /// The served name of the model.
    pub model: String,
    /// One entry per pair, in order.
    pub data: Vec<ScoreEntry>,
    /// Tokens.
    pub usage: Usage,
}

/// One score.
#[derive(Debug, Serialize, ToSchema)]
pub struct ScoreEntry {
    /// Index of its pair.
    pub index: usize,
    /// `score`
    pub object: &'static str,
    /// The score.
    pub score: f32,
}

ranking_body! {
    /// `POST /rerank` with keys of vLLM.
    #[derive(Debug, Deserialize, ToSchema)]
    #[serde(remote = "Self")]
    #[schema(as = VllmRerankBody)]
    pub struct RerankBody {
        /// The query.
        pub query: Document,
        /// The documents; a single object is one document.
        pub documents: Documents,
        /// The served name of a model.
        pub model: Option<String>,
        /// Return only the best ones; all if absent or 0.
        pub top_n: Option<usize>,
        /// Number of tokens of each pair that are used; -1 for the model's limit.
        pub truncate_prompt_tokens: Option<PromptTokens>,
        /// Number of tokens of each document that are used; all if absent or 0.
        pub max_tokens_per_doc: Option<usize>,
        /// Number of tokens of each query that are used; all if absent or 0.
        pub max_tokens_per_query: Option<usize>,
        /// Return logits if `false`.
        pub use_activation: Option<bool>,
        /// `instruction`, if not among Proxima's additions; other keys have no effect.
        #[serde(default)]
        #[schema(value_type = Option<TemplateKwargs>)]
        pub chat_template_kwargs: TemplateKwargs,
        /// Must be empty: images are resized as the checkpoint's processor does.
        #[serde(default)]
        pub mm_processor_kwargs: ProcessorKwargs,
    }
}

/// The response to a rerank request.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = VllmRerankResults)]
pub struct RerankResults {
    /// Id of this response.
    pub id: String,
    /// The served name of the model.
    pub model: String,
    /// Tokens.
    pub usage: Usage,
    /// Best first; of equal ones the earlier first.
    pub results: Vec<ResultEntry>,
    /// Addition: how documents were ranked.
    pub method: &'static str,
}

/// A ranked document.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = VllmResult)]
pub struct ResultEntry {
    /// Its index in the request.
    pub index: usize,
    /// The document: its `text`, or what it has under `multi_modal`.
    #[schema(value_type = serde_json::Map<String, serde_json::Value>)]
    pub document: Object,
    /// Its score.
    pub relevance_score: f32,
}

/// Tokens of a request.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = VllmUsage)]
pub struct Usage {
    /// Tokens of all sequences, special tokens included.
    pub prompt_tokens: usize,
    /// The same.
    pub total_tokens: usize,
}

/// An error.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = VllmErrorBody)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorEntry,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = VllmErrorEntry)]
pub struct ErrorEntry {
    /// The message.
    pub message: String,
    /// Who caused it.
    pub r#type: &'static str,
    /// Unknown: `null`.
    pub param: Option<&'static str>,
    /// The status.
    pub code: u16,
}
