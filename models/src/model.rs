//! A loaded model: network, recipe, readouts and description.
//!
//! Must not know: requests, wire formats, how it was loaded.

use std::sync::Arc;

use proxima_kernels::OpenDevice;

use crate::batch::Encoder;
use crate::info::{Capabilities, ModelInfo};
use crate::readout::{
    EmbeddingReadout, ListReadout, MultiVectorReadout, Pooling, ScoreReadout, SparseReadout,
};
use crate::recipes::Recipe;

/// What can be read out of a model; an unsupported readout is `None`.
#[derive(Debug, Default)]
pub struct Readouts {
    /// One vector per sequence.
    pub embedding: Option<EmbeddingReadout>,
    /// Logits per sequence: of a pair, or of a text's classes.
    pub score: Option<ScoreReadout>,
    /// Word weights.
    pub sparse: Option<SparseReadout>,
    /// One vector per token.
    pub multi: Option<MultiVectorReadout>,
    /// Vectors of a list's documents and its query.
    pub list: Option<ListReadout>,
}

/// A loaded model.
pub struct Model {
    /// Its description.
    pub info: ModelInfo,
    /// Inputs to sequences; shared by all devices that the model is on.
    pub recipe: Arc<dyn Recipe>,
    /// Sequences to hidden states.
    pub encoder: Box<dyn Encoder>,
    /// Hidden states to results.
    pub readouts: Readouts,
    /// The device it computes on; dropped last.
    pub device: OpenDevice,
}

impl Readouts {
    /// A description of the readouts that holds nothing on a device.
    pub fn capabilities(&self) -> Capabilities {
        Capabilities {
            embedding: self.embedding.as_ref().map(EmbeddingReadout::width),
            pooling: self
                .embedding
                .as_ref()
                .map(|readout| readout.pooling().to_vec())
                .unwrap_or_default(),
            labels: self.score.as_ref().map(|score| score.labels().to_vec()),
            sparse: self.sparse.is_some(),
            multi: self.multi.is_some(),
            lists: self.list.is_some(),
        }
    }
}

impl Model {
    /// Whether sequences may share the rows of a common prefix: the network is causal, and only
    /// last tokens are read.
    pub fn shares_prefixes(&self) -> bool {
        let readouts = &self.readouts;
        let mut poolings = readouts
            .embedding
            .iter()
            .flat_map(EmbeddingReadout::pooling)
            .copied()
            .chain(readouts.score.as_ref().map(ScoreReadout::pooling));
        let all = readouts.sparse.is_none() && readouts.multi.is_none() && readouts.list.is_none();
        self.encoder.is_causal() && all && poolings.all(|pooling| pooling == Pooling::Last)
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
