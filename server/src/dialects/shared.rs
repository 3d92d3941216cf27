//! Paths that several dialects share: the keys of a body determine its dialect.
//!
//! Must not know: any dialect's bodies.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use utoipa::OpenApi;

use super::dialect::{Dialect, Keys, Purpose, SharedRoute};
use super::list::{all, failure_at};
use crate::http::{App, Failure, RawBody, Routes, parse_body};
use crate::noted::note_dialect;

const RERANK: [&str; 5] = ["/rerank", "/v1/rerank", "/v2/rerank", "/reranking", "/v1/reranking"];
const EMBED: [&str; 2] = ["/v1/embeddings", "/embeddings"];

/// Mutually exclusive keys: each dialect reads one of them and would ignore the other.
const EXCLUSIVE: [(Purpose, [&str; 2]); 2] =
    [(Purpose::Rerank, ["documents", "texts"]), (Purpose::Embed, ["input", "messages"])];

/// Handlers of the shared paths.
pub fn routes() -> Routes {
    Routes::new().post(&RERANK, ranked).post(&EMBED, embedded)
}

/// The dialects whose bodies a shared path accepts, with their parts; empty for other paths. A part
/// for this path alone accepts everything that those before it leave.
pub fn parts(path: &str) -> Vec<(Dialect, SharedRoute)> {
    let purpose = match path {
        _ if RERANK.contains(&path) => Purpose::Rerank,
        _ if EMBED.contains(&path) => Purpose::Embed,
        _ => return Vec::new(),
    };
    let mut parts = Vec::new();
    for dialect in all() {
        let its = (dialect.shared)()
            .into_iter()
            .find(|shared| shared.purpose == purpose && shared.path.is_none_or(|its| its == path));
        let Some(shared) = its else { continue };
        let last = shared.path.is_some();
        parts.push((dialect, shared));
        if last {
            break;
        }
    }
    parts
}

/// The part of the OpenAPI document of shared paths; their bodies and answers are those of the
/// dialects.
#[derive(OpenApi)]
#[openapi(paths(ranked, embedded))]
pub struct SharedApi;

/// Ranks documents for a query, in several dialects.
///
/// The body's keys determine the dialect: `texts` is text-embeddings-inference's, `top_k` Voyage's,
/// `property` Weaviate's, `use_activation` and others vLLM's; all others are Jina's and Cohere's,
/// at `/v2/rerank` those of Cohere's v2 API.
#[utoipa::path(
    post, path = "/rerank",
    responses((status = 200, description = "the scores of the documents")),
)]
async fn ranked(State(app): State<Arc<App>>, uri: Uri, RawBody(body): RawBody) -> Response {
    dispatch(app, uri.path(), body, Purpose::Rerank).await
}

/// Vectors of texts, token ids, or objects with images and videos, in several dialects.
///
/// The body's keys determine the dialect: `messages` is vLLM's, `input_type`, `output_dtype` and
/// others Voyage's, `task`, `embedding_type` and others Jina's; all others are OpenAI's.
#[utoipa::path(
    post, path = "/v1/embeddings",
    responses((status = 200, description = "one vector per input")),
)]
async fn embedded(State(app): State<Arc<App>>, uri: Uri, RawBody(body): RawBody) -> Response {
    dispatch(app, uri.path(), body, Purpose::Embed).await
}

async fn dispatch(app: Arc<App>, path: &str, body: Bytes, purpose: Purpose) -> Response {
    let keys = match parse_body::<Keys>(body.clone()).await {
        Ok(keys) => keys,
        Err(failure) => {
            app.metrics().refused(&failure);
            return failure_at(path, &failure);
        }
    };
    let mut exclusive = EXCLUSIVE.iter().filter(|(its, _)| *its == purpose);
    let both = exclusive.find_map(|(_, both)| keys.set(both).then_some(both));
    match (claimant(path, &keys, purpose), both) {
        (Some((dialect, _)), Some([one, other])) => {
            let failure = Failure::body(format!("send either {one:?} or {other:?}, not both"));
            app.metrics().refused(&failure);
            match purpose {
                Purpose::Rerank => (dialect.failure)(&failure),
                // The body could be vLLM's conversation just as well as OpenAI's.
                Purpose::Embed => failure_at(path, &failure),
            }
        }
        (Some((dialect, shared)), None) => {
            note_dialect(dialect.name);
            (shared.answer)(app, body).await
        }
        (None, _) => failure_at(path, &Failure::UnknownPath { path: path.to_owned() }),
    }
}

/// The first dialect that claims a body, with its part.
pub fn claimant(path: &str, keys: &Keys, purpose: Purpose) -> Option<(Dialect, SharedRoute)> {
    for dialect in all() {
        let claims = |shared: &SharedRoute| {
            let here = shared.path.is_none_or(|its| its == path);
            shared.purpose == purpose && here && (shared.claims)(keys)
        };
        if let Some(shared) = (dialect.shared)().into_iter().find(claims) {
            return Some((dialect, shared));
        }
    }
    None
}
