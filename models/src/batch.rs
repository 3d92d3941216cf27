//! The only model interface: sequences laid end to end go in, hidden states come out. Nothing is
//! ever padded.
//!
//! Must not know: tokenizers, requests, readouts.

use proxima_kernels::{KernelError, Tensor};

/// Token ids of one input, template applied, within limits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sequence {
    /// Ids, special tokens included; never empty.
    pub tokens: Vec<u32>,
    /// Tokens at the beginning that mean-like pooling leaves out (a prompt, where the checkpoint
    /// says so).
    pub pooling_skip: usize,
}

/// Sequences laid end to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaggedBatch {
    tokens: Vec<u32>,
    offsets: Vec<usize>,
    pooling_skips: Vec<usize>,
}

impl RaggedBatch {
    /// Lays sequences end to end, in order.
    ///
    /// # Panics
    /// If there is no sequence or one is empty: recipes never make such.
    pub fn new<'a>(sequences: impl IntoIterator<Item = &'a Sequence>) -> Self {
        let mut batch = Self { tokens: Vec::new(), offsets: vec![0], pooling_skips: Vec::new() };
        for sequence in sequences {
            assert!(!sequence.tokens.is_empty(), "a sequence has at least one token");
            batch.tokens.extend_from_slice(&sequence.tokens);
            batch.offsets.push(batch.tokens.len());
            batch.pooling_skips.push(sequence.pooling_skip);
        }
        assert!(batch.offsets.len() > 1, "a batch has at least one sequence");
        batch
    }

    /// All token ids, sequence after sequence.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Where each sequence begins, and at the end the number of tokens: one more than there are
    /// sequences.
    pub fn offsets(&self) -> &[usize] {
        &self.offsets
    }

    /// Tokens left out of mean-like pooling, per sequence.
    pub fn pooling_skips(&self) -> &[usize] {
        &self.pooling_skips
    }

    /// Position of each token within its sequence.
    pub fn positions(&self) -> Vec<u32> {
        let lengths = self.offsets.windows(2).map(|pair| pair[1] - pair[0]);
        lengths.flat_map(|length| 0..length as u32).collect()
    }
}

/// The network's last hidden states, `[n_tokens, width]` float32, final norm applied.
#[derive(Debug, Clone)]
pub struct HiddenStates {
    /// `[n_tokens, width]`, float32, contiguous.
    pub rows: Tensor,
    /// As [`RaggedBatch::offsets`].
    pub offsets: Vec<usize>,
    /// As [`RaggedBatch::pooling_skips`].
    pub pooling_skips: Vec<usize>,
}

impl HiddenStates {
    /// Hidden states on the CPU from plain numbers (row-major `[n_tokens, width]`), laid out as
    /// `batch`.
    ///
    /// # Errors
    /// If the length does not agree with the batch.
    pub fn from_rows(
        rows: Vec<f32>,
        width: usize,
        batch: &RaggedBatch,
    ) -> Result<Self, KernelError> {
        let rows =
            Tensor::from_vec(rows, (batch.tokens.len(), width), &proxima_kernels::Device::Cpu)?;
        Ok(Self::new(rows, batch))
    }

    /// Hidden states laid out as `batch`.
    pub fn new(rows: Tensor, batch: &RaggedBatch) -> Self {
        Self { rows, offsets: batch.offsets.clone(), pooling_skips: batch.pooling_skips.clone() }
    }
}

/// A network: hidden states of every token of a batch.
///
/// Implementations are batch invariant: the rows of a sequence have the same bits whatever else is
/// in the batch.
pub trait Encoder: Send + Sync {
    /// Runs the network.
    ///
    /// # Errors
    /// A failure of the device or of an operation; the caller fails the batch and goes on.
    fn encode(&self, batch: &RaggedBatch) -> Result<HiddenStates, KernelError>;
}
