//! Paths that several dialects share: which one a body speaks is told by its keys.
//!
//! Must not know: any dialect's bodies.

use std::collections::BTreeSet;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use axum::routing::post;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::{Dialect, all};
use crate::http::{App, Failure, RawBody, parse_body};

/// What a shared path is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Ranking documents.
    Rerank,
    /// Vectors.
    Embed,
}

/// A dialect's part in shared paths.
pub struct Shared {
    /// Which paths.
    pub purpose: Purpose,
    /// Whether a body with these keys at this path is this dialect's.
    pub claims: fn(&str, &Keys) -> bool,
    /// Answers it.
    pub answer: fn(Arc<App>, Bytes) -> Answer,
}

/// A response to come.
pub type Answer = Pin<Box<dyn Future<Output = Response> + Send>>;

/// The keys of a JSON object.
#[derive(Debug, Default)]
pub struct Keys(BTreeSet<String>);

impl Keys {
    /// Whether one of these is there.
    pub fn any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.0.contains(*name))
    }

    /// Whether all of these are there.
    pub fn all(&self, names: &[&str]) -> bool {
        names.iter().all(|name| self.0.contains(*name))
    }
}

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeysVisitor;
        impl<'de> Visitor<'de> for KeysVisitor {
            type Value = Keys;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let mut keys = BTreeSet::new();
                while let Some((key, IgnoredAny)) = map.next_entry()? {
                    keys.insert(key);
                }
                Ok(Keys(keys))
            }
        }
        deserializer.deserialize_map(KeysVisitor)
    }
}

/// Handlers of the shared paths.
pub fn routes() -> Router<Arc<App>> {
    let rerank = ["/rerank", "/v1/rerank", "/v2/rerank", "/reranking", "/v1/reranking"];
    let embed = ["/v1/embeddings", "/embeddings"];
    let router = rerank.iter().fold(Router::new(), |router, path| router.route(path, post(ranked)));
    embed.iter().fold(router, |router, path| router.route(path, post(embedded)))
}

async fn ranked(State(app): State<Arc<App>>, uri: Uri, RawBody(body): RawBody) -> Response {
    dispatch(app, uri.path(), body, Purpose::Rerank).await
}

async fn embedded(State(app): State<Arc<App>>, uri: Uri, RawBody(body): RawBody) -> Response {
    dispatch(app, uri.path(), body, Purpose::Embed).await
}

async fn dispatch(app: Arc<App>, path: &str, body: Bytes, purpose: Purpose) -> Response {
    let keys = match parse_body::<Keys>(body.clone()).await {
        Ok(keys) => keys,
        Err(failure) => {
            app.metrics().refused(&failure);
            return super::failure_at(path, &failure);
        }
    };
    match claimant(path, &keys, purpose) {
        Some((dialect, _)) if keys.all(&["texts", "documents"]) => {
            let message = "send either \"documents\" or \"texts\", not both".into();
            let failure = Failure::Body { message, syntax: false };
            app.metrics().refused(&failure);
            (dialect.failure)(&failure)
        }
        Some((_, shared)) => (shared.answer)(app, body).await,
        None => super::failure_at(path, &Failure::UnknownPath { path: path.to_owned() }),
    }
}

/// The body of a dialect, or its response to one that it is not.
///
/// # Errors
/// The response.
pub async fn read<T: DeserializeOwned + Send + 'static>(
    app: &App,
    body: Bytes,
    failure: fn(&Failure) -> Response,
) -> Result<T, Response> {
    parse_body(body).await.map_err(|error| {
        app.metrics().refused(&error);
        failure(&error)
    })
}

/// The response to a request. Of failures, those are counted here that no engine has seen.
pub fn respond(
    app: &App,
    answer: Result<Response, Failure>,
    failure: fn(&Failure) -> Response,
) -> Response {
    answer.unwrap_or_else(|error| {
        if error.is_of_handler() {
            app.metrics().refused(&error);
        }
        failure(&error)
    })
}

/// The first dialect that claims a body, with its part.
pub fn claimant(path: &str, keys: &Keys, purpose: Purpose) -> Option<(Dialect, Shared)> {
    for dialect in all() {
        let claims = |shared: &Shared| shared.purpose == purpose && (shared.claims)(path, keys);
        if let Some(shared) = (dialect.shared)().into_iter().find(claims) {
            return Some((dialect, shared));
        }
    }
    None
}
