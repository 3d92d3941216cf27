//! Admission of requests to the queue. A request counts with an estimate while it is tokenised,
//! then with its real size, and is admitted as a whole or not at all.
//!
//! Must not know: what a job computes, wire formats.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proxima_models::Sequence;
use tokio::sync::oneshot;

use super::{Queue, QueueState, RATE_AT_FIRST};
use crate::admission::{Load, PriorityClass, RequestSize, fits, retry_after};
use crate::error::EngineError;
use crate::fair::ClientKey;
use crate::job::{Job, PendingVector, Reply, ResultReceiver, Vector, Waiter};
use crate::metrics::Observation;
use crate::ticket::Ticket;

/// Minimum time between sweeps for cancelled jobs: a sweep costs more than a rejection may.
const SWEEP_PAUSE: Duration = Duration::from_millis(250);
/// Fifths of `queue_time_max` that a request may be expected to wait when it is admitted. The rest
/// is slack for wrong estimates, as a request that has waited for all of it times out.
const EXPECTED_FIFTHS: u32 = 4;

/// An accepted request. The workers do not end before it is dropped.
pub struct Accepted<'a> {
    queue: &'a Queue,
}

impl Drop for Accepted<'_> {
    fn drop(&mut self) {
        self.queue.lock().active -= 1;
        self.queue.changed.notify_all();
    }
}

/// The tokenised inputs of a request, and the estimate that admission replaces with their real
/// size.
pub struct Prepared<'a> {
    /// One sequence per input.
    pub sequences: Vec<Sequence>,
    /// Their estimate in the queue.
    pub expected: Expected<'a>,
}

/// A request that is being tokenised. Until it is admitted or dropped, it counts with its estimate.
pub struct Expected<'a> {
    queue: &'a Queue,
    client: ClientKey,
    class: PriorityClass,
    size: RequestSize,
    ticket: Arc<Ticket>,
}

impl Expected<'_> {
    /// Sets the request's ticket.
    pub fn of(mut self, ticket: &Arc<Ticket>) -> Self {
        self.ticket = ticket.clone();
        self
    }

    /// The class it is treated as.
    pub fn class(&self) -> PriorityClass {
        self.class
    }

    /// Removes its estimate from the queue.
    fn take_from(&mut self, state: &mut QueueState) {
        let size = std::mem::take(&mut self.size);
        state.expected_tokens = state.expected_tokens.saturating_sub(size.tokens);
        state.ledger(self.class).remove(self.client, size.cost);
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        if self.size != RequestSize::default() {
            let queue = self.queue;
            self.take_from(&mut queue.lock());
        }
    }
}

impl Queue {
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

