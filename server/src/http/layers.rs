//! The layers that every request passes.
//!
//! Must not know: any dialect's bodies.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::FutureExt as _;
use tokio::time::Instant;

use super::public::{is_public, needs_no_key};
use super::scope::Scope;
use super::unshaped::{Unshaped, unshaped};
use super::written::written;
use super::{App, Failure};
use crate::noted::{note_dialect, note_failure, note_route};

/// Runs a request's handler in its scope. What the scope holds, including the permit to compute, is
/// held until the response is written.
pub async fn scoped(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if is_public(&request) {
        return next.run(request).await;
    }
    let path = request.uri().path().to_owned();
    let client = app.clients().key(request.headers(), request.extensions());
    let scope = Scope::new(client, Instant::now() + app.config().request_timeout);
    let refused = |failure: Failure| {
        app.metrics().refused(&failure);
        unshaped(&path, &failure)
    };
    let mut response = scope.run(next.run(request)).await;
    if let Some(Unshaped { path: None, failure }) = response.extensions().get::<Unshaped>() {
        return refused(failure.clone());
    }
    let bytes = axum::body::HttpBody::size_hint(response.body()).exact().unwrap_or(0);
    match scope.grow(usize::try_from(bytes).unwrap_or(usize::MAX)) {
        Ok(()) => drop(response.extensions_mut().insert(scope)),
        Err(failure) => return refused(failure),
    }
    response
}

/// Notes the route of a request and the dialect that owns it.
pub async fn note(owner: fn(&str) -> &'static str, request: Request, next: Next) -> Response {
    if let Some(route) = request.extensions().get::<MatchedPath>() {
        note_route(route.as_str());
        if !needs_no_key(route.as_str()) {
            note_dialect(owner(route.as_str()));
        }
    }
    next.run(request).await
}

/// Hands a response to its connection; what the request holds is released once it is written.
pub async fn answer(request: Request, next: Next) -> Response {
    let version = request.version();
    written(next.run(request).await, version)
}

/// Fails a request that takes too long; its queued work is dropped with it.
pub async fn timeout(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let (limit, path) = (app.config().request_timeout, request.uri().path().to_owned());
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let failure = Failure::Timeout { limit };
            app.metrics().refused(&failure);
            unshaped(&path, &failure)
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
            unshaped(&path, &Failure::Bug)
        }
    }
}

/// Answers for a path that does not exist.
pub async fn unknown_path(request: Request) -> Response {
    let path = request.uri().path();
    let failure = Failure::UnknownPath { path: path.to_owned() };
    note_failure(&failure);
    unshaped(path, &failure)
}

/// Answers for a path that exists, but for another method.
pub async fn wrong_method(request: Request) -> Response {
    let path = request.uri().path();
    let method = request.method().to_string();
    let failure = Failure::WrongMethod { method, path: path.to_owned() };
    note_failure(&failure);
    unshaped(path, &failure)
}
