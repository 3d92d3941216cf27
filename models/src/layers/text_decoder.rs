//! A decoder of texts: an embedding table, rotary positions and the layers.
//!
//! Must not know: any one family.

use proxima_kernels::KernelError;
use proxima_kernels::ops::embedding::Embedding;
use proxima_kernels::ops::rows::Rows;

use super::{Decoder, DecoderConfig, Loader, Rotary, RotaryRule};
use crate::batch::{Encoder, HiddenStates, RaggedBatch};
use crate::checkpoint::CheckpointError;

/// A decoder with its embedding table.
#[derive(Debug)]
pub struct TextDecoder {
    embedding: Embedding,
    decoder: Decoder,
    rotary: Rotary,
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
        })
    }
}

impl Encoder for TextDecoder {
    fn run(&self, batch: &RaggedBatch, pause: &dyn Fn()) -> Result<HiddenStates, KernelError> {
        let positions = batch.positions();
        let longest = positions.iter().max().map_or(0, |position| *position as usize + 1);
        let tables = self.rotary.tables(longest)?;
        let hidden = self.embedding.rows_of(batch.tokens())?;
        let nothing = |_: usize, _: &mut Rows| Ok(());
        self.decoder.run(batch, hidden, (&positions, &tables), &nothing, pause)
    }

    fn is_causal(&self) -> bool {
        self.decoder.is_causal()
    }
}
