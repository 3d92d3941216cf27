//! API keys.
//!
//! Must not know: any dialect's bodies.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use subtle::ConstantTimeEq as _;

use super::public::is_public;
use super::unshaped::unshaped;
use super::{App, Failure};

/// The key of an `Authorization` header: after the scheme `Bearer` in any case (RFC 9110, 11.1), or
/// bare, as some clients send it.
pub fn sent_key(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes().trim_ascii();
    match value.split_first_chunk::<6>() {
        Some((scheme, [])) if scheme.eq_ignore_ascii_case(b"bearer") => Some(b""),
        Some((scheme, [b' ' | b'\t', key @ ..])) if scheme.eq_ignore_ascii_case(b"bearer") => {
            Some(key.trim_ascii_start())
        }
        _ => Some(value),
    }
}

/// Whether a request carries one of these keys, or none is required; every key is compared in
/// constant time.
pub fn has_key(keys: &[String], headers: &HeaderMap) -> bool {
    let sent = sent_key(headers).unwrap_or_default();
    let valid =
        keys.iter().fold(false, |valid, key| valid | bool::from(key.as_bytes().ct_eq(sent)));
    valid || keys.is_empty()
}

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
