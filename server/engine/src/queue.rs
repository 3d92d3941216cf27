//! Jobs waiting for the worker: admission of whole requests, single flight, the next batch.
//!
//! Must not know: what a job computes, wire formats.

mod admit;
mod workers;

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use proxima_models::Sequence;
use tokio::sync::watch;

use crate::admission::{Class, Jitter, Ledger};
use crate::batching::{Budget, Candidate, choose, cost};
use crate::cache::{Cache, CacheStats};
use crate::drain::Drain;
use crate::engine::EngineConfig;
use crate::fair::FairQueue;
use crate::job::{Computed, Flight, Job, JobError, Reply, Vector};
use crate::metrics::{Metrics, Observation};
use crate::seats::{CheckSender, Seats};

/// Tokens a second assumed before the first batch was measured.
const RATE_AT_FIRST: f64 = 2_000.0;
/// Weight of the newest batch in the running rate.
const RATE_STEP: f64 = 0.2;
/// The part by which batches grow, each, after one that did not fit into memory.
const COST_STEP: usize = 256;
/// Tokens a batch may always have: smaller ones waste the machine.
const BATCH_TOKENS_MIN: usize = 256;
/// A bulk job waits at most this long before it goes ahead of interactive ones.
const BULK_WAIT_MAX: Duration = Duration::from_millis(1_000);

pub use admit::{Accepted, Expected};

/// What a worker does next.
pub enum Next {
    /// A health check for these.
    Check(Vec<CheckSender>),
    /// A batch.
    Batch(Vec<Job>),
    /// Nothing any more.
    End,
}

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
    flights: Flights,
    seats: Seats,
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

/// Who waits for the vectors of sequences.
type Flights = HashMap<Arc<Sequence>, Flight>;

impl Job {
    /// Whether somebody still waits for it.
    fn is_wanted(&self, flights: &Flights) -> bool {
        match &self.reply {
            Reply::Tokens(waiter) | Reply::Multi(waiter) => !waiter.is_closed(),
            Reply::Sparse(waiter) => !waiter.is_closed(),
            Reply::Score(waiter) => !waiter.is_closed(),
            Reply::Embedding => {
                let flight = flights.get(&self.sequence);
                let wants =
                    |flight: &Flight| flight.waiters.iter().any(|it| !it.waiter.is_closed());
                flight.is_some_and(wants)
            }
        }
    }

    /// It is being computed from now on.
    fn begin(&self, flights: &mut Flights) {
        self.ticket.begin();
        if matches!(self.reply, Reply::Embedding)
            && let Some(flight) = flights.get_mut(&self.sequence)
        {
            flight.begin();
        }
    }

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

    fn drop_flight(&mut self, job: &Job) {
        if matches!(job.reply, Reply::Embedding) {
            self.flights.remove(&job.sequence);
        }
    }

