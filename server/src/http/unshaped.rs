//! Failures on their way to the dialect that owns their path, which gives them its shape.
//!
//! Must not know: any dialect.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::Failure;

/// A failure whose response is still to be given the shape of a dialect.
#[derive(Debug, Clone)]
pub struct Unshaped {
    /// The path whose owner shapes it; absent where a handler does not know it.
    pub path: Option<String>,
    /// The failure.
    pub failure: Failure,
}

/// The response of a failure at a path, which the owner of the path will shape.
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
