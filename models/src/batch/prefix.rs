//! Keys and values kept from a batch, for sequences of later ones that begin with the same tokens.
//!
//! Must not know: how long anything is kept.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use proxima_kernels::ops::rows::Rows;
use proxima_kernels::{KernelError, Tensor};

use super::{Keep, Parent, Part, RaggedBatch};

/// Rows that sequences of later batches may begin with: their keys and values in every layer.
#[derive(Debug)]
pub struct Prefix {
    parent: Option<Arc<Prefix>>,
    /// All tokens from the sequence's start.
    tokens: Vec<u32>,
    /// `[n_rows, 2 * kv_heads * size]` each.
    layers: Vec<Tensor>,
}

impl Prefix {
    /// All tokens from the sequence's start.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// What it goes on from.
    pub fn parent(&self) -> Option<&Arc<Prefix>> {
        self.parent.as_ref()
    }

    /// Bytes of its own keys and values.
    pub fn bytes(&self) -> usize {
        let numbers: usize = self.layers.iter().map(Tensor::elem_count).sum();
        numbers * size_of::<f32>() + size_of_val(self.tokens.as_slice())
    }

    pub(super) fn layer(&self, layer: usize) -> &Tensor {
        &self.layers[layer]
    }
}

/// Gathers, layer after layer, what of a part of a batch is kept.
#[derive(Debug)]
pub struct Keeping {
    /// Each segment that is kept, counted in the batch, with its rows in the part and its layers.
    segments: Vec<(usize, Range<usize>, Vec<Tensor>)>,
}

impl Keeping {
    /// Takes a layer's keys and values, the columns of the part's `qkv` from `queries` on.
    ///
    /// # Errors
    /// A failure of the device.
    pub fn take(&mut self, qkv: &Rows, queries: usize) -> Result<(), KernelError> {
        let [_, width] = qkv.shape()?;
        for (_, rows, layers) in &mut self.segments {
            layers.push(qkv.part(rows.clone(), queries..width)?);
        }
        Ok(())
    }
}

impl RaggedBatch {
    /// What a network keeps of a part of this batch, layer by layer.
    pub fn keeping(&self, part: &Part) -> Keeping {
        let own = self.keep.iter().filter(|keep| part.places().contains(&keep.segment));
        let rows = |keep: &Keep| part.segments()[keep.segment - part.places().start].rows.clone();
        Keeping { segments: own.map(|keep| (keep.segment, rows(keep), Vec::new())).collect() }
    }

    /// Everything that was kept of all parts, parents first.
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
