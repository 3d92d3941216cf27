//! Jobs waiting for the worker: admission of whole requests, single flight, the next batch.
//!
//! Must not know: what a job computes, wire formats.

mod workers;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use proxima_models::Sequence;
use tokio::sync::{oneshot, watch};

use crate::batching::{Budget, Candidate, choose, cost};
use crate::cache::{Cache, CacheStats};
use crate::engine::EngineConfig;
use crate::error::EngineError;
use crate::job::{Answer, Computed, Job, JobError, Reply, Slot, Vector, Waiter};
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
/// Bounds of the advice when to come back.
const RETRY_AFTER: (f64, f64) = (1.0, 60.0);

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
    interactive: VecDeque<Job>,
    bulk: VecDeque<Job>,
    /// Tokens of both.
    tokens: usize,
    flights: HashMap<Arc<Sequence>, Vec<Waiter<Vector>>>,
    seats: Seats,
    cache: Cache,
    rate: Option<f64>,
    /// Above this cost a batch has not fitted into a device's memory.
    cost_limit: usize,
    /// Requests that were accepted and are not answered.
    active: usize,
    closing: bool,
    ended: bool,
}

impl State {
    /// Whether somebody still waits for a job.
    fn is_wanted(&self, job: &Job) -> bool {
        match &job.reply {
            Reply::Tokens(waiter) | Reply::Multi(waiter) => !waiter.is_closed(),
            Reply::Sparse(waiter) => !waiter.is_closed(),
            Reply::Score(waiter) => !waiter.is_closed(),
            Reply::Embedding => {
                let waiters = self.flights.get(&job.sequence);
                waiters.is_some_and(|waiters| waiters.iter().any(|waiter| !waiter.is_closed()))
            }
        }
    }

    fn drop_job(&mut self, job: &Job) {
        if matches!(job.reply, Reply::Embedding) {
            self.flights.remove(&job.sequence);
        }
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

/// A request that was accepted; the queue is not ended before it is dropped.
pub struct Accepted<'a> {
    queue: &'a Queue,
}

impl Drop for Accepted<'_> {
    fn drop(&mut self) {
        self.queue.lock().active -= 1;
        self.queue.changed.notify_all();
    }
}

