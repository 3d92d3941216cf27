//! Limits of an engine.
//!
//! Must not know: what they are compared with.

use std::time::Duration;

/// Limits of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// Maximum tokens of a batch. A longer single sequence still runs, alone.
    pub batch_tokens_max: usize,
    /// Target for the longest time a batch takes, which is what a small request may have to wait.
    pub batch_time_target: Duration,
    /// Requests of at most this many tokens are interactive and go before larger ones.
    pub interactive_tokens_max: usize,
    /// Maximum tokens waiting in the queue. A request that would exceed it is rejected as a whole.
    pub queue_tokens_max: usize,
    /// Maximum time a request waits before any of it is computed. A request that is expected to
    /// wait nearly this long is rejected as a whole; one that has waited this long times out. At
    /// zero, requests are admitted while nothing of their class waits, and none times out.
    pub queue_time_max: Duration,
    /// Maximum bytes of texts waiting to be tokenised. Requests with images or videos waiting to be
    /// decoded have a separate budget of the same size. A request that would exceed its budget is
    /// rejected as a whole.
    pub text_bytes_max: usize,
    /// Maximum inputs of a request.
    pub inputs_max: usize,
    /// Number of tokenisation threads, not counting one more that is reserved for small requests.
    pub tokenization_threads: usize,
    /// Size of the vector cache in bytes; 0 disables it.
    pub cache_bytes_max: usize,
    /// Size of each worker's prefix KV cache in bytes; 0 disables prefix sharing.
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
