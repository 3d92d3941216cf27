//! From hidden states to results: pooling, projection, Matryoshka truncation, normalisation, output
//! encodings.
//!
//! Must not know: tokenizers, requests, wire formats.

mod embedding;
mod list;
mod multi;
pub mod quantize;
mod score;
mod similarity;
mod sparse;

use proxima_kernels::{Device, KernelError, Tensor};

use crate::batch::HiddenStates;

pub use embedding::{Dense, EmbeddingReadout, EmbeddingStep, Residual};
pub use list::{ListReadout, combine_lists};
pub use multi::{MultiVectorReadout, max_sim};
pub use proxima_kernels::spec::Pooling;
pub use score::{HeadLayer, ScoreFunction, ScoreFunctions, ScoreReadout, sigmoid, softmax};
pub use similarity::{Similarity, SimilarityFunction};
pub use sparse::{SparseReadout, WordsHead};

/// Every token's hidden state: one `[n_tokens][width]` list per sequence.
///
/// # Errors
/// A device failure.
pub fn token_rows(hidden: &HiddenStates) -> Result<Vec<Vec<Vec<f32>>>, KernelError> {
    rows_of(&hidden.rows, &hidden.offsets)
}

/// The rows of each sequence; `offsets` are the starts of sequences, then the number of rows.
fn rows_of(rows: &Tensor, offsets: &[usize]) -> Result<Vec<Vec<Vec<f32>>>, KernelError> {
    let rows = rows.to_device(&Device::Cpu)?;
    let sequences = offsets.windows(2);
    sequences.map(|bounds| rows.narrow(0, bounds[0], bounds[1] - bounds[0])?.to_vec2()).collect()
}

/// Keeps the first `dimensions` components (all, if `None`), then scales to unit length if
/// `normalize`.
///
/// A zero vector stays zero.
///
/// # Panics
/// If `dimensions` is 0 or above the length; requests are validated before.
pub fn finish(vector: &[f32], dimensions: Option<usize>, normalize: bool) -> Vec<f32> {
    let dimensions = dimensions.unwrap_or(vector.len());
    assert!((1..=vector.len()).contains(&dimensions), "dimensions are checked with the request");
    let mut cut = vector[..dimensions].to_vec();
    if normalize {
        proxima_kernels::l2_normalize(&mut cut);
    }
    cut
}
