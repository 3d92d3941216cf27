//! Hidden states to one vector per token, for late interaction (Khattab and Zaharia, ColBERT,
//! 2020).
//!
//! Must not know: tokenizers, requests.

use proxima_kernels::ops::linear::Linear;
use proxima_kernels::{KernelError, l2_normalize};

use super::rows_of;
use crate::batch::HiddenStates;

/// Hidden states to one projected vector of unit length per token.
#[derive(Debug)]
pub struct MultiVectorReadout {
    linear: Linear,
    width: usize,
}

impl MultiVectorReadout {
    /// The projection `[hidden width] -> [width]` of bge-m3, which leaves out the first token.
    pub fn new(linear: Linear, width: usize) -> Self {
        Self { linear, width }
    }

    /// Components of a vector.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Vectors of every sequence's tokens but the first: `[n_tokens - 1][width]` each.
    ///
    /// # Errors
    /// A device failure.
    pub fn vectors(&self, hidden: &HiddenStates) -> Result<Vec<Vec<Vec<f32>>>, KernelError> {
        let mut sequences = rows_of(&self.linear.forward(&hidden.rows)?, &hidden.offsets)?;
        for vectors in &mut sequences {
            vectors.remove(0);
            vectors.iter_mut().for_each(|vector| l2_normalize(vector));
        }
        Ok(sequences)
    }
}

/// The mean, over the query's vectors, of the largest dot product with a document vector; 0 if
/// either has none.
pub fn max_sim(query: &[Vec<f32>], document: &[Vec<f32>]) -> f32 {
    if query.is_empty() || document.is_empty() {
        return 0.0;
    }
    let largest = query.iter().map(|vector| {
        document.iter().map(|other| dot(vector, other)).fold(f32::NEG_INFINITY, f32::max)
    });
    largest.sum::<f32>() / query.len() as f32
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
