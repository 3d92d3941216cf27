//! What the dialects of reranking share: documents in their forms, Proxima's additions, the ranked
//! places.
//!
//! Must not know: any one dialect.

use std::collections::BTreeMap;

use axum::http::HeaderValue;
use axum::response::Response;
use proxima_engine::{Listwise, RerankAnswer, RerankMethod, RerankRequest};
use proxima_models::{Content, ListwiseTemplate, Prepare, Prompt};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::vectors::SentVectors;
use super::{Side, inputs::prepare};
use crate::http::{Failure, with_timings};

/// A document.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(untagged, expecting = "expected a string or an object with \"text\"")]
pub enum Document {
    /// A text.
    Text(String),
    /// An object with its text under `text`, in the fields that `rank_fields` names, or in
    /// `content` parts.
    Object(BTreeMap<String, Value>),
}

impl Document {
    /// As an object with a `text`, or the object it is.
    pub fn object(&self) -> BTreeMap<String, Value> {
        match self {
            Self::Text(text) => BTreeMap::from([("text".to_owned(), Value::from(text.as_str()))]),
            Self::Object(object) => object.clone(),
        }
    }

    /// Its text; of an object the fields named, a line each, or its `text`.
    ///
    /// # Errors
    /// An object that has neither.
    pub fn text(&self, index: usize, fields: &[String]) -> Result<String, Failure> {
        let object = match self {
            Self::Text(text) => return Ok(text.clone()),
            Self::Object(object) => object,
        };
        let wrong = |what: &str| Failure::Body {
            message: format!("document {index}: {what}"),
            syntax: false,
        };
        if !fields.is_empty() {
            let lines = fields.iter().filter_map(|field| {
                let value = object.get(field)?;
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                Some(format!("{field}: {text}"))
            });
            let lines: Vec<String> = lines.collect();
            if lines.is_empty() {
                return Err(wrong("it has none of the fields that rank_fields names"));
            }
            return Ok(lines.join("\n"));
        }
        if let Some(parts) = object.get("content").and_then(Value::as_array) {
            let texts = parts.iter().map(|part| part.get("text").and_then(Value::as_str));
            let texts: Option<Vec<&str>> = texts.collect();
            return texts
                .map(|texts| texts.join("\n"))
                .ok_or_else(|| wrong("this model takes content parts of type text only"));
        }
        let text = object.get("text").and_then(Value::as_str);
        text.map(str::to_owned).ok_or_else(|| wrong("an object needs a string \"text\""))
    }
}

/// Proxima's additions to every dialect of reranking.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct Additions {
    /// Addition: what makes a document fit, for models that take an instruction.
    #[serde(alias = "instruct")]
    pub instruction: Option<String>,
    /// Addition: how to rank; the model's own way if absent.
    pub method: Option<Method>,
    /// Addition: vectors of the documents, for listwise and similarity ranking: lists of numbers or
    /// base64 of little-endian float32.
    pub document_embeddings: Option<SentVectors>,
    /// Addition: how a listwise model (E2Rank) sees the candidates.
    pub listwise: Option<ListwiseOptions>,
    /// Addition: which end of a too long document is cut.
    pub truncation_direction: Option<Side>,
}

/// How documents are ranked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Each is scored with the query.
    Pointwise,
    /// By a vector of query and candidates (E2Rank).
    Listwise,
    /// By the cosine of vectors.
    Similarity,
    /// By one vector a token (late interaction).
    Maxsim,
}

/// How a listwise model sees the candidates.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ListwiseOptions {
    /// The first candidates that the model sees, or those of a window; 20 if absent.
    pub candidates: Option<usize>,
    /// Rank in windows of `candidates` from the back, this many documents apart; published: 10.
    pub step: Option<usize>,
    /// How often; 1 if absent.
    pub passes: Option<usize>,
    /// `paper` (if absent), `readme`, `training`, or a text with `{documents}` and `{query}`, and
    /// `{instruction}` if wanted.
    pub template: Option<String>,
}

/// The parts of a request that every dialect has in its own way.
#[derive(Debug, Default)]
pub struct Asked {
    /// The query.
    pub query: String,
    /// The documents.
    pub documents: Vec<Document>,
    /// Fields of documents that are objects.
    pub rank_fields: Vec<String>,
    /// Whether too long documents are cut.
    pub truncate: bool,
    /// Tokens of a document that are used.
    pub document_tokens_max: Option<usize>,
}

/// The request of the engine.
///
/// # Errors
/// A document or vector that cannot be read.
pub fn request(asked: Asked, additions: Additions) -> Result<RerankRequest, Failure> {
    let documents = asked.documents.iter().enumerate();
    let documents = documents
        .map(|(index, document)| document.text(index, &asked.rank_fields).map(Content::from))
        .collect::<Result<Vec<Content>, Failure>>()?;
    let how = prepare(None, None, asked.truncate, additions.truncation_direction);
    let prompt = additions.instruction.map_or(Prompt::Default, Prompt::Instruction);
    let document_tokens_max = asked.document_tokens_max;
    let document_vectors = match additions.document_embeddings {
        // None for no documents is nothing wrong; none for some is.
        Some(vectors) => vectors.numbers(documents.len())?,
        None => Vec::new(),
    };
    Ok(RerankRequest {
        prepare: Prepare { prompt, document_tokens_max, ..how },
        method: additions.method.map(RerankMethod::from),
        listwise: additions.listwise.map(Listwise::from).unwrap_or_default(),
        document_vectors,
        ..RerankRequest::new(asked.query, documents)
    })
}

impl From<Method> for RerankMethod {
    fn from(method: Method) -> Self {
        match method {
            Method::Pointwise => Self::Pointwise,
            Method::Listwise => Self::Listwise,
            Method::Similarity => Self::Similarity,
            Method::Maxsim => Self::MaxSim,
        }
    }
}

impl From<ListwiseOptions> for Listwise {
    fn from(options: ListwiseOptions) -> Self {
        let default = Self::default();
        let template = match options.template.as_deref() {
            None | Some("paper") => ListwiseTemplate::Paper,
            Some("readme") => ListwiseTemplate::Readme,
            Some("training") => ListwiseTemplate::Training,
            Some(text) => ListwiseTemplate::Given(text.to_owned()),
        };
        Self {
            candidates: options.candidates.unwrap_or(default.candidates),
            step: options.step,
            passes: options.passes.unwrap_or(default.passes),
            template,
        }
    }
}

/// A ranked document: its place in the request and its score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ranked {
    /// Place in the request.
    pub index: usize,
    /// The score, or the logit if that was asked for.
    pub score: f32,
}

/// The best `limit` documents (all, if absent or 0), the best first.
pub fn ranked(answer: &RerankAnswer, limit: Option<usize>, raw: bool) -> Vec<Ranked> {
    let limit = limit.filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    let score = |index: usize| if raw { answer.raw[index] } else { answer.score(index) };
    let places = answer.order.iter().take(limit);
    places.map(|index| Ranked { index: *index, score: score(*index) }).collect()
}

/// Adds to a response how documents were ranked and what it took.
pub fn with_method(response: Response, answer: &RerankAnswer) -> Response {
    let mut response = with_timings(response, &answer.timings);
    let method = HeaderValue::from_static(answer.method.name());
    response.headers_mut().insert("x-rerank-method", method);
    response
}
