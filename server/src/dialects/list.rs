//! The list of dialects, and which of them owns a path.
//!
//! Must not know: any dialect's bodies.

use axum::response::Response;

use super::dialect::Dialect;
use super::{cohere, jina, openai, tei, vllm, voyage, weaviate};
use crate::http::Failure;

/// All dialects. If several claim a path or a body, the first gets it; the last owns every path
/// that no other does.
pub fn all() -> Vec<Dialect> {
    vec![
        weaviate::dialect(),
        voyage::dialect(),
        cohere::dialect(),
        vllm::dialect(),
        jina::dialect(),
        openai::dialect(),
        tei::dialect(),
    ]
}

/// The dialect that owns a path.
pub fn owner(path: &str) -> Dialect {
    let owner = all().into_iter().find(|dialect| (dialect.owns)(path));
    owner.expect("the last dialect owns every path")
}

/// A failure in the format of the dialect that owns a path.
pub fn failure_at(path: &str, failure: &Failure) -> Response {
    (owner(path).failure)(failure)
}
