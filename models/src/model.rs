//! A loaded model: network, recipe and readouts, and what it tells of itself.
//!
//! Must not know: requests, wire formats, how it was loaded.

use std::sync::Arc;

use proxima_kernels::OpenDevice;

use crate::batch::Encoder;
use crate::info::{Capabilities, ModelInfo};
use crate::readout::{EmbeddingReadout, MultiVectorReadout, Pooling, ScoreReadout, SparseReadout};
use crate::recipes::Recipe;

/// What can be read out of a model; an absent capability is an absent value.
#[derive(Debug, Default)]
pub struct Readouts {
    /// One vector a sequence.
    pub embedding: Option<EmbeddingReadout>,
    /// Logits of a sequence: of a pair, or of a text's classes.
    pub score: Option<ScoreReadout>,
    /// Weights of words.
    pub sparse: Option<SparseReadout>,
    /// One vector a token.
    pub multi: Option<MultiVectorReadout>,
}

/// A loaded model.
pub struct Model {
    /// What it tells of itself.
    pub info: ModelInfo,
    /// Inputs to sequences; the same for a model that is on several devices.
    pub recipe: Arc<dyn Recipe>,
    /// Sequences to hidden states.
    pub encoder: Box<dyn Encoder>,
    /// Hidden states to answers.
    pub readouts: Readouts,
    /// Where it computes; dropped last.
    pub device: OpenDevice,
}

impl Readouts {
    /// What they are, without what is on a device.
    pub fn capabilities(&self) -> Capabilities {
        Capabilities {
            embedding: self.embedding.as_ref().map(EmbeddingReadout::width),
            pooling: self.embedding.as_ref().map(|it| it.pooling().to_vec()).unwrap_or_default(),
            labels: self.score.as_ref().map(|score| score.labels().to_vec()),
            sparse: self.sparse.is_some(),
            multi: self.multi.is_some(),
        }
    }
}

impl Model {
    /// Whether sequences that begin alike may share rows: the network is causal and only read at
    /// last tokens.
    pub fn shares_prefixes(&self) -> bool {
        let readouts = &self.readouts;
        let mut poolings = readouts
            .embedding
            .iter()
            .flat_map(EmbeddingReadout::pooling)
            .copied()
            .chain(readouts.score.as_ref().map(ScoreReadout::pooling));
        let all = readouts.sparse.is_none() && readouts.multi.is_none();
        self.encoder.is_causal() && all && poolings.all(|it| it == Pooling::Last)
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model")
            .field("info", &self.info)
            .field("readouts", &self.readouts)
            .finish_non_exhaustive()
    }
}
