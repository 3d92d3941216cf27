//! Failures before the dialect that owns their path has shaped the response.
//!
//! Must not know: any dialect.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::Failure;

/// A failure that no dialect has formatted yet.
#[derive(Debug, Clone)]
pub struct Unshaped {
    /// The path whose owner shapes it; absent if a handler does not know it.
    pub path: Option<String>,
    /// The failure.
    pub failure: Failure,
}

/// The response to a failure at a path, which the owner of the path will shape.
pub fn unshaped(path: &str, failure: &Failure) -> Response {
    Unshaped { path: Some(path.to_owned()), failure: failure.clone() }.into_response()
}

impl IntoResponse for Unshaped {
    fn into_response(self) -> Response {
        let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
        response.extensions_mut().insert(self);
        response
    }
}
