//! Requests to jobs, jobs to batches, batches to answers.
//!
//! Must not know: HTTP, wire formats, files, the network, environment variables.

pub mod engine;
pub mod error;
pub mod metrics;
pub mod registry;
pub mod request;

pub use engine::{CacheStats, Engine, EngineConfig};
pub use error::{EngineError, Fault};
pub use metrics::{Metrics, Observation};
pub use registry::{Registry, UnknownModel};
pub use request::{EmbedAnswer, EmbedRequest, Timings, TokensAnswer, TokensRequest};
