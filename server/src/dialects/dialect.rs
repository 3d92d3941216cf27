//! What every dialect gives to the list, and the skeleton of its handlers.
//!
//! Must not know: which dialects there are, any of their bodies.

use std::collections::BTreeSet;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use axum::body::Bytes;
use axum::response::Response;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::http::{App, Failure, Routes, parse_body};
use crate::noted::note_failure;

/// One wire format.
pub struct Dialect {
    /// Its name.
    pub name: &'static str,
    /// Whether it owns a path, so that errors before any handler have its format.
    pub owns: fn(&str) -> bool,
    /// Its handlers.
    pub routes: fn() -> Routes,
    /// Its part in paths that several dialects share.
    pub shared: fn() -> Vec<SharedRoute>,
    /// Its error responses.
    pub failure: fn(&Failure) -> Response,
    /// The name of their schema in the OpenAPI document.
    pub error: &'static str,
    /// Its part of the OpenAPI document.
    pub openapi: fn() -> utoipa::openapi::OpenApi,
}

/// What a shared path is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Ranking documents.
    Rerank,
    /// Vectors.
    Embed,
}

/// A dialect's part in shared paths.
pub struct SharedRoute {
    /// The purpose of the paths.
    pub purpose: Purpose,
    /// The only one of them, if not all.
    pub path: Option<&'static str>,
    /// The name of its body's schema in the OpenAPI document.
    pub body: &'static str,
    /// The names of its answers' schemas there.
    pub answers: &'static [&'static str],
    /// Whether a body with these keys belongs to this dialect.
    pub claims: fn(&Keys) -> bool,
    /// Answers such a body.
    pub answer: fn(Arc<App>, Bytes) -> ResponseFuture,
}

/// A future response.
pub type ResponseFuture = Pin<Box<dyn Future<Output = Response> + Send>>;

/// The keys of a JSON object.
#[derive(Debug, Default)]
pub struct Keys {
    all: BTreeSet<String>,
    /// Keys whose value is not null.
    set: BTreeSet<String>,
}

impl Keys {
    /// Whether any of these is present.
    pub fn any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.all.contains(*name))
    }

    /// Whether all of these are present and none is null.
    pub fn set(&self, names: &[&str]) -> bool {
        names.iter().all(|name| self.set.contains(*name))
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
                let mut keys = Keys::default();
                while let Some((key, value)) = map.next_entry::<String, Option<IgnoredAny>>()? {
                    if value.is_some() {
                        keys.set.insert(key.clone());
                    }
                    keys.all.insert(key);
                }
                Ok(keys)
            }
        }
        deserializer.deserialize_map(KeysVisitor)
    }
}

/// Reads a body for a dialect.
///
/// # Errors
/// The dialect's response to an invalid body.
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

/// Reads a body and answers it with `compute`: the handler of a dialect at a shared path.
pub async fn handle<T: DeserializeOwned + Send + 'static>(
    app: Arc<App>,
    body: Bytes,
    failure: fn(&Failure) -> Response,
    compute: impl AsyncFnOnce(&App, T) -> Result<Response, Failure>,
) -> Response {
    match read(&app, body, failure).await {
        Ok(body) => respond(&app, compute(&app, body).await, failure),
        Err(response) => response,
    }
}

/// The response to a request. Failures that no engine has seen are counted here.
pub fn respond(
    app: &App,
    answer: Result<Response, Failure>,
    failure: fn(&Failure) -> Response,
) -> Response {
    answer.unwrap_or_else(|error| {
        if error.is_of_handler() {
            app.metrics().refused(&error);
        }
        note_failure(&error);
        failure(&error)
    })
}
