//! Keys and values cached from a batch, for later sequences with the same prefix.
//!
//! Must not know: how long anything is cached.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use proxima_kernels::ops::rows::Rows;
use proxima_kernels::{KernelError, Tensor};

use super::{BatchPart, Parent, RaggedBatch, SegmentToCache};

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
        let elements: usize = self.layers.iter().map(Tensor::elem_count).sum();
        elements * size_of::<f32>() + size_of_val(self.tokens.as_slice())
    }

    pub(super) fn layer(&self, layer: usize) -> &Tensor {
        &self.layers[layer]
    }
}

/// Collects, layer by layer, the keys and values to cache from one part of a batch.
#[derive(Debug)]
pub struct PrefixCollector {
    /// Each segment to cache: its index in the batch, its rows in the part, and its layers so far.
    segments: Vec<(usize, Range<usize>, Vec<Tensor>)>,
}

impl PrefixCollector {
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
    pub fn prefix_collector(&self, part: &BatchPart) -> PrefixCollector {
        let own = self.to_cache.iter().filter(|own| part.segment_range().contains(&own.segment));
        let rows = |own: &SegmentToCache| {
            part.segments()[own.segment - part.segment_range().start].rows.clone()
        };
        PrefixCollector { segments: own.map(|own| (own.segment, rows(own), Vec::new())).collect() }
    }

    /// Prefixes from what was collected in all parts, parents first.
    pub fn new_prefixes(&self, parts: Vec<PrefixCollector>) -> Vec<Arc<Prefix>> {
        let mut layers: HashMap<usize, Vec<Tensor>> = parts
            .into_iter()
            .flat_map(|part| part.segments)
            .map(|(segment, _, all)| (segment, all))
            .collect();
        let mut done: Vec<(usize, Arc<Prefix>)> = Vec::with_capacity(self.to_cache.len());
        for segment in &self.to_cache {
            let parent = match &segment.parent {
                None => None,
                Some(Parent::Cached(prefix)) => Some(prefix.clone()),
                Some(Parent::Segment(index)) => {
                    let parent = done.iter().find(|(other, _)| other == index);
                    Some(
                        parent
                            .expect("a segment is cached before those that continue it")
                            .1
                            .clone(),
                    )
                }
            };
            let layers = layers.remove(&segment.segment).unwrap_or_default();
            let prefix = Prefix { parent, tokens: segment.tokens.clone(), layers };
            done.push((segment.segment, Arc::new(prefix)));
        }
        done.into_iter().map(|(_, prefix)| prefix).collect()
    }
}
