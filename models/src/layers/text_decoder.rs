//! A decoder of texts: an embedding table, rotary positions and the layers.
//!
//! Must not know: any one family.

use proxima_kernels::KernelError;
use proxima_kernels::ops::embedding::Embedding;
use proxima_kernels::ops::linear::Linear;
use proxima_kernels::ops::rows::Rows;

use super::{Decoder, DecoderConfig, Loader, Rotary, RotaryRule, Rotation};
use crate::batch::{Encoder, HiddenStates, RaggedBatch};
use crate::checkpoint::CheckpointError;

/// A decoder with its embedding table.
#[derive(Debug)]
pub struct TextDecoder {
    embedding: Embedding,
    /// Factor of the embeddings.
    scale: Option<f64>,
    decoder: Decoder,
    rotary: Rotary,
    /// Applied to each token's last hidden state.
    projection: Option<Linear>,
}

impl TextDecoder {
    /// Loads the decoder and `embed_tokens.weight` under the loader's prefix.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub fn load(
        loader: &Loader<'_>,
        config: &DecoderConfig,
        vocabulary: usize,
        rule: RotaryRule,
    ) -> Result<Self, CheckpointError> {
        let failed = |error| loader.failed(error);
        let table = loader.stored("embed_tokens.weight", &[vocabulary, config.hidden])?;
        Ok(Self {
            decoder: Decoder::load(loader, config)?,
            embedding: Embedding::new(table, loader.device()).map_err(failed)?,
            rotary: Rotary::by(rule, config.heads.size, loader.device()).map_err(failed)?,
            scale: None,
            projection: None,
        })
    }

    /// The decoder with embeddings multiplied by `scale`.
    #[must_use]
    pub fn with_scale(self, scale: f64) -> Self {
        Self { scale: Some(scale), ..self }
    }

    /// The decoder with a projection of its hidden states.
    #[must_use]
    pub fn with_projection(self, projection: Linear) -> Self {
        Self { projection: Some(projection), ..self }
    }
}

impl Encoder for TextDecoder {
    fn run(&self, batch: &RaggedBatch, pause: &dyn Fn()) -> Result<HiddenStates, KernelError> {
        let positions = batch.positions();
        let longest = positions.iter().max().map_or(0, |position| *position as usize + 1);
        let tables = self.rotary.tables(longest)?;
        let mut hidden = self.embedding.rows_of(batch.tokens())?;
        if let Some(scale) = self.scale {
            hidden = Rows::of(&(hidden.tensor()? * scale)?)?;
        }
        let rotation = Rotation { positions: &positions, tables: &tables };
        let mut states = self.decoder.run(batch, hidden, rotation, &|_, _| Ok(()), pause)?;
        if let Some(projection) = &self.projection {
            states.rows = projection.forward_with(&states.rows, None, None)?;
        }
        Ok(states)
    }

    fn is_causal(&self) -> bool {
        self.decoder.is_causal()
    }
}
