//! What every request passes on its way in.
//!
//! Must not know: any dialect's bodies.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use futures_util::FutureExt as _;
use tokio::time::Instant;

use super::access::note_route;
use super::body::Unshaped;
use super::scope::Scope;
use super::written::written;
use super::{App, Failure, note_failure};
use crate::dialects;

/// Paths that need no key: they tell nothing but whether and how the server works.
const PUBLIC: [&str; 10] = [
    "/health",
    "/ping",
    "/livez",
    "/readyz",
    "/.well-known/live",
    "/.well-known/ready",
    "/metrics",
    "/docs",
    "/openapi.json",
    "/api-doc/openapi.json",
];

/// Whether a path needs no key.
pub fn needs_no_key(path: &str) -> bool {
    PUBLIC.contains(&path) || path.starts_with("/readyz/")
}

/// Whether a request needs no key.
pub fn is_public(request: &Request) -> bool {
    let path = request.uri().path();
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    needs_no_key(path) || (path == "/" && reads)
}

/// Runs a request's handler in its scope; what that holds, the permit to compute too, is kept until
/// the answer is written.
pub async fn scoped(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if is_public(&request) {
        return next.run(request).await;
    }
    let path = request.uri().path().to_owned();
    let client = app.clients().key(request.headers(), request.extensions());
    let scope = Scope::new(client, Instant::now() + app.config().request_timeout);
    let refused = |failure: Failure| {
        app.metrics().refused(&failure);
        dialects::failure_at(&path, &failure)
    };
    let response = scope.run(next.run(request)).await;
    let mut response = match response.extensions().get::<Unshaped>() {
        Some(Unshaped(failure)) => return refused(failure.clone()),
        None => response,
    };
    let bytes = axum::body::HttpBody::size_hint(response.body()).exact().unwrap_or(0);
    match scope.grow(usize::try_from(bytes).unwrap_or(usize::MAX)) {
        Ok(()) => drop(response.extensions_mut().insert(scope)),
        Err(failure) => return refused(failure),
    }
    response
}

/// Hands an answer to its connection; what the request holds is given back when it is written.
pub async fn answer(request: Request, next: Next) -> Response {
    let version = request.version();
    note_route(&request);
    written(next.run(request).await, version)
}

/// Ends a request that takes too long; what it had in the queue is dropped with it.
pub async fn timeout(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let (limit, path) = (app.config().request_timeout, request.uri().path().to_owned());
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let failure = Failure::Timeout { limit };
            app.metrics().refused(&failure);
            dialects::failure_at(&path, &failure)
        }
    }
}

/// Answers a request whose handler panicked.
pub async fn catch_panic(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_) => {
            note_failure(&Failure::Bug);
            dialects::failure_at(&path, &Failure::Bug)
        }
    }
}

/// Answers for a path that is not there.
pub async fn unknown_path(request: Request) -> Response {
    let path = request.uri().path();
    dialects::failure_at(path, &Failure::UnknownPath { path: path.to_owned() })
}

/// Answers for a path that is there for another method.
pub async fn wrong_method(request: Request) -> Response {
    let path = request.uri().path();
    let method = request.method().to_string();
    dialects::failure_at(path, &Failure::WrongMethod { method, path: path.to_owned() })
}
