//! Refuses requests without a valid API key.
//!
//! Must not know: any dialect's bodies.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;

use super::keys::{has_key, sent_key};
use super::public::is_public;
use super::unshaped::unshaped;
use super::{App, Failure};

/// Admits requests with a valid key; others are told the required scheme (RFC 6750, 3).
pub async fn authorize(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if is_public(&request) || has_key(&app.config().api_keys, request.headers()) {
        return next.run(request).await;
    }
    app.metrics().refused(&Failure::Unauthorized);
    let challenge = match sent_key(request.headers()) {
        None => HeaderValue::from_static("Bearer realm=\"proxima\""),
        Some(_) => HeaderValue::from_static("Bearer realm=\"proxima\", error=\"invalid_token\""),
    };
    let mut response = unshaped(request.uri().path(), &Failure::Unauthorized);
    response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    response
}
