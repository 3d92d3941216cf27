//! Shared by the rerank dialects: the forms of documents, Proxima's additions, ranked results.
//!
//! Must not know: any particular dialect.

use std::fmt;

use axum::http::HeaderValue;
use axum::response::Response;
use proxima_engine::{Listwise, RerankAnswer, RerankMethod, RerankRequest, ScoreForm};
use proxima_models::{Content, Item, ListwiseTemplate, Part, Prepare};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::Side;
use super::inputs::{one_prompt, prepare};
use super::items::{
    ItemObject, Name, Object, Source, echo, echo_part, has_media, is_item, read_item, resolve,
};
use super::misspelt;
use super::vectors::SentVectors;
use crate::http::{Chosen, Failure, with_timings};

crate::dialects::object::objects! {
    ListwiseOptions: &misspelt::NONE,
}

crate::dialects::object::words! { Scores, Method }

/// A query or a document.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Document {
    /// A text.
    Text(String),
    /// An object with its text under `text`, in the fields that `rank_fields` names, or with
    /// images and videos, or with `content` parts.
    Object(ItemObject),
    /// The parts of `content`, without the object around them.
    Parts(Vec<ItemObject>),
}

/// A list of documents, or a single one that is an object.
#[derive(Debug, Clone, PartialEq)]
pub enum Documents {
    /// Several.
    Several(Vec<Document>),
    /// One.
    One(ItemObject),
}

/// Reads a document directly, without an intermediate value.
pub struct DocumentVisitor;

impl<'de> Visitor<'de> for DocumentVisitor {
    type Value = Document;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or an object with \"text\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Document, E> {
        Ok(Document::Text(text.to_owned()))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Document, E> {
        Ok(Document::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, parts: A) -> Result<Document, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(parts)).map(Document::Parts)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Document, A::Error> {
        ItemObject::deserialize(MapAccessDeserializer::new(map)).map(Document::Object)
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DocumentVisitor)
    }
}

impl<'de> Deserialize<'de> for Documents {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DocumentsVisitor;
        impl<'de> Visitor<'de> for DocumentsVisitor {
            type Value = Documents;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of strings or objects, or an object")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Documents, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Documents::Several)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Documents, A::Error> {
                ItemObject::deserialize(MapAccessDeserializer::new(map)).map(Documents::One)
            }
        }
        deserializer.deserialize_any(DocumentsVisitor)
    }
}

impl From<Documents> for Vec<Document> {
    fn from(documents: Documents) -> Self {
        match documents {
            Documents::Several(documents) => documents,
            Documents::One(object) => vec![Document::Object(object)],
        }
    }
}

impl Default for Document {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl Document {
    /// The document as an object, without the bytes of files; a text is put under `text`.
    pub fn object(&self) -> Object {
        match self {
            Self::Text(text) => Object::from_iter([("text".to_owned(), Value::from(&text[..]))]),
            Self::Object(object) if is_item(&object.0) => echo(&object.0),
            Self::Object(object) => object.0.clone(),
            Self::Parts(parts) => {
                let parts = parts.iter().map(|part| echo_part(&part.0)).collect();
                Object::from_iter([("content".to_owned(), Value::Array(parts))])
            }
        }
    }

    /// The document as it is returned, without the bytes of files.
    pub fn echo(&self) -> Self {
        match self {
            Self::Text(_) => self.clone(),
            Self::Object(_) | Self::Parts(_) => Self::Object(ItemObject(self.object())),
        }
    }

    /// The content to be ranked: the named fields of an object, one per line, if any are named, or
    /// else the item that it is.
    ///
    /// # Errors
    /// An invalid object.
    pub fn content(self, name: Name, fields: &[String]) -> Result<Content<Source>, Failure> {
        let object = match self {
            Self::Text(text) => return Ok(text.into()),
            Self::Object(object) => object.0,
            Self::Parts(parts) => content_of(parts),
        };
        if !fields.is_empty() {
            if has_media(&object) {
                return Err(
                    name.wrong("rank_fields is for texts only, and it has an image or a video")
                );
            }
            let lines = fields.iter().filter_map(|field| {
                let value = object.get(field)?;
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                Some(format!("{field}: {text}"))
            });
            let lines: Vec<String> = lines.collect();
            if lines.is_empty() {
                return Err(name.wrong("it has none of the fields that rank_fields names"));
            }
            return Ok(lines.join("\n").into());
        }
        // An empty object is still an item: it is up to the model what to make of it.
        let is_nothing = object.values().all(Value::is_null);
        if !is_nothing && !is_item(&object) && object.get("text").is_none_or(Value::is_null) {
            return Err(name.wrong("an object needs a string \"text\""));
        }
        Ok(read_item(of_document(object)).map_err(|problem| name.wrong(problem))?.into())
    }

