//! Limits of an engine.
//!
//! Must not know: what they are compared with.

use std::time::Duration;

/// Limits of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// Tokens of one batch; a longer single sequence still runs, alone.
    pub batch_tokens_max: usize,
    /// How long a batch should take at most: what a small request may have to wait for.
    pub batch_time_target: Duration,
    /// Requests of at most this many tokens go before larger ones.
    pub interactive_tokens_max: usize,
    /// Tokens waiting in the queue; a request that would go above is refused whole.
    pub queue_tokens_max: usize,
    /// How long a request may wait before any of it is computed. One that is expected to wait for
    /// nearly so long is refused whole, one that has waited for so long is given up. If it is zero,
    /// requests are let in where nothing of their kind waits, and none is given up.
    pub queue_time_max: Duration,
    /// Bytes of texts that wait to be tokenised, and as many of requests with images or videos that
    /// wait to be decoded; a request that would go above is refused whole.
    pub text_bytes_max: usize,
    /// Inputs of one request.
    pub inputs_max: usize,
    /// Threads that tokenise; one more does so for small requests alone.
    pub tokenization_threads: usize,
    /// Bytes of the vector cache; 0 turns it off.
    pub cache_bytes_max: usize,
    /// Bytes of keys and values kept of what sequences begin with in common; 0 turns sharing of
    /// rows off.
    pub prefix_bytes_max: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            batch_tokens_max: 32_768,
            batch_time_target: Duration::from_millis(250),
            interactive_tokens_max: 1_024,
            queue_tokens_max: 1_048_576,
            queue_time_max: Duration::from_secs(30),
            text_bytes_max: 256 * 1024 * 1024,
            inputs_max: 2_048,
            tokenization_threads: 2,
            cache_bytes_max: 0,
            prefix_bytes_max: 256 * 1024 * 1024,
        }
    }
}
