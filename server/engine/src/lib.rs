//! The inference engine: it turns requests into jobs, jobs into batches, and batches into answers.
//!
//! Must not know: HTTP, wire formats, files, the network, environment variables.

#![forbid(unsafe_code)]

mod admission;
pub mod batching;
mod cache;
mod config;
mod drain;
mod engine;
mod error;
mod fair;
mod inputs;
mod intake;
mod job;
mod lists;
mod metrics;
mod prefixes;
mod prepare;
mod queue;
mod registry;
mod replica;
mod request;
mod rerank;
mod tally;
mod threads;
mod ticket;
mod warm_up;
mod worker;
mod worker_slots;

pub use cache::CacheStats;
pub use config::EngineConfig;
pub use engine::Engine;
pub use error::{EngineError, Fault};
pub use fair::ClientKey;
pub use metrics::{DeviceEvent, Metrics, NoMetrics, Observation};
pub use registry::{
    LoadStep, NamesError, NotReady, NotServed, Registry, Slot, Stage, UnknownModel,
};
pub use replica::{Reload, Replica};
pub use request::{
    EmbedAllAnswer, EmbedAnswer, EmbedRequest, Listwise, PredictAnswer, PredictRequest,
    RerankAnswer, RerankMethod, RerankRequest, ScoreForm, SimilaritiesAnswer, SparseAnswer,
    Timings, TokensAnswer, TokensRequest,
};
pub use threads::NoThread;
pub use ticket::Caller;
pub use warm_up::WarmUp;
