//! HTTP statuses of all dialects except text-embeddings-inference, and ids of answers.
//!
//! Must not know: any dialect's bodies.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use proxima_engine::Fault;
use serde::Serialize;

use crate::http::{Failure, with_retry_after};

/// The status of a failure.
pub fn status(failure: &Failure) -> StatusCode {
    match failure {
        Failure::Body { .. } => StatusCode::BAD_REQUEST,
        Failure::BodyTooLarge { .. } | Failure::AnswerTooLarge { .. } => {
            StatusCode::PAYLOAD_TOO_LARGE
        }
        Failure::SlowBody { .. } => StatusCode::REQUEST_TIMEOUT,
        Failure::Malformed { .. } => StatusCode::BAD_REQUEST,
        Failure::Coding { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Failure::TransferCoding { .. } => StatusCode::NOT_IMPLEMENTED,
        Failure::Browser => StatusCode::FORBIDDEN,
        Failure::Unauthorized => StatusCode::UNAUTHORIZED,
        Failure::UnknownModel(_) | Failure::UnknownPath { .. } => StatusCode::NOT_FOUND,
        Failure::WrongMethod { .. } => StatusCode::METHOD_NOT_ALLOWED,
        Failure::TooManyRequests { .. } | Failure::Busy { .. } => StatusCode::TOO_MANY_REQUESTS,
        Failure::Upstream { .. } => StatusCode::BAD_GATEWAY,
        Failure::Timeout { .. }
        | Failure::Unhealthy { .. }
        | Failure::NotReady(_)
        | Failure::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        Failure::Bug => StatusCode::INTERNAL_SERVER_ERROR,
        Failure::Engine(error) => match error.fault() {
            Fault::Empty | Fault::Request | Fault::Tokenizer => StatusCode::BAD_REQUEST,
            Fault::Load => StatusCode::TOO_MANY_REQUESTS,
            Fault::Bug | Fault::Model => StatusCode::INTERNAL_SERVER_ERROR,
            Fault::Shutdown => StatusCode::SERVICE_UNAVAILABLE,
        },
    }
}

/// The response to a failure, with a dialect's body.
pub fn shaped(failure: &Failure, body: impl Serialize) -> Response {
    with_retry_after((status(failure), Json(body)).into_response(), failure)
}

/// An id that is unique among the answers of this process.
pub fn answer_id(kind: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{kind}-{:x}-{number:x}", now.as_micros())
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
