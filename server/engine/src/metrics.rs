//! What the engine tells of itself while it runs.
//!
//! Must not know: Prometheus, names or labels of metrics.

use std::time::Duration;

use crate::warm_up::WarmUp;

/// Takes observations; called from many threads and on hot paths, so it must be cheap.
pub trait Metrics: Send + Sync {
    /// Takes one observation.
    fn observe(&self, observation: Observation);

    /// Takes note of what became of a device; rare.
    fn device(&self, event: DeviceEvent<'_>);
}

/// What became of a device.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum DeviceEvent<'a> {
    /// It was measured when the engine started.
    Measured(WarmUp),
    /// A batch did not fit into its memory: its halves are tried, and later ones are smaller.
    OutOfMemory {
        /// Sequences in it.
        sequences: usize,
    },
    /// It computes nothing any more.
    Failed {
        /// Its name.
        device: &'a str,
        /// What happened.
        reason: &'a str,
    },
    /// It was opened anew, with the model, and computes.
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

/// One thing the engine saw.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Observation {
    /// The queue now holds this much that no batch has taken.
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
        /// Whether it was longer than its limit, and was cut.
        is_cut: bool,
        /// How long it took.
        took: Duration,
    },
    /// A request waited for a thread that tokenises.
    TokenizerWait {
        /// How long.
        waited: Duration,
    },
    /// A job left the queue for a batch.
    Dequeued {
        /// How long it waited.
        waited: Duration,
    },
    /// A batch was run.
    Batch {
        /// Sequences in it.
        sequences: usize,
        /// Tokens asked for.
        tokens: usize,
        /// Rows computed for them: fewer, where sequences share what they begin with.
        rows: usize,
        /// How long the forward pass and the readout took.
        took: Duration,
    },
    /// A batch failed or panicked.
    BatchFailed {
        /// Sequences in it.
        sequences: usize,
    },
    /// A vector was not finite.
    NotFinite,
    /// An input was answered from the vector cache.
    CacheHit,
    /// An input was looked up in the vector cache and not found.
    CacheMiss,
    /// The vector cache now holds this much.
    CacheSize {
        /// Vectors.
        entries: usize,
        /// Bytes.
        bytes: usize,
    },
    /// Keys and values kept of prefixes are now this large.
    PrefixSize {
        /// Bytes.
        bytes: usize,
    },
    /// An input joined a job already in flight for the same tokens.
    Joined,
    /// A job's clients were all gone before it ran; it was dropped.
    Dropped,
}

/// Takes nothing down.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoMetrics;

impl Metrics for NoMetrics {
    fn observe(&self, _: Observation) {}

    fn device(&self, _: DeviceEvent<'_>) {}
}
