//! The queue of jobs waiting for a worker. `admit.rs` admits requests, `in_flight.rs` merges
//! identical inputs, `schedule.rs` chooses the next batch, `workers.rs` tracks the state of the
//! workers.
//!
//! Must not know: what a job computes, wire formats.

mod admit;
mod in_flight;
mod schedule;
mod workers;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use proxima_models::Sequence;
use tokio::sync::watch;

use crate::admission::{Jitter, Ledger, PriorityClass};
use crate::batching::cost;
use crate::cache::{Cache, CacheStats};
use crate::config::EngineConfig;
use crate::drain::Drain;
use crate::fair::FairQueue;
use crate::job::{Computed, Job, JobError, Vector};
use crate::metrics::{Metrics, Observation};
use crate::worker_slots::WorkerSlots;
use in_flight::InFlight;

/// Tokens per second assumed until a batch has been measured.
const RATE_AT_FIRST: f64 = 2_000.0;
pub use admit::{Accepted, Prepared};
pub use schedule::Next;

/// What a queue knows of its engine's workers.
#[derive(Debug, Clone, Copy)]
pub struct Workers {
    /// Number of workers.
    pub count: usize,
    /// Whether sequences of a batch share the rows of a common prefix.
    pub share: bool,
    /// Measured tokens per second of one worker.
    pub rate: Option<f64>,
}

struct QueueState {
    interactive: FairQueue<Job>,
    bulk: FairQueue<Job>,
    /// When a bulk job was last taken.
    bulk_taken: Instant,
    /// How fast bulk work leaves the queue.
    drain: Drain,
    /// Bulk work taken last, if more of it was waiting.
    draining: Option<usize>,
    /// Tokens waiting in both queues.
    tokens: usize,
    /// Cost of the jobs in both queues, in tokens of short sequences.
    cost: usize,
    /// Estimated tokens of requests that are being tokenised.
    expected_tokens: usize,
    /// Work of each client that is queued or being tokenised: of small requests, then of large
    /// ones.
    ledgers: [Ledger; 2],
    in_flight: InFlight,
    workers: WorkerSlots,
    cache: Cache,
    rate: Option<f64>,
    /// Maximum cost of a batch, lowered when one ran out of device memory.
    cost_limit: usize,
    /// When cancelled jobs were last swept from the queue.
    swept: Option<Instant>,
    jitter: Jitter,
    /// Requests accepted and not yet answered.
    active: usize,
    closing: bool,
    ended: bool,
}

impl Job {
    fn cost(&self) -> usize {
        cost(self.sequence.work())
    }
}

impl QueueState {
    fn ledger(&mut self, class: PriorityClass) -> &mut Ledger {
        match class {
            PriorityClass::Interactive => &mut self.ledgers[0],
            PriorityClass::Bulk => &mut self.ledgers[1],
        }
    }

    /// Adds a job to the queue.
    fn push(&mut self, job: Job) {
        let (client, class, cost) = (job.client, job.class, job.cost());
        self.tokens += job.sequence.tokens.len();
        self.cost += cost;
        self.ledger(class).add(client, cost);
        let queue = match class {
            PriorityClass::Interactive => &mut self.interactive,
            PriorityClass::Bulk => {
                if self.bulk.is_empty() {
                    // The bulk queue has run empty, by jobs taken or swept, so the measurement is
                    // void.
                    self.draining = None;
                }
                &mut self.bulk
            }
        };
        queue.push(client, job, cost);
    }

    /// Records that a job has left the queue.
    fn note_left(&mut self, job: &Job) {
        let cost = job.cost();
        self.tokens -= job.sequence.tokens.len();
        self.cost -= cost;
        self.ledger(job.class).remove(job.client, cost);
    }

    /// Drops all waiting jobs: no worker is left to compute them.
    fn clear(&mut self) {
        self.interactive.clear();
        self.bulk.clear();
        self.in_flight.clear();
        self.ledgers = Default::default();
        (self.tokens, self.cost, self.expected_tokens) = (0, 0, 0);
    }
}

/// The queue of one engine.
pub struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
    config: EngineConfig,
    shares: bool,
    metrics: Arc<dyn Metrics>,
    ended: watch::Sender<bool>,
    lost: watch::Sender<Option<String>>,
}

impl Queue {
    /// An empty queue.
    pub fn new(config: EngineConfig, workers: Workers, metrics: Arc<dyn Metrics>) -> Self {
        let Workers { count, share: shares, rate } = workers;
        let state = Mutex::new(QueueState {
            interactive: FairQueue::default(),
            bulk: FairQueue::default(),
            bulk_taken: Instant::now(),
            drain: Drain::default(),
            draining: None,
            tokens: 0,
            cost: 0,
            expected_tokens: 0,
            ledgers: Default::default(),
            in_flight: InFlight::default(),
            workers: WorkerSlots::new(count),
            cache: Cache::new(config.cache_bytes_max),
            rate,
            cost_limit: usize::MAX,
            swept: None,
            jitter: Jitter::new(),
            active: 0,
            closing: false,
            ended: false,
        });
        let (ended, lost) = (watch::channel(false).0, watch::channel(None).0);
        Self { state, changed: Condvar::new(), config, shares, metrics, ended, lost }
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        // No code panics between two changes that belong together, so poison is harmless.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn observe_depth(&self, state: &QueueState) {
        let jobs = state.interactive.len() + state.bulk.len();
        self.metrics.observe(Observation::QueueDepth { jobs, tokens: state.tokens });
    }

    /// Sends a vector, or why there is none, to all its waiters, and caches it.
    pub fn complete(&self, sequence: &Arc<Sequence>, result: &Result<Computed<Vector>, JobError>) {
        let mut state = self.lock();
        let waiters = state.in_flight.take(sequence);
        if let Ok(computed) = result
            && state.cache.is_on()
        {
            state.cache.insert(sequence.clone(), computed.value.clone());
            let CacheStats { entries, bytes, .. } = state.cache.stats();
            self.metrics.observe(Observation::CacheSize { entries, bytes });
        }
        drop(state);
        for waiter in waiters {
            // A client that has disconnected is no error.
            let _ = waiter.send(result.clone());
        }
    }

    /// Statistics of the vector cache.
    pub fn cache_stats(&self) -> CacheStats {
        self.lock().cache.stats()
    }

    /// Tokens waiting.
    pub fn tokens(&self) -> usize {
        self.lock().tokens
    }

    /// Stops accepting requests; the workers end when everything accepted is answered.
    pub fn close(&self) {
        self.lock().closing = true;
        self.changed.notify_all();
    }
}
