//! Scheduling: chooses what a worker does next, including the jobs of its next batch, and tracks
//! how fast workers are.
//!
//! Must not know: how requests are admitted, what a job computes.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use proxima_models::Sequence;

use super::{Queue, QueueState, RATE_AT_FIRST};
use crate::admission::PriorityClass;
use crate::batching::{Budget, Candidate, choose};
use crate::job::Job;
use crate::metrics::Observation;
use crate::worker_slots::CheckSender;

/// Weight of the newest batch in the moving average of the rate.
const RATE_STEP: f64 = 0.2;
/// After a batch ran out of memory, each batch that succeeds raises the cost limit by one part in
/// this many.
const COST_STEP: usize = 256;
/// Cost a batch may always have unless configured lower: smaller ones waste the device.
const BATCH_TOKENS_MIN: usize = 256;
/// A bulk job waits at most this long before it goes ahead of interactive ones.
const BULK_WAIT_MAX: Duration = Duration::from_millis(1_000);

/// What a worker does next.
pub enum Next {
    /// A health check, with the senders to answer.
    Check(Vec<CheckSender>),
    /// A batch.
    Batch(Vec<Job>),
    /// Nothing: the worker ends.
    End,
}

/// What turning jobs into candidates for a batch depends on.
struct Moment {
    now: Instant,
    /// When a bulk job was last taken: only since then have interactive jobs held up the bulk jobs.
    bulk_taken: Instant,
    /// Whether a job shares the rows of its common prefix with the job before it.
    shares: bool,
}

impl Moment {
    /// Jobs of a queue, in order, as candidates for a batch.
    fn candidates<'a>(
        &self,
        jobs: impl Iterator<Item = &'a Job>,
    ) -> impl Iterator<Item = Candidate> {
        let mut before: Option<&'a Arc<Sequence>> = None;
        jobs.map(move |job| {
            let shared = match before.replace(&job.sequence) {
                Some(before) if self.shares => job.sequence.work_in_common(before),
                _ => 0,
            };
            let since = match job.class {
                PriorityClass::Interactive => job.arrived,
                PriorityClass::Bulk => job.arrived.max(self.bulk_taken),
            };
            let waited = self.now.saturating_duration_since(since);
            Candidate { tokens: job.sequence.work(), shared, waited }
        })
    }
}

impl Queue {
    /// Waits for work for the worker in this slot. The batch is chosen as late as possible, so that
    /// a small request that arrived while a batch ran is in the very next one; laying a batch out
    /// takes microseconds.
    pub fn next(&self, slot: usize) -> Next {
        let mut state = self.lock();
        loop {
            if let Some(senders) = state.workers.checks(slot) {
                return Next::Check(senders);
            }
            let jobs = self.take_batch(&mut state, true);
            if !jobs.is_empty() {
                return Next::Batch(jobs);
            }
            if state.closing && state.active == 0 {
                return Next::End;
            }
            state.workers.idle += 1;
            let woken = self.changed.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
            state.workers.idle -= 1;
        }
    }

    /// Work that does not wait for the running batch to end: health checks and small requests.
    pub fn urgent(&self, slot: usize) -> Option<Next> {
        let mut state = self.lock();
        if let Some(senders) = state.workers.checks(slot) {
            return Some(Next::Check(senders));
        }
        let jobs = self.take_batch(&mut state, false);
        (!jobs.is_empty()).then_some(Next::Batch(jobs))
    }

    /// Takes the next batch. It has only interactive jobs unless `bulk` is set.
    fn take_batch(&self, state: &mut QueueState, bulk: bool) -> Vec<Job> {
        loop {
            let now = Instant::now();
            let moment = Moment { now, bulk_taken: state.bulk_taken, shares: self.shares };
            let budget = Budget { cost_max: self.cost_max(state), bulk_wait_max: BULK_WAIT_MAX };
            let choice = choose(
                moment.candidates(state.interactive.iter()),
                moment.candidates(state.bulk.iter().filter(|_| bulk)),
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
                let QueueState { interactive, bulk, .. } = state;
                let job = if is_interactive { interactive.pop() } else { bulk.pop() };
                let job = job.expect("a chosen job is there");
                state.note_left(&job);
                taken_of_bulk += if is_interactive { 0 } else { job.cost() };
                if state.in_flight.is_wanted(&job) {
                    state.in_flight.begin(&job);
                    let waited = now.saturating_duration_since(job.arrived);
                    self.metrics.observe(Observation::Dequeued { waited });
                    jobs.push(job);
                } else {
                    state.in_flight.forget(&job);
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

    /// The maximum cost of a batch: what the worker computes in the target time of a batch, and if
    /// other workers are idle, no more than an even share of the waiting work.
    fn cost_max(&self, state: &QueueState) -> usize {
        let rate = state.rate.unwrap_or(RATE_AT_FIRST);
        let in_time = (rate * self.config.batch_time_target.as_secs_f64()) as usize;
        let part = match state.workers.idle {
            0 => usize::MAX,
            idle => state.cost.div_ceil(idle + 1),
        };
        let in_bounds = in_time.min(part).min(state.cost_limit).max(BATCH_TOKENS_MIN);
        in_bounds.min(self.config.batch_tokens_max)
    }

    /// Records that a batch of this cost did not fit into a device's memory. Later batches are
    /// smaller, and grow again slowly.
    pub fn note_too_large(&self, cost: usize) {
        let mut state = self.lock();
        // `cost` counts a shared prefix once per sequence; the choice of the batch counted it once.
        let cost = cost.min(self.cost_max(&state));
        state.cost_limit = state.cost_limit.min(cost / 2).max(BATCH_TOKENS_MIN);
    }

    /// Records how fast a batch was. A small batch underuses the device, so it only gives a lower
    /// bound of the rate; otherwise the engine would seem slow after a quiet hour.
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
}
