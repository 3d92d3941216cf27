//! What the engine reports while it runs.
//!
//! Must not know: Prometheus, names or labels of metrics.

use std::time::Duration;

use crate::warm_up::WarmUp;

/// Receives observations. Called from many threads and on hot paths, so it must be cheap.
pub trait Metrics: Send + Sync {
    /// Records one observation.
    fn observe(&self, observation: Observation);

    /// Records a device event; rare.
    fn device(&self, event: DeviceEvent<'_>);
}

/// A change in the state of a device.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum DeviceEvent<'a> {
    /// It was measured when the engine started.
    Measured(WarmUp),
    /// A batch did not fit into its memory: its halves are retried, and later batches are smaller.
    OutOfMemory {
        /// Sequences in the batch.
        sequences: usize,
    },
    /// It no longer works.
    Failed {
        /// Its name.
        device: &'a str,
        /// What happened.
        reason: &'a str,
    },
    /// It was reopened, its model was reloaded, and it works again.
    Restarted {
        /// Its name.
        device: &'a str,
    },
    /// It failed for good.
    Lost {
        /// Its name.
        device: &'a str,
        /// What happened.
        reason: &'a str,
    },
}

/// A single observation.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Observation {
    /// Work in the queue that no batch has taken.
    QueueDepth {
        /// Jobs.
        jobs: usize,
        /// Tokens of these jobs.
        tokens: usize,
    },
    /// One input was tokenised.
    Tokenized {
        /// Tokens, special tokens included.
        tokens: usize,
        /// Whether it exceeded its limit and was cut.
        is_cut: bool,
        /// How long it took.
        took: Duration,
    },
    /// A request waited for a tokenisation thread.
    TokenizerWait {
        /// How long.
        waited: Duration,
    },
    /// A job left the queue for a batch.
    Dequeued {
        /// How long it waited.
        waited: Duration,
    },
    /// A batch ran.
    Batch {
        /// Sequences in the batch.
        sequences: usize,
        /// Tokens of all its sequences.
        tokens: usize,
        /// Rows computed for them: fewer if prefixes are shared or cached.
        rows: usize,
        /// How long the forward pass and the readout took.
        took: Duration,
    },
    /// A batch failed or panicked.
    BatchFailed {
        /// Sequences in the batch.
        sequences: usize,
    },
    /// An output was not finite.
    NotFinite,
    /// An input was answered from the vector cache.
    CacheHit,
    /// An input was looked up in the vector cache and not found.
    CacheMiss,
    /// Current size of the vector cache.
    CacheSize {
        /// Vectors.
        entries: usize,
        /// Bytes.
        bytes: usize,
    },
    /// Current size of a worker's prefix KV cache.
    PrefixSize {
        /// Bytes.
        bytes: usize,
    },
    /// An input joined a job already in flight for the same tokens.
    Joined,
    /// A job was dropped because all its clients had disconnected before it ran.
    Dropped,
}

/// Ignores everything.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoMetrics;

impl Metrics for NoMetrics {
    fn observe(&self, _: Observation) {}

    fn device(&self, _: DeviceEvent<'_>) {}
}
