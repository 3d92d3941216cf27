//! Requests to jobs, jobs to batches, batches to answers.
//!
//! Must not know: HTTP, wire formats, files, the network, environment variables.

pub mod error;
pub mod metrics;
pub mod request;

pub use error::{EngineError, Fault};
pub use metrics::{Metrics, Observation};
pub use request::{EmbedAnswer, EmbedRequest, Timings, TokensAnswer, TokensRequest};
