//! The prefix KV cache: prefixes reused across batches, such as an instruction, or a reranker's
//! preamble with its query.
//!
//! Must not know: requests, what the tokens mean.

use std::collections::VecDeque;
use std::sync::Arc;

use proxima_models::{Prefix, Sequence};

/// Number of recent sequences remembered, to detect prefixes that later ones share with them.
const RECENT: usize = 32;
/// Tokens remembered of each.
const RECENT_TOKENS: usize = 4_096;

/// An LRU cache of prefix KV, with the recent sequences that show which prefixes are worth caching.
#[derive(Debug, Default)]
pub struct Prefixes {
    bytes_max: usize,
    bytes: usize,
    /// Least recently used first. Using a prefix also uses those it continues.
    cached: Vec<Arc<Prefix>>,
    recent: VecDeque<Arc<[u32]>>,
}

impl Prefixes {
    /// A cache of at most this many bytes; 0 disables it.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, ..Self::default() }
    }

    /// Sequences of earlier batches.
    pub fn recent(&self) -> Vec<Arc<[u32]>> {
        self.recent.iter().cloned().collect()
    }

    /// Bytes cached.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The longest cached prefix of `tokens` that leaves at least one of them to compute.
    pub fn find(&mut self, tokens: &[u32]) -> Option<Arc<Prefix>> {
        let fitting = self.cached.iter().filter(|prefix| {
            prefix.tokens().len() < tokens.len() && tokens.starts_with(prefix.tokens())
        });
        let found = fitting.max_by_key(|prefix| prefix.tokens().len())?.clone();
        self.touch(&found);
        Some(found)
    }

    /// Moves a prefix and its ancestors to the end, ancestors last, so that none is evicted before
    /// its descendants.
    fn touch(&mut self, prefix: &Arc<Prefix>) {
        let mut next = Some(prefix.clone());
        while let Some(prefix) = next {
            if let Some(at) = self.cached.iter().position(|other| Arc::ptr_eq(other, &prefix)) {
                let prefix = self.cached.remove(at);
                self.cached.push(prefix);
            }
            next = prefix.parent().cloned();
        }
    }

    /// Caches the prefixes that a batch returned.
    pub fn insert(&mut self, prefixes: Vec<Arc<Prefix>>) {
        for prefix in prefixes {
            let known = self.cached.iter().any(|other| other.tokens() == prefix.tokens());
            // A parent that is not cached would stay alive through it without being counted.
            let is_cached =
                |parent: &Arc<Prefix>| self.cached.iter().any(|cached| Arc::ptr_eq(cached, parent));
            let orphan = prefix.parent().is_some_and(|parent| !is_cached(parent));
            // A prefix that takes most of the cache is not worth it.
            if known || orphan || prefix.bytes() > self.bytes_max / 2 {
                continue;
            }
            self.bytes += prefix.bytes();
            self.cached.push(prefix.clone());
            self.touch(&prefix);
        }
        while self.bytes > self.bytes_max {
            self.bytes -= self.cached.remove(0).bytes();
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
