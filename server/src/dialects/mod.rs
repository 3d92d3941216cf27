//! External wire formats: each converts its bodies to engine requests and answers back, and formats
//! its errors. Each has its own folder, and an entry in one list.
//!
//! Must not know: how requests are computed; no limits, metrics or logic live here.

mod classes;
mod cohere;
mod forms;
mod grpc;
mod inputs;
pub mod items;
mod jina;
pub mod misspelt;
pub mod object;
mod openai;
mod ranking;
mod schema;
pub mod shared;
mod status;
mod tei;
mod token_ids;
mod vectors;
mod vllm;
mod voyage;
mod weaviate;

use std::sync::Arc;

use axum::Router;
use axum::response::Response;
use tokio::sync::watch;

use crate::http::{App, Failure, Routes};

pub use inputs::{Inputs, OneInput, Side};
pub use shared::{Purpose, SharedRoute};

/// One wire format.
pub struct Dialect {
    /// Its name.
    pub name: &'static str,
    /// Whether it owns a path, so that errors before any handler have its format.
    pub owns: fn(&str) -> bool,
    /// Its handlers.
    pub routes: fn() -> Routes,
    /// Its part in paths that several dialects share.
    pub shared: fn() -> Vec<SharedRoute>,
    /// Its error responses.
    pub failure: fn(&Failure) -> Response,
    /// The name of their schema in the OpenAPI document.
    pub error: &'static str,
    /// Its part of the OpenAPI document.
    pub openapi: fn() -> utoipa::openapi::OpenApi,
}

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

/// The dialects over gRPC, which have their own port; `stop` turns true on shutdown.
pub fn grpc(app: Arc<App>, stop: watch::Receiver<bool>) -> Router {
    grpc::router(app, stop)
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

#[cfg(test)]
mod tests;
