//! Failures in the format of text-embeddings-inference 1.9.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use proxima_engine::Fault;

use super::types::ErrorBody;
use crate::http::{Failure, with_retry_after};

/// The response to a failure.
pub fn failure(failure: &Failure) -> Response {
    let (status, error_type) = match failure {
        Failure::Body { syntax: true, .. } => (StatusCode::BAD_REQUEST, "Validation"),
        Failure::Body { syntax: false, .. } => (StatusCode::UNPROCESSABLE_ENTITY, "Validation"),
        Failure::BodyTooLarge { .. } | Failure::AnswerTooLarge { .. } => {
            (StatusCode::PAYLOAD_TOO_LARGE, "Validation")
        }
        Failure::SlowBody { .. } => (StatusCode::REQUEST_TIMEOUT, "Validation"),
        Failure::Malformed { .. } => (StatusCode::BAD_REQUEST, "Validation"),
        Failure::Coding { .. } => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "Validation"),
        Failure::TransferCoding { .. } => (StatusCode::NOT_IMPLEMENTED, "Validation"),
        Failure::Browser => (StatusCode::FORBIDDEN, "Unauthorized"),
        Failure::Unauthorized => (StatusCode::UNAUTHORIZED, "Unauthorized"),
        Failure::UnknownModel(_) | Failure::UnknownPath { .. } => {
            (StatusCode::NOT_FOUND, "Validation")
        }
        Failure::WrongMethod { .. } => (StatusCode::METHOD_NOT_ALLOWED, "Validation"),
        Failure::TooManyRequests { .. } | Failure::Busy { .. } => {
            (StatusCode::TOO_MANY_REQUESTS, "Overloaded")
        }
        Failure::Upstream { .. } => (StatusCode::BAD_GATEWAY, "Upstream"),
        Failure::Timeout { .. } => (StatusCode::SERVICE_UNAVAILABLE, "Overloaded"),
        Failure::Unhealthy { .. } | Failure::NotReady(_) | Failure::Stopping => {
            (StatusCode::SERVICE_UNAVAILABLE, "Unhealthy")
        }
        Failure::Bug => (StatusCode::INTERNAL_SERVER_ERROR, "Backend"),
        Failure::Engine(error) => match error.fault() {
            Fault::Empty => (StatusCode::BAD_REQUEST, "Empty"),
            Fault::Request => (StatusCode::UNPROCESSABLE_ENTITY, "Validation"),
            Fault::Tokenizer => (StatusCode::UNPROCESSABLE_ENTITY, "Tokenizer"),
            Fault::Load => (StatusCode::TOO_MANY_REQUESTS, "Overloaded"),
            Fault::Bug => (StatusCode::INTERNAL_SERVER_ERROR, "Backend"),
            Fault::Model => (StatusCode::FAILED_DEPENDENCY, "Backend"),
            Fault::Shutdown => (StatusCode::SERVICE_UNAVAILABLE, "Unhealthy"),
        },
    };
    let body = ErrorBody { error: failure.message(), error_type };
    with_retry_after((status, Json(body)).into_response(), failure)
}
