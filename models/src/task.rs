//! What a checkpoint is for.
//!
//! Must not know: how it is loaded, requests.

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::families::Family;

/// What a checkpoint is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Text to vector.
    Embed,
    /// Text to vector, and a query with its candidates to a vector that ranks them (E2Rank).
    Listwise,
    /// A chat model that answers whether a document fits a query by yes or no (Qwen3-Reranker).
    YesNo,
    /// A classification head over a pair or a text.
    Score,
    /// Text to weights of words, by the head of a masked language model (SPLADE).
    Sparse,
}

impl Task {
    /// What a checkpoint's files say it is for. Its name is the last hint.
    ///
    /// # Errors
    /// If they leave it open.
    pub fn of(checkpoint: &Checkpoint, family: &Family) -> Result<Self, CheckpointError> {
        let architectures = checkpoint.architectures();
        // A chain that pools gives vectors, whatever head its transformer was saved with.
        if checkpoint.sentence_transformers().is_some_and(|it| it.pooling().is_some()) {
            return Ok(Self::Embed);
        }
        if architectures.iter().any(|name| name.ends_with("ForSequenceClassification")) {
            return Ok(Self::Score);
        }
        if checkpoint.sentence_transformers().is_some_and(|modules| modules.splade.is_some()) {
            return Ok(Self::Sparse);
        }
        let Some(language_model) = &family.language_model else { return Ok(Self::Embed) };
        if checkpoint.sentence_transformers().is_some_and(|it| it.logit_score.is_some()) {
            return Ok(Self::YesNo);
        }
        let names = checkpoint.names();
        if names.contains("e2rank") {
            return Ok(Self::Listwise);
        }
        if architectures.iter().all(|name| language_model.embedders.contains(name)) {
            return Ok(Self::Embed);
        }
        // A causal language model: an embedder and a reranker look alike but for their name.
        match (names.contains("rerank"), names.contains("embed")) {
            (true, _) => Ok(Self::YesNo),
            (false, true) => Ok(Self::Embed),
            (false, false) => Err(checkpoint.config_error(
                "a causal language model whose files do not say what it is for; choose with --task \
                 (embed, rerank or e2rank)",
            )),
        }
    }
}