    /// The query to rank documents for, with its own instruction if it has one.
    ///
    /// # Errors
    /// An invalid object.
    pub fn query(self, name: Name) -> Result<Item<Source>, Failure> {
        let object = match self {
            Self::Text(text) => return Ok(vec![Part::Text(text.into())].into()),
            Self::Object(object) => object.0,
            Self::Parts(parts) => content_of(parts),
        };
        read_item(object).map_err(|problem| name.wrong(problem))
    }
}

/// What is read of a document: all of it if it has images or videos, otherwise only its texts and
/// its instruction; other keys are ignored.
fn of_document(mut object: Object) -> Object {
    let has = |key: &str| object.get(key).is_some_and(|value| !value.is_null());
    let texts: &[&str] = match object.get("content") {
        _ if has_media(&object) => return object,
        Some(Value::Array(_)) => &["text", "content"],
        _ if has("text") => &["text"],
        _ if has("content") => &["content"],
        _ => return object,
    };
    object.retain(|key, _| key == "instruction" || texts.contains(&key.as_str()));
    object
}

/// A list of parts as an object.
fn content_of(parts: Vec<ItemObject>) -> Object {
    let parts = parts.into_iter().map(|part| Value::Object(part.0));
    Object::from_iter([("content".to_owned(), Value::Array(parts.collect()))])
}

/// Proxima's additions to every rerank dialect; see [`ranking_body`].
#[derive(Debug, Default)]
pub struct Additions {
    /// What makes a document relevant.
    pub instruction: Option<String>,
    /// A prompt of the checkpoint, by name.
    pub prompt_name: Option<String>,
    /// How to rank.
    pub method: Option<Method>,
    /// Vectors of the documents.
    pub document_embeddings: Option<SentVectors>,
    /// How a listwise model sees the candidates.
    pub listwise: Option<ListwiseOptions>,
    /// Which end of an overlong document is cut.
    pub truncation_direction: Option<Side>,
    /// The function from logits to scores.
    pub scores: Option<Scores>,
}

/// The body of a rerank dialect: its own keys, and those of Proxima's additions. They are keys of
/// one struct because serde would buffer the whole body, ignored keys included, to read a flattened
/// struct.
macro_rules! ranking_body {
    ($(#[$about:meta])* pub struct $name:ident { $($own:tt)* }) => {
        $(#[$about])*
        pub struct $name {
            $($own)*
            /// Addition: what makes a document relevant, for models that take an instruction.
            #[serde(alias = "instruct")]
            pub instruction: Option<String>,
            /// Addition: a prompt of the checkpoint for the query, by name.
            pub prompt_name: Option<String>,
            /// Addition: how to rank; the model's own method if absent.
            pub method: Option<$crate::dialects::ranking::Method>,
            /// Addition: vectors of the documents, for listwise and similarity ranking: lists of
            /// numbers or base64 of little-endian float32.
            pub document_embeddings: Option<$crate::dialects::vectors::SentVectors>,
            /// Addition: how E2Rank sees the candidates.
            pub listwise: Option<$crate::dialects::ranking::ListwiseOptions>,
            /// Addition: which end of an overlong document is cut.
            #[serde(alias = "truncation_side")]
            pub truncation_direction: Option<$crate::dialects::Side>,
            /// Addition: the function from logits to scores; `probability` if absent. If logits are
            /// requested, they are returned as they are.
            pub scores: Option<$crate::dialects::ranking::Scores>,
        }

        impl $name {
            /// Takes Proxima's additions out of the body.
            pub fn additions(&mut self) -> $crate::dialects::ranking::Additions {
                $crate::dialects::ranking::Additions {
                    instruction: self.instruction.take(),
                    prompt_name: self.prompt_name.take(),
                    method: self.method.take(),
                    document_embeddings: self.document_embeddings.take(),
                    listwise: self.listwise.take(),
                    truncation_direction: self.truncation_direction.take(),
                    scores: self.scores.take(),
                }
            }
        }
    };
}

pub(crate) use ranking_body;

/// The function from logits to scores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(remote = "Self", rename_all = "lowercase")]
pub enum Scores {
    /// A sigmoid.
    #[default]
    Probability,
    /// The function that the checkpoint's files name, as sentence-transformers' CrossEncoder has
    /// it.
    Checkpoint,
}

impl From<Scores> for ScoreForm {
    fn from(scores: Scores) -> Self {
        match scores {
            Scores::Probability => Self::Probability,
            Scores::Checkpoint => Self::Checkpoint,
        }
    }
}

/// How documents are ranked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(remote = "Self", rename_all = "lowercase")]
pub enum Method {
    /// Each is scored with the query.
    Pointwise,
    /// By a vector of query and candidates (E2Rank), or by reading whole lists
    /// (jina-reranker-v3).
    Listwise,
    /// By the cosine of vectors.
    Similarity,
    /// By one vector per token (late interaction).
    Maxsim,
}

/// How a listwise model sees the candidates.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct ListwiseOptions {
    /// Number of first candidates that the model sees, or of those in a window; 20 if absent.
    #[schema(minimum = 1)]
    pub candidates: Option<usize>,
    /// Rank in windows of `candidates`, from the back, this many documents apart (10 as published).
    #[schema(minimum = 1)]
    pub step: Option<usize>,
    /// Number of passes; 1 if absent.
    #[schema(minimum = 1, maximum = 10)]
    pub passes: Option<usize>,
    /// `paper` (if absent), `readme`, `training`, or a text with `{documents}` and `{query}`, and
    /// `{instruction}` if wanted.
    pub template: Option<String>,
}

/// The parts of a request that every dialect expresses in its own way.
#[derive(Debug, Default)]
pub struct Asked {
    /// The query.
    pub query: Document,
    /// The documents.
    pub documents: Vec<Document>,
    /// The fields to rank by, of documents that are objects.
    pub rank_fields: Vec<String>,
    /// Whether overlong documents are cut.
    pub truncate: bool,
    /// Maximum tokens used of a document.
    pub document_tokens_max: Option<usize>,
}

/// Documents as answers return them.
pub fn echoes(documents: &[Document]) -> Vec<Object> {
    documents.iter().map(Document::object).collect()
}

/// The engine's request. The query's own instruction takes precedence over that of the request.
///
/// # Errors
/// A query, document or vector that cannot be read, or a file that cannot be fetched.
pub async fn request(
    chosen: &Chosen<'_>,
    asked: Asked,
    additions: Additions,
) -> Result<RerankRequest, Failure> {
    let count = asked.documents.len();
    let mut query = asked.query.query(Name::Query)?;
    let instruction = query.instruction.take();
    let mut pending = Vec::with_capacity(count + 1);
    pending.push((Name::Query, query.into()));
    for (index, document) in asked.documents.into_iter().enumerate() {
        let name = Name::Document(index);
        pending.push((name, document.content(name, &asked.rank_fields)?));
    }
    one_prompt(additions.instruction.as_ref(), additions.prompt_name.as_ref())?;
    let instruction = instruction.or(additions.instruction);
    let side = additions.truncation_direction;
    let how = prepare(instruction, additions.prompt_name, asked.truncate, side);
    let document_tokens_max = asked.document_tokens_max;
    let document_vectors = match additions.document_embeddings {
        // An empty list of vectors is valid only without documents.
        Some(vectors) => vectors.numbers(count)?,
        None => Vec::new(),
    };
    let mut contents = resolve(chosen.media(), pending).await?;
    let documents = contents.split_off(1);
    let query = contents.pop().ok_or(Failure::Bug)?;
    Ok(RerankRequest {
        prepare: Prepare { document_tokens_max, ..how },
        method: additions.method.map(RerankMethod::from),
        listwise: additions.listwise.map(Listwise::from).unwrap_or_default(),
        document_vectors,
        scores: additions.scores.unwrap_or_default().into(),
        ..RerankRequest::new(query, documents)
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

/// A ranked document: its index in the request and its score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ranked {
    /// Index in the request.
    pub index: usize,
    /// The score, or the logit if that was requested.
    pub score: f32,
}

/// The best `limit` documents (all if absent or 0), best first.
pub fn ranked(answer: &RerankAnswer, limit: Option<usize>, raw: bool) -> Vec<Ranked> {
    let limit = limit.filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    let score = |index: usize| if raw { answer.raw[index] } else { answer.score(index) };
    let best = answer.order.iter().take(limit);
    best.map(|index| Ranked { index: *index, score: score(*index) }).collect()
}

/// Adds the ranking method and timings to a response's headers.
pub fn with_method(response: Response, answer: &RerankAnswer) -> Response {
    let mut response = with_timings(response, &answer.timings);
    let method = HeaderValue::from_static(answer.method.name());
    response.headers_mut().insert("x-rerank-method", method);
    response
}
