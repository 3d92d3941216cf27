//! What a worker does next: the jobs of the next batch, chosen at the last moment, and how fast
//! workers are.
//!
//! Must not know: how requests were let in, what a job computes.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use proxima_models::Sequence;

use super::{Queue, RATE_AT_FIRST, State};
use crate::admission::Class;
use crate::batching::{Budget, Candidate, choose};
use crate::job::Job;
use crate::metrics::Observation;
use crate::worker_slots::CheckSender;

/// Weight of the newest batch in the running rate.
const RATE_STEP: f64 = 0.2;
/// The part by which batches grow, each, after one that did not fit into memory.
const COST_STEP: usize = 256;
/// Tokens a batch may always have: smaller ones waste the machine.
const BATCH_TOKENS_MIN: usize = 256;
/// A bulk job waits at most this long before it goes ahead of interactive ones.
const BULK_WAIT_MAX: Duration = Duration::from_millis(1_000);

/// What a worker does next.
pub enum Next {
    /// A health check for these.
    Check(Vec<CheckSender>),
    /// A batch.
    Batch(Vec<Job>),
    /// Nothing any more.
    End,
}

/// What jobs are weighed by when a batch is chosen.
struct Moment {
    now: Instant,
    /// When a job of a large request was last taken: these are held up by small ones from then on.
    bulk_taken: Instant,
    /// Whether rows that a job shares with the one before it are computed once.
    shares: bool,
}

impl Moment {
    /// Jobs of a queue, in its order, as the choice of a batch sees them.
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
                Class::Interactive => job.arrived,
                Class::Bulk => job.arrived.max(self.bulk_taken),
            };
            let waited = self.now.saturating_duration_since(since);
            Candidate { tokens: job.sequence.work(), shared, waited }
        })
    }
}

impl Queue {
    /// Waits for work for the worker of this slot. The choice is made at the last moment, so that a
    /// small request that came while a batch ran is in the very next one; laying a batch out takes
    /// microseconds.
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

    /// What does not wait for the batch that runs: health checks, and small requests.
    pub fn urgent(&self, slot: usize) -> Option<Next> {
        let mut state = self.lock();
        if let Some(senders) = state.workers.checks(slot) {
            return Some(Next::Check(senders));
        }
        let jobs = self.take_batch(&mut state, false);
        (!jobs.is_empty()).then_some(Next::Batch(jobs))
    }

    /// The next batch, of jobs of small requests alone unless `bulk` may be in it.
    fn take_batch(&self, state: &mut State, bulk: bool) -> Vec<Job> {
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
                let State { interactive, bulk, .. } = state;
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

    /// The cost a batch may have: what the worker does in the time a small request may be held up,
    /// and its part of what waits if others wait for work.
    fn cost_max(&self, state: &State) -> usize {
        let rate = state.rate.unwrap_or(RATE_AT_FIRST);
        let in_time = (rate * self.config.batch_time_target.as_secs_f64()) as usize;
        let part = match state.workers.idle {
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
}
