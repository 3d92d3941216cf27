//! Hidden states to word weights: SPLADE, and the lexical weights of bge-m3.
//!
//! Must not know: tokenizers, how weights are compared.

use std::collections::BTreeMap;

use proxima_kernels::ops::linear::Linear;
use proxima_kernels::{Device, KernelError};

use super::HeadLayer;
use crate::batch::{HiddenStates, Sequence};
use crate::checkpoint::Splade;

/// Rows whose logits are held at a time, since a vocabulary is wide.
const ROWS: usize = 64;

/// The head of a masked language model.
#[derive(Debug)]
pub struct WordsHead {
    /// The layers before the last.
    pub layers: Vec<HeadLayer>,
    /// `[width] -> [vocabulary]`
    pub last: Linear,
}

/// Hidden states to one weight per word, most of them zero.
#[derive(Debug)]
pub enum SparseReadout {
    /// Weights of all words, from the head of a masked language model.
    Splade {
        /// Its head.
        head: WordsHead,
        /// How logits become weights.
        how: Splade,
    },
    /// Weights of words in the text, from one linear layer (Chen et al., BGE M3, 2024).
    Lexical {
        /// `[width] -> [1]`
        linear: Linear,
        /// Ids that get no weight.
        special: Vec<u32>,
    },
}

impl SparseReadout {
    /// The weights above zero of every sequence, by ascending id.
    ///
    /// # Errors
    /// A device failure.
    pub fn weights(
        &self,
        hidden: &HiddenStates,
        sequences: &[&Sequence],
    ) -> Result<Vec<Vec<(u32, f32)>>, KernelError> {
        let sequences = hidden.offsets.windows(2).zip(sequences);
        let weights = sequences.map(|(bounds, sequence)| match self {
            Self::Splade { head, how } => splade(head, *how, hidden, bounds[0]..bounds[1]),
            Self::Lexical { linear, special } => {
                let rows = hidden.rows.narrow(0, bounds[0], bounds[1] - bounds[0])?;
                let weights = linear.forward(&rows)?.to_device(&Device::Cpu)?;
                let weights: Vec<f32> = weights.flatten_all()?.to_vec1()?;
                Ok(lexical(&sequence.tokens, &weights, special))
            }
        });
        weights.collect()
    }
}

fn splade(
    head: &WordsHead,
    how: Splade,
    hidden: &HiddenStates,
    rows: std::ops::Range<usize>,
) -> Result<Vec<(u32, f32)>, KernelError> {
    let mut pooled: Vec<f32> = Vec::new();
    for first in rows.clone().step_by(ROWS) {
        let mut x = hidden.rows.narrow(0, first, ROWS.min(rows.end - first))?;
        for layer in &head.layers {
            x = layer.forward(&x)?;
        }
        let logits: Vec<Vec<f32>> = head.last.forward(&x)?.to_device(&Device::Cpu)?.to_vec2()?;
        for row in logits {
            pooled.resize(row.len(), 0.0);
            for (pooled, logit) in pooled.iter_mut().zip(row) {
                // NaN propagates, so the finite check catches it.
                let weight = if logit <= 0.0 { 0.0 } else { logit.ln_1p() };
                let weight = if how.twice { weight.ln_1p() } else { weight };
                let larger = if weight > *pooled || weight.is_nan() { weight } else { *pooled };
                *pooled = if how.sum { *pooled + weight } else { larger };
            }
        }
    }
    let weights = pooled.into_iter().enumerate().map(|(id, weight)| (id as u32, weight));
    Ok(weights.filter(|(_, weight)| *weight != 0.0).collect())
}

fn lexical(tokens: &[u32], weights: &[f32], special: &[u32]) -> Vec<(u32, f32)> {
    let mut largest: BTreeMap<u32, f32> = BTreeMap::new();
    for (token, weight) in tokens.iter().zip(weights) {
        if !special.contains(token) && (*weight > 0.0 || weight.is_nan()) {
            let known = largest.entry(*token).or_insert(*weight);
            *known = if *weight > *known || weight.is_nan() { *weight } else { *known };
        }
    }
    largest.into_iter().collect()
}
