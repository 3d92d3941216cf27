//! Whether a request is let in: a pure function of what waits in front of it, of how fast the
//! engine is, and of how large it is about to be.
//!
//! Must not know: clocks, threads, jobs.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use proxima_models::{Input, Prepare};

use crate::batching::cost;
use crate::fair::{CLIENTS_MAX, ClientKey};

/// Bytes of text that make a token, about: less than tokenizers need for English, so that
/// estimates are not too small where texts are ordinary.
const BYTES_OF_A_TOKEN: usize = 4;
/// Special tokens of a sequence, about.
const SPECIAL_TOKENS: usize = 2;
/// Tokens of an image or a video file, about.
const TOKENS_OF_A_FILE: usize = 1_000;
/// Bounds of the advice when to come back, in seconds.
const RETRY_AFTER_SECONDS: (f64, f64) = (1.0, 60.0);

/// Which requests go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Small requests.
    Interactive,
    /// Large ones.
    Bulk,
}

/// How much work a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Size {
    /// Tokens: what memory is counted by.
    pub tokens: usize,
    /// Work in tokens of short sequences: what time is counted by.
    pub cost: usize,
}

impl Size {
    /// Of sequences of these lengths.
    pub fn of(lengths: impl Iterator<Item = usize>) -> Self {
        lengths.fold(Self::default(), |sum, tokens| Self {
            tokens: sum.tokens.saturating_add(tokens),
            cost: sum.cost.saturating_add(cost(tokens)),
        })
    }

    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_add(other.tokens),
            cost: self.cost.saturating_add(other.cost),
        }
    }

    /// What it will be, about, by the bytes of inputs alone; each is cut at the model's
    /// `tokens_max`.
    pub fn about(inputs: &[Input], how: &Prepare, tokens_max: usize) -> Self {
        let limit = how.tokens_max.map_or(tokens_max, |limit| limit.min(tokens_max));
        let tokens = |input: &Input| match input {
            Input::Tokens(ids) => ids.len().min(limit),
            input => {
                let files = TOKENS_OF_A_FILE.saturating_mul(input.files().len());
                let texts = input.bytes() / BYTES_OF_A_TOKEN + SPECIAL_TOKENS;
                texts.saturating_add(files).min(limit)
            }
        };
        Self::of(inputs.iter().map(tokens))
    }
}

/// Tokens, about, of so many texts with so many bytes together, each cut at `tokens_max`.
pub fn tokens_about(texts: usize, bytes: usize, tokens_max: usize) -> usize {
    let all = bytes / BYTES_OF_A_TOKEN + texts.saturating_mul(SPECIAL_TOKENS);
    all.min(texts.saturating_mul(tokens_max))
}

/// Work that waits, of each client: admitted, tokenised or not.
#[derive(Debug, Default)]
pub struct Ledger {
    clients: HashMap<ClientKey, usize>,
    total: usize,
}

impl Ledger {
    /// Work of all clients.
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

    /// Takes work away that was added.
    pub fn remove(&mut self, client: ClientKey, cost: usize) {
        let Some(waiting) = self.clients.get_mut(&client) else { return };
        let cost = cost.min(*waiting);
        *waiting -= cost;
        self.total -= cost;
        if *waiting == 0 {
            self.clients.remove(&client);
        }
    }

    /// Work that is done before the last of a new request of this client, besides its own: all
    /// that it sent before, and of each other client as much, since they take turns.
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

/// What is known when a request asks to be let in.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Work of the request's class that is done before the request is.
    pub same_class: usize,
    /// Work of small requests in front of a large one.
    pub ahead: usize,
    /// Work a second, as measured; nothing is refused for time before that is known.
    pub rate: Option<f64>,
}

/// Whether what waits in front of a request is done within `time_max`; if not, the seconds until
/// that may be so, as a range to choose from at random: all who were refused must not come back at
/// once. A request that finds its class's queue empty is let in, however large it is.
///
/// # Errors
/// The range.
pub fn fits(load: Load, time_max: Duration) -> Result<(), (f64, f64)> {
    let Some(rate) = load.rate.filter(|rate| *rate > 0.0) else { return Ok(()) };
    let seconds = (load.same_class + load.ahead) as f64 / rate;
    let over = seconds - time_max.as_secs_f64();
    if load.same_class == 0 || over <= 0.0 { Ok(()) } else { Err((over, over + seconds)) }
}

/// When to come back, from a range of seconds: whole seconds from 1 to 60.
pub fn retry_after((least, most): (f64, f64), random: f64) -> Duration {
    let seconds = least + (most - least) * random;
    let (shortest, longest) = RETRY_AFTER_SECONDS;
    Duration::from_secs(seconds.ceil().clamp(shortest, longest) as u64)
}

/// Numbers from 0 to 1 that clients cannot foresee.
#[derive(Debug)]
pub struct Jitter {
    seed: RandomState,
    count: u64,
}

impl Jitter {
    /// Different numbers in each process.
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
