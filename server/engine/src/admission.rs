//! Admission control: whether a request is admitted, as a pure function of the work ahead of it,
//! the engine's rate, and its own estimated size.
//!
//! Must not know: clocks, threads, jobs.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::ops::Range;
use std::time::Duration;

use proxima_models::{Input, Prepare};

use crate::batching::cost;
use crate::fair::{CLIENTS_MAX, ClientKey};

/// Assumed bytes of text per token: fewer than tokenizers need for English, so that estimates for
/// ordinary texts are not too low.
const BYTES_OF_A_TOKEN: usize = 4;
/// Assumed special tokens per sequence.
const SPECIAL_TOKENS: usize = 2;
/// Assumed tokens per image or video file.
const TOKENS_OF_A_FILE: usize = 1_000;
/// Bounds of the suggested retry delay, in seconds.
const RETRY_AFTER_SECONDS: (f64, f64) = (1.0, 60.0);

/// The priority class of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PriorityClass {
    /// Small requests, which go first.
    Interactive,
    /// Large requests.
    Bulk,
}

/// The size of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequestSize {
    /// Tokens, by which memory is counted.
    pub tokens: usize,
    /// Cost in tokens of short sequences, by which time is counted.
    pub cost: usize,
}

impl RequestSize {
    /// The size of sequences of these lengths.
    pub fn of(lengths: impl Iterator<Item = usize>) -> Self {
        lengths.fold(Self::default(), |sum, tokens| sum.plus(Self { tokens, cost: cost(tokens) }))
    }

    /// The sum of both.
    pub fn plus(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_add(other.tokens),
            cost: self.cost.saturating_add(other.cost),
        }
    }

    /// Estimates the size of inputs from their bytes alone. Each is cut at the request's limit and
    /// the model's `tokens_max`, whichever is smaller.
    pub fn about(inputs: &[Input], how: &Prepare, tokens_max: usize) -> Self {
        let limit = how.tokens_max.map_or(tokens_max, |limit| limit.min(tokens_max));
        Self::of(inputs.iter().map(|input| match input {
            Input::Tokens(ids) => ids.len().min(limit),
            input => {
                let files = TOKENS_OF_A_FILE.saturating_mul(input.files().len());
                let texts = input.bytes() / BYTES_OF_A_TOKEN + SPECIAL_TOKENS;
                texts.saturating_add(files).min(limit)
            }
        }))
    }
}

/// Estimated tokens of `texts` texts with `bytes` bytes in total, each cut at `tokens_max`.
pub fn tokens_about(texts: usize, bytes: usize, tokens_max: usize) -> usize {
    let all = bytes / BYTES_OF_A_TOKEN + texts.saturating_mul(SPECIAL_TOKENS);
    all.min(texts.saturating_mul(tokens_max))
}

/// Work of each client that is waiting, whether tokenised yet or not.
#[derive(Debug, Default)]
pub struct Ledger {
    clients: HashMap<ClientKey, usize>,
    total: usize,
}

impl Ledger {
    /// Work of all clients together.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Adds work of a client.
    pub fn add(&mut self, client: ClientKey, cost: usize) {
        if cost > 0 {
            *self.clients.entry(client).or_default() += cost;
            self.total += cost;
        }
    }

    /// Removes work that was added.
    pub fn remove(&mut self, client: ClientKey, cost: usize) {
        let Some(waiting) = self.clients.get_mut(&client) else { return };
        let cost = cost.min(*waiting);
        *waiting -= cost;
        self.total -= cost;
        if *waiting == 0 {
            self.clients.remove(&client);
        }
    }

    /// Work that is done before a new request of this cost completes, besides its own: all the
    /// client's earlier work and, since clients take turns, at most as much of each other client as
    /// the client then has in total.
    pub fn in_front(&self, client: ClientKey, cost: usize) -> usize {
        let own = self.clients.get(&client).copied().unwrap_or(0);
        let turn = own.saturating_add(cost);
        if self.clients.len() > CLIENTS_MAX {
            return self.total;
        }
        let others = self.clients.iter().filter(|(key, _)| **key != client);
        own + others.map(|(_, waiting)| (*waiting).min(turn)).sum::<usize>()
    }
}

/// What is known when a request arrives.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Work of the request's class that is done before it.
    pub same_class: usize,
    /// Work of small requests ahead of a large request.
    pub ahead: usize,
    /// Measured work per second. Until it is known, no request is rejected for its expected wait.
    pub rate: Option<f64>,
}

/// Checks that the work ahead of a request is done within `time_max`. A request that has no work of
/// its class ahead of it is admitted, however large it is.
///
/// # Errors
/// A range of retry delays in seconds, to choose from at random so that rejected clients do not all
/// come back at once.
pub fn fits(load: Load, time_max: Duration) -> Result<(), Range<f64>> {
    let Some(rate) = load.rate.filter(|rate| *rate > 0.0) else { return Ok(()) };
    let seconds = (load.same_class + load.ahead) as f64 / rate;
    let over = seconds - time_max.as_secs_f64();
    if load.same_class == 0 || over <= 0.0 { Ok(()) } else { Err(over..over + seconds) }
}

/// Picks a retry delay from a range of seconds, by a random number from 0 to 1: whole seconds from
/// 1 to 60.
pub fn retry_after(delays: &Range<f64>, random: f64) -> Duration {
    let seconds = delays.start + (delays.end - delays.start) * random;
    let (shortest, longest) = RETRY_AFTER_SECONDS;
    Duration::from_secs(seconds.ceil().clamp(shortest, longest) as u64)
}

/// Random numbers from 0 to 1 that clients cannot predict.
#[derive(Debug)]
pub struct Jitter {
    seed: RandomState,
    count: u64,
}

impl Jitter {
    /// A generator with a seed of its own in each process.
    pub fn new() -> Self {
        Self { seed: RandomState::new(), count: 0 }
    }

    /// The next number.
    pub fn next(&mut self) -> f64 {
        self.count += 1;
        self.seed.hash_one(self.count) as f64 / u64::MAX as f64
    }
}

#[cfg(test)]
mod tests;