    /// Forgets all that waits: nobody will compute it.
    fn clear(&mut self) {
        self.interactive.clear();
        self.bulk.clear();
        self.flights.clear();
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
            flights: HashMap::new(),
            seats: Seats::new(count),
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

    /// Waits for work for the worker of this seat. The choice is made at the last moment, so that a
    /// small request that came while a batch ran is in the very next one; laying a batch out takes
    /// microseconds.
    pub fn next(&self, seat: usize) -> Next {
        let mut state = self.lock();
        loop {
            if let Some(senders) = state.seats.checks(seat) {
                return Next::Check(senders);
            }
            let jobs = self.take_batch(&mut state, true);
            if !jobs.is_empty() {
                return Next::Batch(jobs);
            }
            if state.closing && state.active == 0 {
                return Next::End;
            }
            state.seats.idle += 1;
            let woken = self.changed.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
            state.seats.idle -= 1;
        }
    }

    /// What does not wait for the batch that runs: health checks, and small requests.
    pub fn urgent(&self, seat: usize) -> Option<Next> {
        let mut state = self.lock();
        if let Some(senders) = state.seats.checks(seat) {
            return Some(Next::Check(senders));
        }
        let jobs = self.take_batch(&mut state, false);
        (!jobs.is_empty()).then_some(Next::Batch(jobs))
    }

    /// The next batch, of jobs of small requests alone unless `bulk` may be in it.
    fn take_batch(&self, state: &mut State, bulk: bool) -> Vec<Job> {
        loop {
            let now = Instant::now();
            // Large requests are held up by small ones while none of them is taken.
            let bulk_taken = state.bulk_taken;
            let candidate = |before: &mut Option<Arc<Sequence>>, job: &Job| {
                let before = before.replace(job.sequence.clone()).filter(|_| self.shares);
                let since = match job.class {
                    Class::Interactive => job.arrived,
                    Class::Bulk => job.arrived.max(bulk_taken),
                };
                Some(Candidate {
                    tokens: job.sequence.work(),
                    shared: before.map_or(0, |before| job.sequence.work_in_common(&before)),
                    waited: now.saturating_duration_since(since),
                })
            };
            let budget = Budget { cost_max: self.cost_max(state), bulk_wait_max: BULK_WAIT_MAX };
            let choice = choose(
                state.interactive.iter().scan(None, candidate),
                state.bulk.iter().filter(|_| bulk).scan(None, candidate),
                &budget,
            );
            if choice.interactive + choice.bulk == 0 {
                return Vec::new();
            }
            if choice.bulk > 0 {
                if let Some(cost) = state.draining.take() {
                    let took = now.saturating_duration_since(state.bulk_taken);
                    state.drain.note(cost, took);
                }
                state.bulk_taken = now;
            }
            let mut taken_of_bulk = 0;
            let mut jobs = Vec::with_capacity(choice.interactive + choice.bulk);
            for index in 0..choice.interactive + choice.bulk {
                let is_interactive = index < choice.interactive;
                let State { interactive, bulk, .. } = state;
                let job = if is_interactive { interactive.pop() } else { bulk.pop() };
                let job = job.expect("a chosen job is there");
                state.note_left(&job);
                taken_of_bulk += if is_interactive { 0 } else { job.cost() };
                if job.is_wanted(&state.flights) {
                    job.begin(&mut state.flights);
                    let waited = now.saturating_duration_since(job.arrived);
                    self.metrics.observe(Observation::Dequeued { waited });
                    jobs.push(job);
                } else {
                    state.drop_flight(&job);
                    self.metrics.observe(Observation::Dropped);
                }
            }
            self.observe_depth(state);
            if choice.bulk > 0 && !state.bulk.is_empty() {
                state.draining = Some(taken_of_bulk);
            }
            if !jobs.is_empty() {
                return jobs;
            }
        }
    }

    /// The cost a batch may have: what the worker does in the time a small request may be held up,
    /// and its part of what waits if others wait for work.
    fn cost_max(&self, state: &State) -> usize {
        let rate = state.rate.unwrap_or(RATE_AT_FIRST);
        let in_time = (rate * self.config.batch_time_target.as_secs_f64()) as usize;
        let part = match state.seats.idle {
            0 => usize::MAX,
            idle => state.cost.div_ceil(idle + 1),
        };
        let in_bounds = in_time.min(part).min(state.cost_limit).max(BATCH_TOKENS_MIN);
        in_bounds.min(self.config.batch_tokens_max)
    }

    /// Notes that a batch of this cost did not fit into a device's memory: the next ones are
    /// smaller, and grow again slowly.
    pub fn note_too_large(&self, cost: usize) {
        let mut state = self.lock();
        // What its sequences shared was counted once when it was chosen.
        let cost = cost.min(self.cost_max(&state));
        state.cost_limit = state.cost_limit.min(cost / 2).max(BATCH_TOKENS_MIN);
    }

    /// Notes how fast a batch was. A small one wastes the machine, so it tells only how fast that
    /// is at least: else a quiet hour would make the engine seem slow when many come.
    pub fn note_rate(&self, cost: usize, took: Duration) {
        let newest = cost as f64 / took.as_secs_f64().max(1e-6);
        let mut state = self.lock();
        let is_large = cost >= self.cost_max(&state) / 2;
        state.rate = match state.rate {
            None => is_large.then_some(newest),
            Some(before) if is_large || newest > before => {
                Some(before + RATE_STEP * (newest - before))
            }
            Some(before) => Some(before),
        };
        state.cost_limit = state.cost_limit.saturating_add(state.cost_limit / COST_STEP);
    }

    /// Gives a vector, or why there is none, to all who wait for it, and keeps it.
    pub fn land(&self, sequence: &Arc<Sequence>, result: &Result<Computed<Vector>, JobError>) {
        let mut state = self.lock();
        let flight = state.flights.remove(sequence).unwrap_or_default();
        if let Ok(computed) = result
            && state.cache.is_on()
        {
            state.cache.insert(sequence.clone(), computed.value.clone());
            let CacheStats { entries, bytes, .. } = state.cache.stats();
            self.metrics.observe(Observation::CacheSize { entries, bytes });
        }
        drop(state);
        for passenger in flight.waiters {
            // A client that is gone by now is no loss.
            let _ = passenger.waiter.send(result.clone());
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
