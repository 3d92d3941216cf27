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

use super::{App, Failure};
use crate::dialects;

/// Paths that need no key: they tell nothing but whether and how the server works.
const PUBLIC: [&str; 8] = [
    "/health",
    "/ping",
    "/livez",
    "/readyz",
    "/metrics",
    "/docs",
    "/openapi.json",
    "/api-doc/openapi.json",
];

/// Whether a request needs no key.
pub fn is_public(request: &Request) -> bool {
    let path = request.uri().path();
    let of_a_model = path.starts_with("/readyz/");
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    PUBLIC.contains(&path) || of_a_model || (path == "/" && reads)
}

/// Refuses what is above the number of requests at a time.
pub async fn limit_requests(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if is_public(&request) {
        return next.run(request).await;
    }
    let Ok(_permit) = app.permits().try_acquire() else {
        let failure = Failure::TooManyRequests { limit: app.config().requests_max };
        app.metrics().refused(&failure);
        return dialects::failure_at(request.uri().path(), &failure);
    };
    next.run(request).await
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
        Err(_) => dialects::failure_at(&path, &Failure::Bug),
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
