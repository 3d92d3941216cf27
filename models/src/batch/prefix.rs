//! Keys and values kept from a batch, for sequences of later ones that begin with the same tokens.
//!
//! Must not know: how long anything is kept.

use std::sync::Arc;

use proxima_kernels::ops::rows::Rows;
use proxima_kernels::{KernelError, Tensor};

use super::{Parent, RaggedBatch};

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

/// Gathers, layer after layer, what of a batch is kept.
#[derive(Debug)]
pub struct Keeping<'a> {
    batch: &'a RaggedBatch,
    /// The layers of each run that is kept.
    layers: Vec<Vec<Tensor>>,
}

impl<'a> Keeping<'a> {
    pub(super) fn new(batch: &'a RaggedBatch) -> Self {
        Self { batch, layers: vec![Vec::new(); batch.keep.len()] }
    }

    /// Takes a layer's keys and values, the columns of `qkv` from `queries` on.
    ///
    /// # Errors
    /// A failure of the device.
    pub fn take(&mut self, qkv: &Rows, queries: usize) -> Result<(), KernelError> {
        let [_, width] = qkv.shape()?;
        for (keep, layers) in self.batch.keep.iter().zip(&mut self.layers) {
            let rows = &self.batch.runs[keep.run].rows;
            layers.push(qkv.part(rows.clone(), queries..width)?);
        }
        Ok(())
    }

    /// Everything kept, parents first.
    pub fn finish(self) -> Vec<Arc<Prefix>> {
        let mut done: Vec<(usize, Arc<Prefix>)> = Vec::with_capacity(self.layers.len());
        for (keep, layers) in self.batch.keep.iter().zip(self.layers) {
            let parent = match &keep.parent {
                None => None,
                Some(Parent::Kept(prefix)) => Some(prefix.clone()),
                Some(Parent::Run(run)) => {
                    let parent = done.iter().find(|(other, _)| other == run);
                    Some(parent.expect("what others go on from is kept before them").1.clone())
                }
            };
            let prefix = Prefix { parent, tokens: keep.tokens.clone(), layers };
            done.push((keep.run, Arc::new(prefix)));
        }
        done.into_iter().map(|(_, prefix)| prefix).collect()
    }
}
