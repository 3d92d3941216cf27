//! Keys and values cached from a batch, for later sequences with the same prefix.
//!
//! Must not know: how long anything is cached.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use proxima_kernels::ops::rows::Rows;
use proxima_kernels::{KernelError, Tensor};

use super::{BatchPart, Keep, Parent, RaggedBatch};

/// A cached segment that later sequences may continue: its keys and values in every layer.
#[derive(Debug)]
pub struct Prefix {
    parent: Option<Arc<Prefix>>,
    /// All tokens from the start of the sequence.
    tokens: Vec<u32>,
    /// Keys and values of each layer, `[n_rows, 2 * kv_heads * size]`.
    layers: Vec<Tensor>,
}

impl Prefix {
    /// All tokens from the start of the sequence.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The prefix that it continues.
    pub fn parent(&self) -> Option<&Arc<Prefix>> {
        self.parent.as_ref()
    }

    /// Size of its own keys, values and tokens in bytes, its parent's excluded.
    pub fn bytes(&self) -> usize {
        let numbers: usize = self.layers.iter().map(Tensor::elem_count).sum();
        numbers * size_of::<f32>() + size_of_val(self.tokens.as_slice())
    }

    pub(super) fn layer(&self, layer: usize) -> &Tensor {
        &self.layers[layer]
    }
}

/// Collects, layer by layer, the keys and values to cache from one part of a batch.
#[derive(Debug)]
pub struct Keeping {
    /// Each segment to cache: its index in the batch, its rows in the part, and its layers so far.
    segments: Vec<(usize, Range<usize>, Vec<Tensor>)>,
}

impl Keeping {
    /// Takes a layer's keys and values: the columns of the part's `qkv` from `queries` on.
    ///
    /// # Errors
    /// A device failure.
    pub fn take(&mut self, qkv: &Rows, queries: usize) -> Result<(), KernelError> {
        let [_, width] = qkv.shape()?;
        for (_, rows, layers) in &mut self.segments {
            layers.push(qkv.part(rows.clone(), queries..width)?);
        }
        Ok(())
    }
}

impl RaggedBatch {
    /// An empty collector for the segments to cache from a part of this batch.
    pub fn keeping(&self, part: &BatchPart) -> Keeping {
        let own = self.keep.iter().filter(|keep| part.segment_range().contains(&keep.segment));
        let rows =
            |keep: &Keep| part.segments()[keep.segment - part.segment_range().start].rows.clone();
        Keeping { segments: own.map(|keep| (keep.segment, rows(keep), Vec::new())).collect() }
    }

    /// Prefixes from what was collected in all parts, parents first.
    pub fn new_prefixes(&self, parts: Vec<Keeping>) -> Vec<Arc<Prefix>> {
        let mut layers: HashMap<usize, Vec<Tensor>> = parts
            .into_iter()
            .flat_map(|part| part.segments)
            .map(|(segment, _, all)| (segment, all))
            .collect();
        let mut done: Vec<(usize, Arc<Prefix>)> = Vec::with_capacity(self.keep.len());
        for keep in &self.keep {
            let parent = match &keep.parent {
                None => None,
                Some(Parent::Cached(prefix)) => Some(prefix.clone()),
                Some(Parent::Segment(segment)) => {
                    let parent = done.iter().find(|(other, _)| other == segment);
                    Some(parent.expect("what others go on from is kept before them").1.clone())
                }
            };
            let layers = layers.remove(&keep.segment).unwrap_or_default();
            let prefix = Prefix { parent, tokens: keep.tokens.clone(), layers };
            done.push((keep.segment, Arc::new(prefix)));
        }
        done.into_iter().map(|(_, prefix)| prefix).collect()
    }
}
