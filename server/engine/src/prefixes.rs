//! Prefixes kept between batches: a reranker's preamble with its query, an instruction.
//!
//! Must not know: requests, what the tokens mean.

use std::collections::VecDeque;
use std::sync::Arc;

use proxima_models::{Prefix, Sequence};

/// Sequences remembered to see what later ones have in common with them.
const RECENT: usize = 32;
/// Tokens remembered of each.
const RECENT_TOKENS: usize = 4_096;

/// Keys and values of prefixes, the least recently used dropped first, and the sequences that show
/// which prefixes are worth keeping.
#[derive(Debug, Default)]
pub struct Prefixes {
    bytes_max: usize,
    bytes: usize,
    /// The least recently used first; what others go on from is used with them.
    kept: Vec<Arc<Prefix>>,
    recent: VecDeque<Arc<[u32]>>,
}

impl Prefixes {
    /// Keeps at most this many bytes; 0 keeps nothing.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, ..Self::default() }
    }

    /// Sequences of earlier batches.
    pub fn recent(&self) -> Vec<Arc<[u32]>> {
        self.recent.iter().cloned().collect()
    }

    /// Bytes kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The longest kept prefix of some tokens that leaves at least one of them.
    pub fn find(&mut self, tokens: &[u32]) -> Option<Arc<Prefix>> {
        let fits = |prefix: &&Arc<Prefix>| {
            prefix.tokens().len() < tokens.len() && tokens.starts_with(prefix.tokens())
        };
        let found = self.kept.iter().filter(fits).max_by_key(|prefix| prefix.tokens().len());
        let found = found?.clone();
        self.touch(&found);
        Some(found)
    }

    /// Moves a prefix and what it goes on from to the end, parents last, so that none is dropped
    /// before what goes on from it.
    fn touch(&mut self, prefix: &Arc<Prefix>) {
        let mut next = Some(prefix.clone());
        while let Some(prefix) = next {
            if let Some(at) = self.kept.iter().position(|other| Arc::ptr_eq(other, &prefix)) {
                let prefix = self.kept.remove(at);
                self.kept.push(prefix);
            }
            next = prefix.parent().cloned();
        }
    }

    /// Keeps what a batch gave.
    pub fn keep(&mut self, prefixes: Vec<Arc<Prefix>>) {
        for prefix in prefixes {
            let known = self.kept.iter().any(|other| other.tokens() == prefix.tokens());
            // What it goes on from would live on with it, counted by nobody.
            let is_kept = |parent: &Arc<Prefix>| self.kept.iter().any(|it| Arc::ptr_eq(it, parent));
            let orphan = prefix.parent().is_some_and(|parent| !is_kept(parent));
            // One that would drive out everything else is not worth it.
            if known || orphan || prefix.bytes() > self.bytes_max / 2 {
                continue;
            }
            self.bytes += prefix.bytes();
            self.kept.push(prefix.clone());
            self.touch(&prefix);
        }
        while self.bytes > self.bytes_max {
            self.bytes -= self.kept.remove(0).bytes();
        }
    }

    /// Remembers a sequence of a batch.
    pub fn remember(&mut self, sequence: &Sequence) {
        if self.bytes_max == 0 {
            return;
        }
        let tokens = &sequence.tokens[..sequence.tokens.len().min(RECENT_TOKENS)];
        self.recent.retain(|other| **other != *tokens);
        self.recent.push_back(tokens.into());
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
