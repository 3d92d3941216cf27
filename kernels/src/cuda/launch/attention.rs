//! Attention: how segments of rows become blocks of queries and spans of keys.
//!
//! Must not know: how a block is computed.

use std::cmp::Reverse;

use candle_core::{DType, Result, Tensor, bail};

use super::{Argument, BLOCK, aligned, at, empty, int, suffix, uploaded};
use crate::cuda::{self, Launch};
use crate::spec::{Ancestor, Heads, Mask, Segment};

/// Sizes of heads that there are kernels for on tensor cores; smaller ones segment in the next.
const SIZES: [usize; 5] = [32, 64, 80, 96, 128];
/// Query rows of a block on tensor cores, and in float32.
const QUERY_ROWS: usize = 128;
const ROWS_F32: usize = 16;
/// Heads are read in pieces of so many numbers.
const PIECE: usize = 8;

/// Kept rows of keys and values in memory: where the first is, how far the next, how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keys {
    /// The first key of the first head.
    pub address: u64,
    /// Numbers from row to row.
    pub stride: usize,
    /// How many rows.
    pub rows: usize,
}

/// What the kernels are told of a batch, as they read it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Row, rows, position, first span, spans, length of each block.
    pub blocks: Vec<[u32; 6]>,
    /// Address (low and high half), stride, rows of each span; of the batch's own rows the
    /// first of them, 0, 0, rows. So the plan of a batch without cached parts is that of all its
    /// layers, and is uploaded once.
    pub spans: Vec<[u32; 4]>,
}

impl Plan {
    /// Blocks of at most `most` rows of all segments, those of long sequences first, so that none
    /// of these begins last. Blocks of a sequence follow each other: what they read of memory, they
    /// read at about the same time. `cached` are the keys of cached parts.
    pub(crate) fn new(segments: &[Segment], most: usize, cached: &[Keys]) -> Self {
        let own = |rows: &std::ops::Range<usize>| [rows.start as u32, 0, 0, rows.len() as u32];
        let mut plan = Self::default();
        for segment in segments {
            let first_span = plan.spans.len();
            let before = segment.ancestors.iter().map(|source| match source {
                Ancestor::Batch(rows) => own(rows),
                Ancestor::Cached(place) => {
                    let Keys { address, stride, rows } = cached[*place];
                    [address as u32, (address >> 32) as u32, stride as u32, rows as u32]
                }
            });
            plan.spans.extend(before.chain([own(&segment.rows)]));
            let spans = plan.spans.len() - first_span;
            let length = segment.start + segment.rows.len();
            plan.blocks.extend((0..segment.rows.len()).step_by(most).map(|at| {
                let rows = most.min(segment.rows.len() - at);
                [segment.rows.start + at, rows, segment.start + at, first_span, spans, length]
                    .map(|number| number as u32)
            }));
        }
        // A causal block sees the keys up to its last row: the last ones of a sequence the most.
        plan.blocks.sort_by_key(|[_, _, position, first_span, _, length]| {
            (Reverse(*length), *first_span, Reverse(*position))
        });
        plan
    }
}

/// Softmax attention of segments, which the caller has checked, in the dtype of `qkv`.
pub(crate) fn attention(
    qkv: &Tensor,
    heads: Heads,
    (segments, cached): (&[Segment], &[&Tensor]),
    mask: Mask,
) -> Result<Tensor> {
    let (dtype, device) = (qkv.dtype(), qkv.device());
    let qkv = aligned(qkv)?;
    let rows = qkv.dim(0)?;
    let cached = cached.iter().map(|cached| aligned(&cached.to_dtype(dtype)?));
    let cached = cached.collect::<Result<Vec<_>>>()?;
    let stride = 2 * heads.kv_heads * heads.size;
    let keys = |cached: &Tensor| -> Result<Keys> {
        Ok(Keys { address: cuda::address(cached)?, stride, rows: cached.dim(0)? })
    };
    let cached_keys = cached.iter().map(keys).collect::<Result<Vec<_>>>()?;
    let kernel = AttentionKernel::of(heads.size, dtype)?;
    let plan = Plan::new(segments, kernel.rows, &cached_keys);
    let blocks = uploaded(plan.blocks.as_flattened(), device)?;
    let spans = uploaded(plan.spans.as_flattened(), device)?;
    let (mask, window) = match mask {
        Mask::Full => (0, 0),
        Mask::Causal => (1, 0),
        Mask::Window(reach) => (2, i32::try_from(reach).unwrap_or(i32::MAX)),
    };
    let out = empty((rows, heads.heads * heads.size), dtype, device)?;
    let arguments = [
        at(&qkv)?,
        at(&blocks)?,
        at(&spans)?,
        int(heads.row())?,
        int(heads.heads)?,
        int(heads.kv_heads)?,
        int(heads.size)?,
        Argument::Int(mask),
        Argument::Int(window),
        at(&out)?,
    ];
    let shape = Launch {
        // Heads of a block segment together: their rows are neighbours in memory.
        grid: [(plan.blocks.len() * heads.heads) as u32, 1, 1],
        block: [BLOCK as u32, 1, 1],
        shared_bytes: kernel.shared_bytes as u32,
    };
    let loaded = cuda::kernel(device, kernel.source, &kernel.name)?;
    // SAFETY: the parameters of `attention`; blocks and spans are of rows that the caller has
    // found in `qkv` and `cached`, all of which are freed, if at all, in the stream's order.
    unsafe { cuda::start(device, &loaded, shape, &arguments) }?;
    Ok(out)
}

/// A kernel of attention.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct AttentionKernel {
    pub source: &'static str,
    pub name: String,
    /// Query rows of a block.
    pub rows: usize,
    /// Shared memory of a block.
    pub shared_bytes: usize,
}

impl AttentionKernel {
    /// The kernel for heads of this size.
    pub(crate) fn of(size: usize, dtype: DType) -> Result<Self> {
        if dtype == DType::F32 {
            if size > 256 {
                bail!("attention: heads of {size} numbers are more than the 256 that are computed");
            }
            let shared_bytes = 4 * (80 * 4 * (size.div_ceil(4) | 1) + 512);
            let name = "attention_f32".into();
            return Ok(Self { source: "attention_f32", name, rows: ROWS_F32, shared_bytes });
        }
        let Some(fits) = SIZES.into_iter().find(|fits| size <= *fits && size.is_multiple_of(PIECE))
        else {
            bail!(
                "attention: heads of {size} numbers are not computed in 16 bits on this device; \
                 use dtype float32"
            );
        };
        let keys = if fits <= 64 { 64 } else { 32 };
        let shared_bytes = (8 * keys + 2 * QUERY_ROWS) * (fits + 8) + 32 * keys;
        let name = format!("attention_{}_{fits}", suffix(dtype)?);
        Ok(Self { source: "attention", name, rows: QUERY_ROWS, shared_bytes })
    }
}

#[cfg(test)]
mod tests;
