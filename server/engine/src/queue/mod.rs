//! Jobs waiting for a worker. `admit.rs` lets requests in, `in_flight.rs` joins identical inputs,
//! `schedule.rs` chooses the next batch, `workers.rs` knows what became of the workers.
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

use crate::admission::{Class, Jitter, Ledger};
use crate::batching::cost;
use crate::cache::{Cache, CacheStats};
use crate::config::EngineConfig;
use crate::drain::Drain;
use crate::fair::FairQueue;
use crate::job::{Computed, Job, JobError, Vector};
use crate::metrics::{Metrics, Observation};
use crate::worker_slots::WorkerSlots;
use in_flight::InFlight;

/// Tokens a second assumed before the first batch was measured.
const RATE_AT_FIRST: f64 = 2_000.0;
pub use admit::{Accepted, Prepared};
pub use schedule::Next;

/// What a queue is told of the engine it is of.
#[derive(Debug, Clone, Copy)]
pub struct Workers {
    /// How many take jobs.
    pub count: usize,
    /// Whether what sequences of a batch begin with in common is computed once.
    pub share: bool,
    /// Tokens a second that one was measured to compute.
    pub rate: Option<f64>,
}

struct State {
    interactive: FairQueue<Job>,
    bulk: FairQueue<Job>,
    /// When a job of a large request was last taken.
    bulk_taken: Instant,
    /// How fast these leave.
    drain: Drain,
    /// Work of large requests that was taken last, if more of it waited.
    draining: Option<usize>,
    /// Tokens of both.
    tokens: usize,
    /// Work of both, in tokens of short sequences.
    cost: usize,
    /// Tokens, about, of requests that are being tokenised.
    expected_tokens: usize,
    /// Work of each client that waits or is being tokenised, of small requests and of large ones.
    ledgers: [Ledger; 2],
    in_flight: InFlight,
    workers: WorkerSlots,
    cache: Cache,
    rate: Option<f64>,
    /// Above this cost a batch has not fitted into a device's memory.
    cost_limit: usize,
    /// When waiting jobs that nobody wants were last looked for.
    swept: Option<Instant>,
    jitter: Jitter,
    /// Requests that were accepted and are not answered.
    active: usize,
    closing: bool,
    ended: bool,
}

impl Job {
    fn cost(&self) -> usize {
        cost(self.sequence.work())
    }
}

impl State {
    fn ledger(&mut self, class: Class) -> &mut Ledger {
        match class {
            Class::Interactive => &mut self.ledgers[0],
            Class::Bulk => &mut self.ledgers[1],
        }
    }

    /// Adds a job to those that wait.
    fn push(&mut self, job: Job) {
        let (client, class, cost) = (job.client, job.class, job.cost());
        self.tokens += job.sequence.tokens.len();
        self.cost += cost;
        self.ledger(class).add(client, cost);
        let queue = match class {
            Class::Interactive => &mut self.interactive,
            Class::Bulk => {
                if self.bulk.is_empty() {
                    // All that waited has left, or nobody wanted it.
                    self.draining = None;
                }
                &mut self.bulk
            }
        };
        queue.push(client, job, cost);
    }

    /// Notes that a job no longer waits.
    fn note_left(&mut self, job: &Job) {
        let cost = job.cost();
        self.tokens -= job.sequence.tokens.len();
        self.cost -= cost;
        self.ledger(job.class).remove(job.client, cost);
    }

    /// Forgets all that waits: nobody will compute it.
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
    state: Mutex<State>,
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
        let state = Mutex::new(State {
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

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn observe_depth(&self, state: &State) {
        let jobs = state.interactive.len() + state.bulk.len();
        self.metrics.observe(Observation::QueueDepth { jobs, tokens: state.tokens });
    }

    /// Gives a vector, or why there is none, to all who wait for it, and keeps it.
    pub fn land(&self, sequence: &Arc<Sequence>, result: &Result<Computed<Vector>, JobError>) {
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
            // A client that disconnected meanwhile is no error.
            let _ = waiter.send(result.clone());
        }
    }

    /// What the vector cache did and holds.
    pub fn cache_stats(&self) -> CacheStats {
        self.lock().cache.stats()
    }

    /// Tokens waiting.
    pub fn tokens(&self) -> usize {
        self.lock().tokens
    }

    /// Takes nothing new; the worker ends when everything accepted is answered.
    pub fn close(&self) {
        self.lock().closing = true;
        self.changed.notify_all();
    }
}
