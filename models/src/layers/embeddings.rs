//! The embeddings of BERT and its relatives: words, learned positions and token types, summed.
//!
//! Must not know: any one family, what follows.

use proxima_kernels::KernelError;
use proxima_kernels::ops::embedding::Embedding;
use proxima_kernels::ops::rows::Rows;

use super::Loader;
use crate::batch::RaggedBatch;
use crate::checkpoint::CheckpointError;

/// Names and sizes of embedding tables.
#[derive(Debug, Clone, Copy)]
pub struct TableSizes {
    /// Size of a hidden state.
    pub width: usize,
    /// Rows of `word_embeddings`.
    pub vocabulary: usize,
    /// Rows of `position_embeddings`; 0 if there is no such table.
    pub positions: usize,
    /// Rows of `token_type_embeddings`; 0 if there is no such table.
    pub token_types: usize,
    /// The padding token's id, after which positions start (RoBERTa, MPNet).
    pub padding: Option<u32>,
}

/// Embedding tables.
#[derive(Debug)]
pub struct TokenEmbeddings {
    words: Embedding,
    positions: Option<Embedding>,
    /// If there is only one type, second texts have it too.
    token_types: Option<Embedding>,
    padding: Option<u32>,
}

impl TokenEmbeddings {
    /// Loads the tables under the loader's prefix.
    ///
    /// # Errors
    /// If a table is missing or has another shape.
    pub fn load(loader: &Loader<'_>, sizes: &TableSizes) -> Result<Self, CheckpointError> {
        let table = |name: &str, rows: usize| {
            let stored = loader.stored(name, &[rows, sizes.width])?;
            Embedding::new(stored, loader.device()).map_err(|error| loader.failed(error))
        };
        let table_if_any =
            |name: &str, rows: usize| (rows > 0).then(|| table(name, rows)).transpose();
        Ok(Self {
            words: table("word_embeddings.weight", sizes.vocabulary)?,
            positions: table_if_any("position_embeddings.weight", sizes.positions)?,
            token_types: table_if_any("token_type_embeddings.weight", sizes.token_types)?,
            padding: sizes.padding,
        })
    }

    /// The sums for a batch's tokens, `[n_rows, width]`.
    ///
    /// # Errors
    /// A token or position outside of its table, or a device failure.
    pub fn of(&self, batch: &RaggedBatch) -> Result<Rows, KernelError> {
        let mut rows = self.words.rows_of(batch.tokens())?;
        if let Some(table) = &self.token_types {
            let types = match table.rows() {
                1 => vec![0; batch.tokens().len()],
                _ => batch.token_types(),
            };
            rows = table.add_rows_of(&types, rows)?;
        }
        match &self.positions {
            Some(table) => table.add_rows_of(&self.positions_of(batch), rows),
            None => Ok(rows),
        }
    }

    /// Rows of the position table. With a padding id, tokens with that id share its row and are not
    /// counted.
    fn positions_of(&self, batch: &RaggedBatch) -> Vec<u32> {
        let Some(padding) = self.padding else { return batch.positions() };
        let mut positions = Vec::with_capacity(batch.tokens().len());
        for segment in batch.segments() {
            let mut last = padding;
            for token in &batch.tokens()[segment.rows.clone()] {
                let counted = *token != padding;
                last += u32::from(counted);
                positions.push(if counted { last } else { padding });
            }
        }
        positions
    }
}
