//! The engine of one model: requests in, answers out.
//!
//! Must not know: wire formats, HTTP.

use std::sync::Arc;
use std::time::Duration;

use proxima_models::recipes::Token;
use proxima_models::{Model, ModelInfo, Prompt};

use crate::error::EngineError;
use crate::metrics::Metrics;
use crate::request::{EmbedAnswer, EmbedRequest, TokensAnswer, TokensRequest};

/// Limits of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// Tokens of one batch; a longer single sequence still runs, alone.
    pub batch_tokens_max: usize,
    /// Tokens waiting in the queue; a request that would go above is refused whole.
    pub queue_tokens_max: usize,
    /// Inputs of one request.
    pub inputs_max: usize,
    /// Threads that tokenise.
    pub tokenization_threads: usize,
    /// Bytes of the vector cache; 0 turns it off.
    pub cache_bytes_max: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            batch_tokens_max: 16_384,
            queue_tokens_max: 1_048_576,
            inputs_max: 2_048,
            tokenization_threads: 2,
            cache_bytes_max: 0,
        }
    }
}

/// What the vector cache did and holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheStats {
    /// Inputs answered from it.
    pub hits: u64,
    /// Inputs looked up and not found.
    pub misses: u64,
    /// Vectors held.
    pub entries: usize,
    /// Bytes held.
    pub bytes: usize,
    /// Bytes at most; 0 if off.
    pub bytes_max: usize,
}

/// The engine of one model. Cheap to clone; all clones are the same engine.
#[derive(Debug, Clone)]
pub struct Engine {
    model: Arc<Model>,
}

impl Engine {
    /// Starts the worker and tokenisation threads of a model.
    pub fn start(model: Model, config: EngineConfig, metrics: Arc<dyn Metrics>) -> Self {
        let _ = (config, metrics);
        Self { model: Arc::new(model) }
    }

    /// What the model tells of itself.
    pub fn info(&self) -> &ModelInfo {
        &self.model.info
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Vectors of some inputs. Dropping the future drops its jobs that have not run.
    ///
    /// # Errors
    /// See [`EngineError`]; a request is answered whole or not at all.
    pub async fn embed(&self, request: EmbedRequest) -> Result<EmbedAnswer, EngineError> {
        let _ = request;
        Err(EngineError::ShuttingDown)
    }

    /// Hidden states of every token of some inputs.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub async fn tokens(&self, request: TokensRequest) -> Result<TokensAnswer, EngineError> {
        let _ = request;
        Err(EngineError::ShuttingDown)
    }

    /// The tokens of some texts.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub async fn tokenize(
        &self,
        texts: Vec<String>,
        special_tokens: bool,
        prompt: Prompt,
    ) -> Result<Vec<Vec<Token>>, EngineError> {
        let _ = (texts, special_tokens, prompt);
        Err(EngineError::ShuttingDown)
    }

    /// The texts of some token ids.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub async fn decode(
        &self,
        ids: Vec<Vec<u32>>,
        skip_special_tokens: bool,
    ) -> Result<Vec<String>, EngineError> {
        let _ = (ids, skip_special_tokens);
        Err(EngineError::ShuttingDown)
    }

    /// Runs a real forward pass on the worker, past cache and queue limits, and checks that it is finite.
    ///
    /// # Errors
    /// What kept the pass from running.
    pub async fn check(&self) -> Result<Duration, EngineError> {
        Err(EngineError::ShuttingDown)
    }

    /// What the vector cache did and holds.
    pub fn cache_stats(&self) -> CacheStats {
        CacheStats::default()
    }

    /// Takes nothing new, and returns when everything accepted is answered.
    pub async fn shutdown(&self) {}
}
