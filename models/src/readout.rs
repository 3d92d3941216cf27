//! From hidden states to answers: pooling, projection, the Matryoshka cut, normalisation, output
//! encodings.
//!
//! Must not know: tokenizers, requests, wire formats.

mod multi;
pub mod quantize;
mod score;
mod sparse;

use proxima_kernels::cpu::Activation;
use proxima_kernels::ops::linear::Linear;
use proxima_kernels::{Device, KernelError, Tensor};

use crate::batch::HiddenStates;

pub use multi::{MultiVectorReadout, max_sim};
pub use proxima_kernels::ops::pool::Pooling;
pub use score::{HeadLayer, ScoreReadout, sigmoid, softmax};
pub use sparse::{SparseReadout, WordsHead};

/// A projection after pooling (`2_Dense` of sentence-transformers).
#[derive(Debug)]
pub struct Dense {
    /// `[hidden width] -> [width]`
    pub linear: Linear,
    /// Applied after it; `None` is the identity.
    pub activation: Option<Activation>,
    /// Components it gives.
    pub width: usize,
}

/// Hidden states to one vector a sequence.
#[derive(Debug)]
pub struct EmbeddingReadout {
    pooling: Pooling,
    dense: Vec<Dense>,
    width: usize,
}

impl EmbeddingReadout {
    /// A readout without projection; `width` is that of the hidden states.
    pub fn new(pooling: Pooling, width: usize) -> Self {
        Self { pooling, dense: Vec::new(), width }
    }

    /// Adds a projection behind those there are.
    pub fn with_dense(mut self, dense: Dense) -> Self {
        self.width = dense.width;
        self.dense.push(dense);
        self
    }

    /// How tokens are pooled.
    pub fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// Components of a vector before any cut.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Pools and projects every sequence: one vector of [`width`](Self::width) numbers each, not
    /// yet cut or normalised.
    ///
    /// # Errors
    /// A failure of the device.
    pub fn embed(&self, hidden: &HiddenStates) -> Result<Vec<Vec<f32>>, KernelError> {
        use proxima_kernels::ops::pool::pool;
        let (offsets, skips) = (&hidden.offsets, &hidden.pooling_skips);
        let mut vectors = pool(&hidden.rows, offsets, skips, self.pooling)?;
        for dense in &self.dense {
            vectors = dense.linear.forward_with(&vectors, dense.activation, None)?;
        }
        vectors.to_device(&Device::Cpu)?.to_vec2()
    }
}

/// Every token's hidden state: one `[n_tokens][width]` list a sequence.
///
/// # Errors
/// A failure of the device.
pub fn token_rows(hidden: &HiddenStates) -> Result<Vec<Vec<Vec<f32>>>, KernelError> {
    let rows: Tensor = hidden.rows.to_device(&Device::Cpu)?;
    let sequences = hidden.offsets.windows(2);
    sequences.map(|bounds| rows.narrow(0, bounds[0], bounds[1] - bounds[0])?.to_vec2()).collect()
}

/// Keeps the first `dimensions` components (all, if `None`), then scales to length one if
/// `normalize`.
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
