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
    E2Rank,
    /// A query with a list of documents to a score for each (jina-reranker-v3).
    RankLists,
    /// A chat model that answers yes or no to whether a document fits a query (Qwen3-Reranker).
    Rerank,
    /// A classification head over a pair or a single text.
    Classify,
    /// Text to word weights, from the head of a masked language model (SPLADE).
    Sparse,
}

impl Task {
    /// What a checkpoint is for, according to its files; its name is the last resort.
    ///
    /// # Errors
    /// If the files do not tell.
    pub fn of(checkpoint: &Checkpoint, family: &Family) -> Result<Self, CheckpointError> {
        let architectures = checkpoint.architectures();
        // A module chain that pools yields vectors, whatever head its transformer was saved with.
        if checkpoint.sentence_transformers().is_some_and(|modules| modules.pooling().is_some()) {
            return Ok(Self::Embed);
        }
        if architectures.iter().any(|name| name.ends_with("ForSequenceClassification")) {
            return Ok(Self::Classify);
        }
        if checkpoint.sentence_transformers().is_some_and(|modules| modules.splade.is_some()) {
            return Ok(Self::Sparse);
        }
        let Some(language_model) = &family.language_model else { return Ok(Self::Embed) };
        if architectures.iter().any(|name| language_model.list_rankers.contains(name)) {
            return Ok(Self::RankLists);
        }
        if checkpoint.sentence_transformers().is_some_and(|modules| modules.logit_score.is_some()) {
            return Ok(Self::Rerank);
        }
        let names = checkpoint.names();
        if names.contains("e2rank") {
            return Ok(Self::E2Rank);
        }
        if architectures.iter().all(|name| language_model.embedders.contains(name)) {
            return Ok(Self::Embed);
        }
        // A causal language model: embedders and rerankers differ only in name.
        let reranks = ["rerank", "zerank"].iter().any(|name| names.contains(name));
        match (reranks, names.contains("embed")) {
            (true, _) => Ok(Self::Rerank),
            (false, true) => Ok(Self::Embed),
            (false, false) => Err(checkpoint.config_error(
                "a causal language model whose files do not specify a task; choose with --task \
                 (embed, rerank or e2rank)",
            )),
        }
    }
}
