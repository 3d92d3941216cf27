//! A job: one sequence waiting for one result, and where that result is sent.
//!
//! Must not know: queues, wire formats.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proxima_models::Sequence;
use tokio::sync::oneshot;

use crate::admission::PriorityClass;
use crate::fair::ClientKey;
use crate::ticket::Ticket;

/// Why a job has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobError {
    /// Its output is not finite.
    NotFinite,
    /// The model failed.
    Failed(String),
}

/// A result and its timings.
#[derive(Debug, Clone)]
pub struct Computed<T> {
    /// The result.
    pub value: T,
    /// Time in the queue.
    pub queue: Duration,
    /// Run time of its batch.
    pub inference: Duration,
}

/// Sender of a job's result.
pub type Waiter<T> = oneshot::Sender<Result<Computed<T>, JobError>>;
/// Receiver of a job's result.
pub type ResultReceiver<T> = oneshot::Receiver<Result<Computed<T>, JobError>>;
/// A raw vector: pooled, but neither truncated nor normalised.
pub type Vector = Arc<[f32]>;

/// The readout a job asks for, which determines the type of its result.
#[derive(Debug)]
pub enum Reply {
    /// A vector, for all waiters of this sequence.
    Embedding,
    /// Every token's hidden state.
    Tokens(Waiter<Vec<Vec<f32>>>),
    /// Logits.
    Score(Waiter<Vec<f32>>),
    /// Sparse token weights.
    Sparse(Waiter<Vec<(u32, f32)>>),
    /// One vector per token.
    Multi(Waiter<Vec<Vec<f32>>>),
    /// A vector for each document of a list, then the query's.
    List(Waiter<Vec<Vec<f32>>>),
}

/// One sequence waiting for one result.
#[derive(Debug)]
pub struct Job {
    /// The sequence.
    pub sequence: Arc<Sequence>,
    /// When it was admitted.
    pub arrived: Instant,
    /// The client it belongs to.
    pub client: ClientKey,
    /// Its request's class.
    pub class: PriorityClass,
    /// Its request's ticket.
    pub ticket: Arc<Ticket>,
    /// The readout it asks for, and where the result goes.
    pub reply: Reply,
}

/// How an input of an admitted embedding request is answered.
#[derive(Debug)]
pub enum PendingVector {
    /// At once, from the cache.
    Cached(Vector),
    /// By a worker, once computed.
    Waiting(ResultReceiver<Vector>),
}
