//! Failures in OpenAI's envelope.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use proxima_engine::{EngineError, Fault};

use super::types::{ErrorBody, ErrorEntry};
use crate::http::{Failure, with_retry_after};

/// The response to a failure.
pub fn failure(failure: &Failure) -> Response {
    let (status, code) = status_and_code(failure);
    let kind = match status.as_u16() {
        401 => "authentication_error",
        429 => "rate_limit_error",
        400..500 => "invalid_request_error",
        _ => "server_error",
    };
    let error =
        ErrorEntry { message: failure.to_string(), r#type: kind, param: param(failure), code };
    with_retry_after((status, Json(ErrorBody { error })).into_response(), failure)
}

fn status_and_code(failure: &Failure) -> (StatusCode, Option<&'static str>) {
    match failure {
        Failure::Body { .. } => (StatusCode::BAD_REQUEST, None),
        Failure::BodyTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, Some("body_too_large")),
        Failure::Unauthorized => (StatusCode::UNAUTHORIZED, Some("invalid_api_key")),
        Failure::UnknownModel(_) => (StatusCode::NOT_FOUND, Some("model_not_found")),
        Failure::UnknownPath { .. } => (StatusCode::NOT_FOUND, None),
        Failure::WrongMethod { .. } => (StatusCode::METHOD_NOT_ALLOWED, None),
        Failure::TooManyRequests { .. } => {
            (StatusCode::TOO_MANY_REQUESTS, Some("rate_limit_exceeded"))
        }
        Failure::Timeout { .. } => (StatusCode::SERVICE_UNAVAILABLE, Some("timeout")),
        Failure::Unhealthy { .. } => (StatusCode::SERVICE_UNAVAILABLE, Some("unhealthy")),
        Failure::Bug => (StatusCode::INTERNAL_SERVER_ERROR, None),
        Failure::Engine(error) => match error.fault() {
            Fault::Empty | Fault::Request | Fault::Tokenizer => (StatusCode::BAD_REQUEST, None),
            Fault::Load => (StatusCode::TOO_MANY_REQUESTS, Some("rate_limit_exceeded")),
            Fault::Model => (StatusCode::INTERNAL_SERVER_ERROR, Some("model_error")),
            Fault::Shutdown => (StatusCode::SERVICE_UNAVAILABLE, Some("shutting_down")),
        },
    }
}

fn param(failure: &Failure) -> Option<&'static str> {
    match failure {
        Failure::UnknownModel(_) => Some("model"),
        Failure::Engine(EngineError::Dimensions { .. }) => Some("dimensions"),
        Failure::Engine(error) if matches!(error.fault(), Fault::Empty | Fault::Request) => {
            Some("input")
        }
        _ => None,
    }
}
