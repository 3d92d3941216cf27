//! One sequence waiting for one answer, and how it gets it.
//!
//! Must not know: queues, wire formats.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proxima_models::Sequence;
use tokio::sync::oneshot;

use crate::admission::Class;
use crate::fair::ClientKey;
use crate::ticket::Ticket;

/// Why one job has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobError {
    /// Its output is not finite.
    NotFinite,
    /// The model failed.
    Failed(String),
}

/// A result with what it took.
#[derive(Debug, Clone)]
pub struct Computed<T> {
    /// The result.
    pub value: T,
    /// Time in the queue.
    pub queue: Duration,
    /// Time of its batch.
    pub inference: Duration,
}

/// Where a result goes.
pub type Waiter<T> = oneshot::Sender<Result<Computed<T>, JobError>>;
/// Where a result comes from.
pub type Answer<T> = oneshot::Receiver<Result<Computed<T>, JobError>>;
/// A raw vector: pooled, neither cut nor normalised.
pub type Vector = Arc<[f32]>;

/// Which readout a job wants; with it the type of its answer.
#[derive(Debug)]
pub enum Reply {
    /// A vector, for all who wait for this sequence.
    Embedding,
    /// Every token's hidden state.
    Tokens(Waiter<Vec<Vec<f32>>>),
    /// Logits.
    Score(Waiter<Vec<f32>>),
    /// Weights of words.
    Sparse(Waiter<Vec<(u32, f32)>>),
    /// One vector a token.
    Multi(Waiter<Vec<Vec<f32>>>),
}

/// One sequence waiting for one answer.
#[derive(Debug)]
pub struct Job {
    /// The sequence.
    pub sequence: Arc<Sequence>,
    /// When it was admitted.
    pub arrived: Instant,
    /// Whose it is.
    pub client: ClientKey,
    /// Its request's class.
    pub class: Class,
    /// Its request's ticket.
    pub ticket: Arc<Ticket>,
    /// What it wants.
    pub reply: Reply,
}

/// How an input of an admitted request is answered.
#[derive(Debug)]
pub enum PendingVector {
    /// At once, from the cache.
    Cached(Vector),
    /// When the worker is done with it.
    Waiting(Answer<Vector>),
}
