//! External wire formats: each converts its bodies to engine requests and answers back, and formats
//! its errors. Each has its own folder, and an entry in one list.
//!
//! Must not know: how requests are computed; no limits, metrics or logic live here.

mod classes;
mod cohere;
mod dialect;
mod forms;
mod grpc;
mod inputs;
pub mod items;
mod jina;
mod list;
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
use tokio::sync::watch;

use crate::http::App;

pub use dialect::{Dialect, Purpose, SharedRoute};
pub use inputs::{Inputs, OneInput, Side};
pub use list::{all, failure_at, owner};

/// The dialects over gRPC, which have their own port; `stop` turns true on shutdown.
pub fn grpc(app: Arc<App>, stop: watch::Receiver<bool>) -> Router {
    grpc::router(app, stop)
}

#[cfg(test)]
mod tests;