impl Queue {
    /// An empty queue.
    pub fn new(config: EngineConfig, workers: Workers, metrics: Arc<dyn Metrics>) -> Self {
        let Workers { count, share: shares, rate } = workers;
        let state = Mutex::new(State {
            interactive: VecDeque::new(),
            bulk: VecDeque::new(),
            tokens: 0,
            flights: HashMap::new(),
            seats: Seats::new(count),
            cache: Cache::new(config.cache_bytes_max),
            rate,
            cost_limit: usize::MAX,
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

    /// Accepts a request, before it is tokenised.
    ///
    /// # Errors
    /// If the queue is closing.
    pub fn accept(&self) -> Result<Accepted<'_>, EngineError> {
        let mut state = self.lock();
        if state.closing || state.ended {
            return Err(EngineError::ShuttingDown);
        }
        state.active += 1;
        Ok(Accepted { queue: self })
    }

    /// Admits a request for vectors, whole or not at all.
    ///
    /// # Errors
    /// If its tokens do not fit the queue, now or ever.
    pub fn admit_embeddings(
        &self,
        sequences: Vec<Sequence>,
    ) -> Result<Vec<Slot<Vector>>, EngineError> {
        let sequences: Vec<Arc<Sequence>> = sequences.into_iter().map(Arc::new).collect();
        let mut state = self.lock();
        let mut cached = Vec::with_capacity(sequences.len());
        let (mut fresh, mut tokens) = (HashSet::new(), 0);
        for sequence in &sequences {
            let hit = if state.cache.is_on() {
                let hit = state.cache.get(sequence);
                let hit_or_miss =
                    if hit.is_some() { Observation::CacheHit } else { Observation::CacheMiss };
                self.metrics.observe(hit_or_miss);
                hit
            } else {
                None
            };
            let known = state.flights.contains_key(sequence);
            if hit.is_none() && !known && fresh.insert(sequence.clone()) {
                tokens += sequence.tokens.len();
            }
            cached.push(hit);
        }
        self.check_room(&mut state, tokens)?;
        // A sweep for room may have dropped flights that were to be joined: look again.
        let interactive = self.is_interactive(tokens);
        let arrived = Instant::now();
        let mut slots = Vec::with_capacity(sequences.len());
        for (sequence, hit) in sequences.into_iter().zip(cached) {
            if let Some(vector) = hit {
                slots.push(Slot::Ready(vector));
                continue;
            }
            let (waiter, answer) = oneshot::channel();
            slots.push(Slot::Waiting(answer));
            if let Some(waiters) = state.flights.get_mut(&sequence) {
                waiters.push(waiter);
                self.metrics.observe(Observation::Joined);
                continue;
            }
            state.flights.insert(sequence.clone(), vec![waiter]);
            self.push(&mut state, Job { sequence, arrived, reply: Reply::Embedding }, interactive);
        }
        self.announce(&state);
        Ok(slots)
    }

    /// Admits a request whose jobs answer one waiter each, whole or not at all; `reply` says what
    /// they want.
    ///
    /// # Errors
    /// If its tokens do not fit the queue, now or ever.
    pub fn admit<T>(
        &self,
        sequences: Vec<Sequence>,
        reply: impl Fn(Waiter<T>) -> Reply,
    ) -> Result<Vec<Answer<T>>, EngineError> {
        let tokens = sequences.iter().map(|sequence| sequence.tokens.len()).sum();
        let mut state = self.lock();
        self.check_room(&mut state, tokens)?;
        let (interactive, arrived) = (self.is_interactive(tokens), Instant::now());
        let mut answers = Vec::with_capacity(sequences.len());
        for sequence in sequences {
            let (waiter, answer) = oneshot::channel();
            answers.push(answer);
            let job = Job { sequence: Arc::new(sequence), arrived, reply: reply(waiter) };
            self.push(&mut state, job, interactive);
        }
        self.announce(&state);
        Ok(answers)
    }

    fn is_interactive(&self, tokens: usize) -> bool {
        tokens <= self.config.interactive_tokens_max
    }

    fn push(&self, state: &mut State, job: Job, interactive: bool) {
        state.tokens += job.sequence.tokens.len();
        let queue = if interactive { &mut state.interactive } else { &mut state.bulk };
        queue.push_back(job);
    }

    fn announce(&self, state: &State) {
        self.observe_depth(state);
        self.changed.notify_all();
    }

    fn observe_depth(&self, state: &State) {
        let jobs = state.interactive.len() + state.bulk.len();
        self.metrics.observe(Observation::QueueDepth { jobs, tokens: state.tokens });
    }

    fn check_room(&self, state: &mut State, tokens: usize) -> Result<(), EngineError> {
        let limit = self.config.queue_tokens_max;
        if state.ended {
            return Err(EngineError::Failed { reason: "the worker has ended".into() });
        }
        if tokens > limit {
            return Err(EngineError::RequestTooLarge { tokens, limit });
        }
        if state.tokens + tokens > limit {
            self.sweep(state);
        }
        if state.tokens + tokens > limit {
            return Err(EngineError::Overloaded { retry_after: retry_after(state) });
        }
        Ok(())
    }

    /// Drops waiting jobs that nobody wants any more.
    fn sweep(&self, state: &mut State) {
        for bulk in [false, true] {
            let queue = if bulk { &mut state.bulk } else { &mut state.interactive };
            let jobs = std::mem::take(queue);
            let (kept, dropped): (VecDeque<Job>, VecDeque<Job>) =
                jobs.into_iter().partition(|job| state.is_wanted(job));
            for job in dropped {
                state.tokens -= job.sequence.tokens.len();
                state.drop_job(&job);
                self.metrics.observe(Observation::Dropped);
            }
            *(if bulk { &mut state.bulk } else { &mut state.interactive }) = kept;
        }
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
            let candidate = |before: &mut Option<Arc<Sequence>>, job: &Job| {
                let before = before.replace(job.sequence.clone()).filter(|_| self.shares);
                Some(Candidate {
                    tokens: job.sequence.work(),
                    shared: before.map_or(0, |before| job.sequence.work_in_common(&before)),
                    waited: now.saturating_duration_since(job.arrived),
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
            let mut taken: Vec<Job> = state.interactive.drain(..choice.interactive).collect();
            taken.extend(state.bulk.drain(..choice.bulk));
            let mut jobs = Vec::with_capacity(taken.len());
            for job in taken {
                state.tokens -= job.sequence.tokens.len();
                if state.is_wanted(&job) {
                    let waited = now.saturating_duration_since(job.arrived);
                    self.metrics.observe(Observation::Dequeued { waited });
                    jobs.push(job);
                } else {
                    state.drop_job(&job);
                    self.metrics.observe(Observation::Dropped);
                }
            }
            self.observe_depth(state);
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
            idle => {
                let jobs = state.interactive.iter().chain(&state.bulk);
                jobs.map(|job| cost(job.sequence.work())).sum::<usize>().div_ceil(idle + 1)
            }
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

    /// Notes how fast a batch was.
    pub fn note_rate(&self, cost: usize, took: Duration) {
        let newest = cost as f64 / took.as_secs_f64().max(1e-6);
        let mut state = self.lock();
        let before = state.rate.unwrap_or(newest);
        state.rate = Some(before + RATE_STEP * (newest - before));
        state.cost_limit = state.cost_limit.saturating_add(state.cost_limit / COST_STEP);
    }

    /// Gives a vector, or why there is none, to all who wait for it, and keeps it.
    pub fn land(&self, sequence: &Arc<Sequence>, result: &Result<Computed<Vector>, JobError>) {
        let mut state = self.lock();
        let waiters = state.flights.remove(sequence).unwrap_or_default();
        if let Ok(computed) = result
            && state.cache.is_on()
        {
            state.cache.insert(sequence.clone(), computed.value.clone());
            let CacheStats { entries, bytes, .. } = state.cache.stats();
            self.metrics.observe(Observation::CacheSize { entries, bytes });
        }
        drop(state);
        for waiter in waiters {
            // A client that is gone by now is no loss.
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

fn retry_after(state: &State) -> Duration {
    let rate = state.rate.unwrap_or(RATE_AT_FIRST) * state.seats.at_work() as f64;
    let seconds = state.tokens as f64 / rate.max(1.0);
    Duration::from_secs(seconds.clamp(RETRY_AFTER.0, RETRY_AFTER.1).ceil() as u64)
}
