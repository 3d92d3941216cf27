//! Attention: how runs of rows become blocks of queries and segments of keys.
//!
//! Must not know: how a block is computed.

use std::cmp::Reverse;

use candle_core::{DType, Result, Tensor, bail};

use super::{Argument, BLOCK, aligned, at, empty, int, suffix, uploaded};
use crate::cpu::attention::{Heads, Mask, Run, Source};
use crate::cuda::{self, Launch};

/// Sizes of heads that there are kernels for on tensor cores; smaller ones run in the next.
const SIZES: [usize; 5] = [32, 64, 80, 96, 128];
/// Query rows of a block on tensor cores, and in float32.
const ROWS: usize = 128;
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
    /// Row, rows, position, first segment, segments, length of each block.
    pub blocks: Vec<[u32; 6]>,
    /// Address (low and high half), stride, rows of each segment; of the batch's own rows the
    /// first of them, 0, 0, rows. So the plan of a batch without kept parts is that of all its
    /// layers, and is uploaded once.
    pub segments: Vec<[u32; 4]>,
}

impl Plan {
    /// Blocks of at most `most` rows of all runs, those of long sequences first, so that none of
    /// these begins last. Blocks of a sequence follow each other: what they read of memory, they
    /// read at about the same time. `kept` are the keys of kept parts.
    pub(crate) fn new(runs: &[Run], most: usize, kept: &[Keys]) -> Self {
        let own = |rows: &std::ops::Range<usize>| [rows.start as u32, 0, 0, rows.len() as u32];
        let mut plan = Self::default();
        for run in runs {
            let first_segment = plan.segments.len();
            let before = run.before.iter().map(|source| match source {
                Source::Batch(rows) => own(rows),
                Source::Kept(place) => {
                    let Keys { address, stride, rows } = kept[*place];
                    [address as u32, (address >> 32) as u32, stride as u32, rows as u32]
                }
            });
            plan.segments.extend(before.chain([own(&run.rows)]));
            let segments = plan.segments.len() - first_segment;
            let length = run.start + run.rows.len();
            plan.blocks.extend((0..run.rows.len()).step_by(most).map(|at| {
                let rows = most.min(run.rows.len() - at);
                [run.rows.start + at, rows, run.start + at, first_segment, segments, length]
                    .map(|number| number as u32)
            }));
        }
        // A causal block sees the keys up to its last row: the last ones of a sequence the most.
        plan.blocks.sort_by_key(|[_, _, position, first_segment, _, length]| {
            (Reverse(*length), *first_segment, Reverse(*position))
        });
        plan
    }
}

/// Softmax attention of runs, which the caller has checked, in the dtype of `qkv`.
pub(crate) fn attention(
    qkv: &Tensor,
    heads: Heads,
    (runs, kept): (&[Run], &[&Tensor]),
    mask: Mask,
) -> Result<Tensor> {
    let (dtype, device) = (qkv.dtype(), qkv.device());
    let qkv = aligned(qkv)?;
    let rows = qkv.dim(0)?;
    let kept = kept.iter().map(|kept| aligned(&kept.to_dtype(dtype)?));
    let kept = kept.collect::<Result<Vec<_>>>()?;
    let stride = 2 * heads.kv_heads * heads.size;
    let keys = |kept: &Tensor| -> Result<Keys> {
        Ok(Keys { address: cuda::address(kept)?, stride, rows: kept.dim(0)? })
    };
    let kept_keys = kept.iter().map(keys).collect::<Result<Vec<_>>>()?;
    let kernel = Kernel::of(heads.size, dtype)?;
    let plan = Plan::new(runs, kernel.rows, &kept_keys);
    let blocks = uploaded(plan.blocks.as_flattened(), device)?;
    let segments = uploaded(plan.segments.as_flattened(), device)?;
    let (mask, window) = match mask {
        Mask::Full => (0, 0),
        Mask::Causal => (1, 0),
        Mask::Window(reach) => (2, i32::try_from(reach).unwrap_or(i32::MAX)),
    };
    let out = empty((rows, heads.heads * heads.size), dtype, device)?;
    let arguments = [
        at(&qkv)?,
        at(&blocks)?,
        at(&segments)?,
        int(heads.row())?,
        int(heads.heads)?,
        int(heads.kv_heads)?,
        int(heads.size)?,
        Argument::Int(mask),
        Argument::Int(window),
        at(&out)?,
    ];
    let shape = Launch {
        // Heads of a block run together: their rows are neighbours in memory.
        grid: [(plan.blocks.len() * heads.heads) as u32, 1, 1],
        block: [BLOCK as u32, 1, 1],
        shared_bytes: kernel.shared_bytes as u32,
    };
    let loaded = cuda::kernel(device, kernel.source, &kernel.name)?;
    // SAFETY: the parameters of `attention`; blocks and segments are of rows that the caller has
    // found in `qkv` and `kept`, all of which are freed, if at all, in the stream's order.
    unsafe { cuda::launch(device, &loaded, shape, &arguments) }?;
    Ok(out)
}

/// A kernel of attention.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    pub source: &'static str,
    pub name: String,
    /// Query rows of a block.
    pub rows: usize,
    /// Shared memory of a block.
    pub shared_bytes: usize,
}

impl Kernel {
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
        let shared_bytes = (8 * keys + 2 * ROWS) * (fits + 8) + 32 * keys;
        let name = format!("attention_{}_{fits}", suffix(dtype)?);
        Ok(Self { source: "attention", name, rows: ROWS, shared_bytes })
    }
}

#[cfg(test)]
mod tests;
