//! Attention: how segments of rows become blocks of queries and spans of keys.
//!
//! Must not know: how a block is computed.

use std::cmp::Reverse;

use candle_core::{DType, Device, Result, Tensor, bail};

use super::{Argument, BLOCK, aligned, at, empty, float32, int, recording, suffix, uploaded};
use crate::cuda::{self, Launch};
use crate::spec::{Ancestor, Heads, Mask, ScoreBias, Scoring, Segment, Sequences};

/// Head sizes that have a tensor-core kernel; other sizes use the next larger one.
const SIZES: [usize; 5] = [32, 64, 80, 96, 128];
/// Query rows per block, on tensor cores and in float32.
const QUERY_ROWS: usize = 128;
const ROWS_F32: usize = 16;
/// Heads are read in pieces of this many elements.
const PIECE: usize = 8;

/// Rows of cached keys and values in device memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keys {
    /// Address of the first row's key of head 0.
    pub address: u64,
    /// Elements from row to row.
    pub stride: usize,
    /// Number of rows.
    pub rows: usize,
}

/// A batch's blocks and spans, as the kernels read them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct AttentionPlan {
    /// For each block: first row, rows, position, first span, spans, sequence length.
    pub blocks: Vec<[u32; 6]>,
    /// For each span: address (low and high half), stride, rows. For the batch's own rows: first
    /// row, 0, 0, rows. The plan of a batch without cached parts is thus the same for all layers,
    /// and is uploaded once.
    pub spans: Vec<[u32; 4]>,
}