    /// Registers a request of about this size, before it is tokenised.
    ///
    /// # Errors
    /// If it would wait too long, or the queue has no capacity for it.
    pub fn expect(
        &self,
        client: ClientKey,
        size: RequestSize,
    ) -> Result<Expected<'_>, EngineError> {
        let mut state = self.lock();
        let mut refusal = self.refusal(&mut state, client, size);
        if refusal.is_some() && self.sweep_if_due(&mut state) > 0 {
            refusal = self.refusal(&mut state, client, size);
        }
        match refusal {
            None => Ok(self.note_expected(&mut state, client, size)),
            Some(seconds) => Err(overloaded(&mut state, &seconds)),
        }
    }

    /// The error of a request that has waited too long.
    pub fn overloaded(&self) -> EngineError {
        let mut state = self.lock();
        let seconds = self.seconds_to_drain(&state);
        overloaded(&mut state, &seconds)
    }

    /// Registers another part of a request that was already admitted.
    pub fn expect_more(&self, client: ClientKey, size: RequestSize) -> Expected<'_> {
        self.note_expected(&mut self.lock(), client, size)
    }

    fn note_expected(
        &self,
        state: &mut QueueState,
        client: ClientKey,
        size: RequestSize,
    ) -> Expected<'_> {
        let class = self.class(size.tokens);
        state.expected_tokens += size.tokens;
        state.ledger(class).add(client, size.cost);
        Expected { queue: self, client, class, size, ticket: Arc::default() }
    }

    /// If a request of about this size would be rejected now, the range of retry delays in seconds.
    fn refusal(
        &self,
        state: &mut QueueState,
        client: ClientKey,
        size: RequestSize,
    ) -> Option<Range<f64>> {
        let class = self.class(size.tokens);
        let computed = state.rate.map(|rate| rate * state.workers.at_work().max(1) as f64);
        let same_class = state.ledger(class).in_front(client, size.cost);
        let load = match class {
            PriorityClass::Interactive => Load { same_class, ahead: 0, rate: computed },
            PriorityClass::Bulk => Load {
                same_class,
                ahead: state.ledger(PriorityClass::Interactive).total(),
                rate: state.drain.rate().or(computed),
            },
        };
        let waiting = state.tokens + state.expected_tokens;
        // Its real size is not known yet, so a request that finds the queue empty may always try.
        if waiting > 0 && waiting.saturating_add(size.tokens) > self.config.queue_tokens_max {
            return Some(self.seconds_to_drain(state));
        }
        fits(load, self.config.queue_time_max / 5 * EXPECTED_FIFTHS).err()
    }

    /// Seconds until half, and until all, of the waiting work is done.
    fn seconds_to_drain(&self, state: &QueueState) -> Range<f64> {
        let rate = state.rate.unwrap_or(RATE_AT_FIRST) * state.workers.at_work().max(1) as f64;
        let seconds = state.cost as f64 / rate.max(1.0);
        seconds / 2.0..seconds
    }

    /// Admits an embedding request, as a whole or not at all.
    ///
    /// # Errors
    /// If its tokens do not fit into the queue, now or ever, or all workers have ended.
    pub fn admit_embeddings(
        &self,
        mut expected: Expected<'_>,
        sequences: Vec<Sequence>,
    ) -> Result<Vec<PendingVector>, EngineError> {
        let sequences: Vec<Arc<Sequence>> = sequences.into_iter().map(Arc::new).collect();
        let mut state = self.lock();
        expected.take_from(&mut state);
        let mut cached = Vec::with_capacity(sequences.len());
        let (mut fresh, mut tokens) = (HashSet::new(), 0);
        for sequence in &sequences {
            let hit = self.cached(&mut state, sequence);
            let known = state.in_flight.contains(sequence);
            if hit.is_none() && !known && fresh.insert(sequence.clone()) {
                tokens += sequence.tokens.len();
            }
            cached.push(hit);
        }
        self.check_room(&mut state, tokens)?;
        // A sweep in `check_room` may have dropped sequences that were in flight, so `join` looks
        // again.
        let (client, class, arrived) = (expected.client, self.class(tokens), Instant::now());
        let mut slots = Vec::with_capacity(sequences.len());
        for (sequence, hit) in sequences.into_iter().zip(cached) {
            if let Some(vector) = hit {
                slots.push(PendingVector::Cached(vector));
                continue;
            }
            let (waiter, answer) = oneshot::channel();
            slots.push(PendingVector::Waiting(answer));
            let ticket = expected.ticket.clone();
            if state.in_flight.join(&sequence, waiter, &ticket) {
                self.metrics.observe(Observation::Joined);
                continue;
            }
            state.push(Job { sequence, arrived, client, class, ticket, reply: Reply::Embedding });
        }
        self.announce(&state);
        Ok(slots)
    }

    fn cached(&self, state: &mut QueueState, sequence: &Sequence) -> Option<Vector> {
        if !state.cache.is_on() {
            return None;
        }
        let hit = state.cache.get(sequence);
        let found = if hit.is_some() { Observation::CacheHit } else { Observation::CacheMiss };
        self.metrics.observe(found);
        hit
    }

    /// Admits a request whose jobs have one waiter each, as a whole or not at all. `reply` selects
    /// the readout.
    ///
    /// # Errors
    /// If its tokens do not fit into the queue, now or ever, or all workers have ended.
    pub fn admit<T>(
        &self,
        mut expected: Expected<'_>,
        sequences: Vec<Sequence>,
        reply: impl Fn(Waiter<T>) -> Reply,
    ) -> Result<Vec<ResultReceiver<T>>, EngineError> {
        let tokens = sequences.iter().map(|sequence| sequence.tokens.len()).sum();
        let mut state = self.lock();
        expected.take_from(&mut state);
        self.check_room(&mut state, tokens)?;
        let (client, class, arrived) = (expected.client, self.class(tokens), Instant::now());
        let mut answers = Vec::with_capacity(sequences.len());
        for sequence in sequences {
            let (waiter, answer) = oneshot::channel();
            answers.push(answer);
            let (sequence, reply) = (Arc::new(sequence), reply(waiter));
            let ticket = expected.ticket.clone();
            state.push(Job { sequence, arrived, client, class, ticket, reply });
        }
        self.announce(&state);
        Ok(answers)
    }

    fn class(&self, tokens: usize) -> PriorityClass {
        match tokens <= self.config.interactive_tokens_max {
            true => PriorityClass::Interactive,
            false => PriorityClass::Bulk,
        }
    }

    fn announce(&self, state: &QueueState) {
        self.observe_depth(state);
        self.changed.notify_all();
    }

    fn check_room(&self, state: &mut QueueState, tokens: usize) -> Result<(), EngineError> {
        let limit = self.config.queue_tokens_max;
        if state.ended {
            return Err(EngineError::Failed { reason: "the worker has ended".into() });
        }
        if tokens > limit {
            return Err(EngineError::RequestTooLarge { tokens, limit });
        }
        if state.tokens + tokens > limit {
            self.sweep_if_due(state);
        }
        if state.tokens + tokens > limit {
            let seconds = self.seconds_to_drain(state);
            return Err(overloaded(state, &seconds));
        }
        Ok(())
    }

    /// Drops waiting jobs whose waiters have all disconnected, unless the last sweep was just now.
    /// Returns how many were dropped.
    fn sweep_if_due(&self, state: &mut QueueState) -> usize {
        if state.swept.is_some_and(|when| when.elapsed() < SWEEP_PAUSE) {
            return 0;
        }
        state.swept = Some(Instant::now());
        let QueueState { interactive, bulk, in_flight, .. } = state;
        let mut dropped = interactive.drop_unless(|job| in_flight.is_wanted(job));
        dropped.extend(bulk.drop_unless(|job| in_flight.is_wanted(job)));
        for job in &dropped {
            state.note_left(job);
            state.in_flight.forget(job);
            self.metrics.observe(Observation::Dropped);
        }
        dropped.len()
    }
}

fn overloaded(state: &mut QueueState, seconds: &Range<f64>) -> EngineError {
    EngineError::Overloaded { retry_after: retry_after(seconds, state.jitter.next()) }
}
