//! Failures in OpenAI's error format.

use axum::response::Response;
use proxima_engine::{EngineError, Fault};

use super::types::{ErrorBody, ErrorEntry};
use crate::dialects::status::{shaped, status};
use crate::http::Failure;

/// The response to a failure.
pub fn failure(failure: &Failure) -> Response {
    let kind = match status(failure).as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        400..500 => "invalid_request_error",
        _ => "server_error",
    };
    let error = ErrorEntry {
        message: failure.message(),
        r#type: kind,
        param: param(failure),
        code: code(failure),
    };
    shaped(failure, ErrorBody { error })
}

/// A machine-readable code.
fn code(failure: &Failure) -> Option<&'static str> {
    match failure {
        Failure::BodyTooLarge { .. } => Some("body_too_large"),
        Failure::Unauthorized => Some("invalid_api_key"),
        Failure::UnknownModel(_) => Some("model_not_found"),
        Failure::TooManyRequests { .. } | Failure::Busy { .. } => Some("rate_limit_exceeded"),
        Failure::Upstream { .. } => Some("upstream_error"),
        Failure::Timeout { .. } => Some("timeout"),
        Failure::Unhealthy { .. } => Some("unhealthy"),
        Failure::NotReady(_) => Some("model_not_ready"),
        Failure::Stopping => Some("shutting_down"),
        Failure::Engine(error) => match error.fault() {
            Fault::Empty | Fault::Request | Fault::Tokenizer | Fault::Bug => None,
            Fault::Load => Some("rate_limit_exceeded"),
            Fault::Model => Some("model_error"),
            Fault::Shutdown => Some("shutting_down"),
        },
        _ => None,
    }
}

fn param(failure: &Failure) -> Option<&'static str> {
    match failure {
        Failure::UnknownModel(_) | Failure::Engine(EngineError::Unsupported { .. }) => {
            Some("model")
        }
        Failure::Engine(EngineError::Dimensions { .. }) => Some("dimensions"),
        Failure::Engine(error) if matches!(error.fault(), Fault::Empty | Fault::Request) => {
            Some("input")
        }
        _ => None,
    }
}