impl AttentionPlan {
    /// Splits all segments into blocks of at most `most` rows. Blocks of long sequences come first,
    /// so that none of them starts last; blocks of one sequence are adjacent, so that they read the
    /// same memory at about the same time. `cached` are the keys of cached parts.
    pub(crate) fn new(segments: &[Segment], most: usize, cached: &[Keys]) -> Self {
        let own = |rows: &std::ops::Range<usize>| [rows.start as u32, 0, 0, rows.len() as u32];
        let mut plan = Self::default();
        for segment in segments {
            let first_span = plan.spans.len();
            let before = segment.ancestors.iter().map(|source| match source {
                Ancestor::Batch(rows) => own(rows),
                Ancestor::Cached(index) => {
                    let Keys { address, stride, rows } = cached[*index];
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
        // A causal block sees the keys up to its last row, so a sequence's last blocks see the
        // most.
        plan.blocks.sort_by_key(|[_, _, position, first_span, _, length]| {
            (Reverse(*length), *first_span, Reverse(*position))
        });
        plan
    }
}

/// Softmax attention of segments, which the caller has checked, in the dtype of `qkv`; heads of
/// sizes without a kernel of 16 bits, and biases by token, are computed in float32.
pub(crate) fn attention(
    qkv: &Tensor,
    heads: Heads,
    Sequences { segments, cached }: Sequences<'_>,
    scoring: Scoring<'_>,
) -> Result<Tensor> {
    let (dtype, device) = (qkv.dtype(), qkv.device());
    let by_token = matches!(scoring.bias, Some(ScoreBias::Tokens(_)));
    if dtype != DType::F32 && (by_token || !AttentionKernel::is_in_16_bits(heads.size)) {
        let wide = qkv.to_dtype(DType::F32)?;
        return attention(&wide, heads, Sequences { segments, cached }, scoring)?.to_dtype(dtype);
    }
    let Scoring { mask, bias } = scoring;
    let qkv = aligned(qkv)?;
    let rows = qkv.dim(0)?;
    let cached = cached.iter().map(|cached| aligned(&cached.to_dtype(dtype)?));
    let cached = cached.collect::<Result<Vec<_>>>()?;
    let stride = 2 * heads.kv_heads * heads.size;
    let cached_keys = cached
        .iter()
        .map(|cached| Ok(Keys { address: cuda::address(cached)?, stride, rows: cached.dim(0)? }));
    let cached_keys = cached_keys.collect::<Result<Vec<_>>>()?;
    let kernel = AttentionKernel::of(heads.size, dtype, BiasKind::of(bias))?;
    let plan = AttentionPlan::new(segments, kernel.rows, &cached_keys);
    let blocks = uploaded(plan.blocks.as_flattened(), device)?;
    let spans = uploaded(plan.spans.as_flattened(), device)?;
    let (mask, window) = match mask {
        Mask::Full => (0, 0),
        Mask::Causal => (1, 0),
        Mask::Window(reach) => (2, i32::try_from(reach).unwrap_or(i32::MAX)),
        Mask::CausalWindow(reach) => (3, i32::try_from(reach).unwrap_or(i32::MAX)),
    };
    let out = empty((rows, heads.heads * heads.size), dtype, device)?;
    let mut arguments = vec![
        at(&qkv)?,
        at(&blocks)?,
        at(&spans)?,
        int(heads.row())?,
        int(heads.heads)?,
        int(heads.kv_heads)?,
        int(heads.size)?,
        Argument::Int(mask),
        Argument::Int(window),
    ];
    let (tables, of_bias) = bias_arguments(rows, bias, device)?;
    tables.iter().for_each(recording::hold);
    arguments.extend(of_bias);
    arguments.push(at(&out)?);
    let shape = Launch {
        // A block's heads are adjacent in the grid, since their rows are adjacent in memory.
        grid: [(plan.blocks.len() * heads.heads) as u32, 1, 1],
        block: [BLOCK as u32, 1, 1],
        shared_bytes: kernel.shared_bytes as u32,
    };
    let loaded = cuda::kernel(device, kernel.source, &kernel.name)?;
    // SAFETY: the arguments match the kernel's parameters; the caller has checked that the rows of
    // blocks and spans are in `qkv` and `cached`, and the positions in the bias's
    // table; all of them are freed, if at all, in stream order.
    unsafe { cuda::start(device, &loaded, shape, &arguments) }?;
    Ok(out)
}

/// The arguments of a bias, and the tensors that they point to.
fn bias_arguments(
    rows: usize,
    bias: Option<ScoreBias<'_>>,
    device: &Device,
) -> Result<(Vec<Tensor>, Vec<Argument>)> {
    match bias {
        None => Ok((Vec::new(), Vec::new())),
        Some(ScoreBias::Table(bias)) => {
            let table = float32(&bias.table)?;
            let arguments = vec![at(&table)?, int(bias.reach)?];
            Ok((vec![table], arguments))
        }
        Some(ScoreBias::Tokens(bias)) => {
            let terms: Vec<&Tensor> = bias.queries.iter().chain(&bias.keys).collect();
            let terms = float32(&Tensor::stack(&terms, 0)?)?;
            let buckets = uploaded(bias.buckets.of_offsets(), device)?;
            let sizes = [bias.buckets.count(), bias.buckets.reach(), rows];
            let mut arguments = vec![at(&terms)?, at(&buckets)?];
            for size in sizes {
                arguments.push(int(size)?);
            }
            Ok((vec![terms, buckets], arguments))
        }
    }
}

/// The kinds of kernels by what they add to scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BiasKind {
    None,
    Table,
    Tokens,
}

impl BiasKind {
    fn of(bias: Option<ScoreBias<'_>>) -> Self {
        match bias {
            None => Self::None,
            Some(ScoreBias::Table(_)) => Self::Table,
            Some(ScoreBias::Tokens(_)) => Self::Tokens,
        }
    }
}

/// An attention kernel.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct AttentionKernel {
    pub source: &'static str,
    pub name: String,
    /// Query rows per block.
    pub rows: usize,
    /// Shared memory per block.
    pub shared_bytes: usize,
}

impl AttentionKernel {
    /// Whether heads of this size have a kernel of 16 bits.
    fn is_in_16_bits(size: usize) -> bool {
        SIZES.iter().any(|fits| size <= *fits) && size.is_multiple_of(PIECE)
    }

    /// The kernel for heads of this size and this kind of bias; one by token needs float32.
    pub(crate) fn of(size: usize, dtype: DType, bias: BiasKind) -> Result<Self> {
        let stem = match bias {
            BiasKind::None => "attention",
            BiasKind::Table => "attention_bias",
            BiasKind::Tokens => "attention_tokens",
        };
        if dtype == DType::F32 {
            if size > 256 {
                bail!("attention: heads of {size} elements are more than the supported 256");
            }
            let shared_bytes = 4 * (80 * 4 * (size.div_ceil(4) | 1) + 512);
            let name = format!("{stem}_f32");
            return Ok(Self { source: "attention_f32", name, rows: ROWS_F32, shared_bytes });
        }
        let Some(fits) = SIZES.into_iter().find(|fits| size <= *fits && size.is_multiple_of(PIECE))
        else {
            bail!(
                "attention: heads of {size} elements are not supported in 16 bits on this device; \
                 use dtype float32"
            );
        };
        let keys = if fits <= 64 { 64 } else { 32 };
        let shared_bytes = (8 * keys + 2 * QUERY_ROWS) * (fits + 8) + 32 * keys;
        let name = format!("{stem}_{}_{fits}", suffix(dtype)?);
        Ok(Self { source: "attention", name, rows: QUERY_ROWS, shared_bytes })
    }
}

#[cfg(test)]
mod tests;
