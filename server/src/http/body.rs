//! Bodies in and out: errors in the dialect's shape, large answers written off the event loop.
//!
//! Must not know: any dialect's bodies.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use proxima_engine::Timings;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::json::parse_body;
use super::{App, Failure};
use crate::dialects;

/// Tokens of a request above which its answer is written on another thread.
const OFF_LOOP_TOKENS: usize = 4 * 1024;

/// Where numbers are computed, as text-embeddings-inference says it.
pub const COMPUTE_TYPE: &str = "cpu+optimized";

/// A JSON body, whatever its content type says.
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned + Send + 'static> FromRequest<Arc<App>> for JsonBody<T> {
    type Rejection = Response;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Response> {
        let path = request.uri().path().to_owned();
        let RawBody(bytes) = RawBody::from_request(request, app).await?;
        parse_body(bytes).await.map(Self).map_err(|failure| {
            app.metrics().refused(&failure);
            dialects::failure_at(&path, &failure)
        })
    }
}

/// A body of any kind, within the limit.
pub struct RawBody(pub Bytes);

impl FromRequest<Arc<App>> for RawBody {
    type Rejection = Response;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Response> {
        let path = request.uri().path().to_owned();
        let limit = app.config().body_bytes_max;
        read(request.into_body(), limit).await.map(Self).map_err(|failure| {
            app.metrics().refused(&failure);
            dialects::failure_at(&path, &failure)
        })
    }
}

async fn read(body: Body, limit: usize) -> Result<Bytes, Failure> {
    let declared = axum::body::HttpBody::size_hint(&body).lower();
    if usize::try_from(declared).is_ok_and(|declared| declared > limit) {
        return Err(Failure::BodyTooLarge { limit });
    }
    axum::body::to_bytes(body, limit).await.map_err(|error| {
        let source = std::error::Error::source(&error).map(ToString::to_string);
        if source.is_some_and(|source| source.contains("length limit")) {
            Failure::BodyTooLarge { limit }
        } else {
            Failure::Body { message: format!("the body broke off: {error}"), syntax: true }
        }
    })
}

/// A JSON response of what `make` gives, made on another thread if the request had many tokens.
pub async fn json_response<T: Serialize + Send + 'static>(
    tokens: usize,
    make: impl FnOnce() -> T + Send + 'static,
) -> Response {
    let write = || serde_json::to_vec(&make());
    let written = if tokens > OFF_LOOP_TOKENS {
        tokio::task::spawn_blocking(write).await.ok().and_then(Result::ok)
    } else {
        write().ok()
    };
    match written {
        Some(bytes) => ([(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
        None => axum::http::StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// What a request took, by the names of text-embeddings-inference, in milliseconds.
pub fn timing_values(timings: &Timings) -> [(&'static str, u64); 7] {
    let total = timings.total.as_millis() as u64;
    [
        ("x-compute-time", total),
        ("x-compute-characters", timings.n_chars as u64),
        ("x-compute-tokens", timings.n_tokens as u64),
        ("x-total-time", total),
        ("x-tokenization-time", timings.tokenization.as_millis() as u64),
        ("x-queue-time", timings.queue.as_millis() as u64),
        ("x-inference-time", timings.inference.as_millis() as u64),
    ]
}

/// Adds what a request took as headers, as text-embeddings-inference does.
pub fn with_timings(mut response: Response, timings: &Timings) -> Response {
    let headers = response.headers_mut();
    headers.insert("x-compute-type", HeaderValue::from_static(COMPUTE_TYPE));
    for (name, value) in timing_values(timings) {
        headers.insert(HeaderName::from_static(name), HeaderValue::from(value));
    }
    response
}
