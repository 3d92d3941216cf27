//! Attention over ragged sequences, laid end to end.

use candle_core::{D, DType, Device, Result, Tensor, bail};

use super::linear::Linear;
use super::linear_input::{Inner, LayoutKind, LinearInput};
use super::rows::Rows;
use super::{CpuSlice, matrix};
use crate::cpu::Isa;
use crate::cpu::attention::{Attention, Bias, Layout, attention_packed};
use crate::cpu::gemm::micro_kernel::Arithmetic;
use crate::cuda::launch;
use crate::spec::{Ancestor, Heads, Mask, PositionBias, Scoring, Segment};

/// Softmax self-attention of each sequence, with scores scaled by `1/sqrt(size)`, in the input
/// layout of the layer `next`: `[n_rows, heads * size]`. If `next` rounds its inputs, queries,
/// keys, values and attention weights are rounded to bfloat16 too, on CPUs that multiply bfloat16.
///
/// `qkv` is `[n_rows, row]` in the layout of [`Heads`], `segments` says how rows form sequences,
/// `cached` holds keys and values of earlier batches (`[n, 2 * kv_heads * size]` each).
///
/// # Errors
/// Mismatched shapes, or a device failure.
pub fn attention_for<'a>(
    qkv: &Rows,
    heads: Heads,
    (segments, cached): (&[Segment], &[&Tensor]),
    scoring: impl Into<Scoring<'a>>,
    next: &Linear,
) -> Result<LinearInput> {
    let scoring = scoring.into();
    let [rows, width] = qkv.shape()?;
    if width != heads.row() {
        bail!("attention: rows of {width} elements for {heads:?}");
    }
    check(rows, heads, segments, cached, scoring)?;
    let packing = match (next.input_layout().0, qkv.as_plain()) {
        (LayoutKind::Packed(packing), _) => packing,
        (_, Some(qkv)) if qkv.device().is_cuda() => {
            let mixed = launch::attention::attention(qkv, heads, (segments, cached), scoring)?;
            return LinearInput::of(&mixed, next.input_layout());
        }
        _ => {
            return LinearInput::of(
                &plain(&qkv.tensor()?, heads, segments, cached, scoring)?,
                next.input_layout(),
            );
        }
    };
    let rounds = next.rounds() && Isa::current().multiplies_bf16();
    let arithmetic = if rounds { Arithmetic::Bf16 } else { Arithmetic::F32 };
    let cached = cached.iter().map(|cached| CpuSlice::of(cached)).collect::<Result<Vec<_>>>()?;
    let cached: Vec<&[f32]> = cached.iter().map(|numbers| &**numbers).collect();
    let layout = Layout { segments, cached: &cached };
    let table = scoring.bias.map(|bias| CpuSlice::of(&bias.table)).transpose()?;
    let bias = bias_of(table.as_ref(), scoring);
    let mask = scoring.mask;
    let what = Attention { qkv: qkv.elements()?, heads, layout, mask, bias, arithmetic };
    Ok(LinearInput(Inner::Packed(attention_packed(Isa::current(), what, packing))))
}

/// As [`attention_for`], but returns a float32 tensor; on the CPU it also computes in float32.
///
/// # Errors
/// Mismatched shapes, or a device failure.
pub fn attention<'a>(
    qkv: &Tensor,
    heads: Heads,
    segments: &[Segment],
    cached: &[&Tensor],
    scoring: impl Into<Scoring<'a>>,
) -> Result<Tensor> {
    let scoring = scoring.into();
    let rows = matrix(qkv, heads.row(), "attention")?;
    check(rows, heads, segments, cached, scoring)?;
    if qkv.device().is_cuda() {
        return launch::attention::attention(qkv, heads, (segments, cached), scoring)?
            .to_dtype(DType::F32);
    }
    if !qkv.device().is_cpu() {
        return plain(qkv, heads, segments, cached, scoring);
    }
    let mut out = vec![0.0; rows * heads.heads * heads.size];
    let numbers = CpuSlice::of(qkv)?;
    let cached = cached.iter().map(|cached| CpuSlice::of(cached)).collect::<Result<Vec<_>>>()?;
    let cached: Vec<&[f32]> = cached.iter().map(|numbers| &**numbers).collect();
    let layout = Layout { segments, cached: &cached };
    let table = scoring.bias.map(|bias| CpuSlice::of(&bias.table)).transpose()?;
    let (mask, bias) = (scoring.mask, bias_of(table.as_ref(), scoring));
    let arithmetic = Arithmetic::F32;
    let what = Attention { qkv: &numbers, heads, layout, mask, bias, arithmetic };
    crate::cpu::attention::attention(Isa::current(), what, &mut out);
    Tensor::from_vec(out, (rows, heads.heads * heads.size), &Device::Cpu)
}

/// The bias as the CPU kernel takes it, with the elements of its table.
fn bias_of<'a>(table: Option<&'a CpuSlice<'_>>, scoring: Scoring<'_>) -> Option<Bias<'a>> {
    let reach = scoring.bias?.reach;
    table.map(|table| Bias { table, reach })
}

fn check(
    rows: usize,
    heads: Heads,
    segments: &[Segment],
    cached: &[&Tensor],
    Scoring { mask, bias }: Scoring<'_>,
) -> Result<()> {
    if let Some(PositionBias { table, reach }) = bias {
        let wanted = (heads.heads, 2 * reach + 1);
        let longest = segments.iter().map(|it| it.start + it.rows.len()).max().unwrap_or(0);
        if table.dims2()? != wanted || longest > reach + 1 {
            bail!("attention: a bias of {:?} for {wanted:?}, {longest} rows", table.shape());
        }
    }
    for cached in cached {
        matrix(cached, 2 * heads.kv_heads * heads.size, "cached keys and values")?;
    }
    let mut next = 0;
    for segment in segments {
        if segment.rows.start != next || segment.rows.is_empty() {
            bail!("attention: segments do not cover the rows in order at {next}");
        }
        let mut before = 0;
        for source in &segment.ancestors {
            before += match source {
                Ancestor::Batch(rows) if rows.end <= segment.rows.start => rows.len(),
                Ancestor::Cached(place) if *place < cached.len() => cached[*place].dim(0)?,
                other => bail!("attention: {other:?} is not before {:?}", segment.rows),
            };
        }
        if before != segment.start || (before > 0 && !mask.is_causal()) {
            bail!("attention: {before} rows before a segment that starts at {}", segment.start);
        }
        next = segment.rows.end;
    }
    if next != rows {
        bail!("attention: segments cover {next} of {rows} rows");
    }
    Ok(())
}

/// The plain form of [`attention`]: materialises all scores of a segment.
///
/// # Errors
/// Mismatched shapes, or a device failure.
pub fn plain<'a>(
    qkv: &Tensor,
    heads: Heads,
    segments: &[Segment],
    cached: &[&Tensor],
    scoring: impl Into<Scoring<'a>>,
) -> Result<Tensor> {
    let scoring = scoring.into();
    let queries = heads.heads * heads.size;
    let keys = |rows: &std::ops::Range<usize>| {
        qkv.narrow(0, rows.start, rows.len())?.narrow(1, queries, heads.row() - queries)
    };
    let outputs = segments.iter().map(|segment| {
        let mut seen = Vec::with_capacity(segment.ancestors.len() + 1);
        for source in &segment.ancestors {
            seen.push(match source {
                Ancestor::Batch(rows) => keys(rows)?,
                Ancestor::Cached(place) => cached[*place].clone(),
            });
        }
        seen.push(keys(&segment.rows)?);
        let own = qkv.narrow(0, segment.rows.start, segment.rows.len())?.narrow(1, 0, queries)?;
        plain_segment(&own, &Tensor::cat(&seen, 0)?, heads, scoring)
    });
    Tensor::cat(&outputs.collect::<Result<Vec<_>>>()?, 0)
}

/// `queries` are those of the last rows of a sequence, `keys` holds the keys and values of all its
/// rows.
fn plain_segment(
    queries: &Tensor,
    keys: &Tensor,
    heads: Heads,
    Scoring { mask, bias }: Scoring<'_>,
) -> Result<Tensor> {
    let (rows, length, size) = (queries.dim(0)?, keys.dim(0)?, heads.size);
    let shared = heads.heads / heads.kv_heads;
    let part = |from: &Tensor, first: usize, count: usize| -> Result<Tensor> {
        let part = from.narrow(1, first * size, count * size)?;
        part.reshape((from.dim(0)?, count, size))?.transpose(0, 1)?.contiguous()
    };
    let repeat = |part: Tensor| -> Result<Tensor> {
        let wide = part.unsqueeze(1)?.broadcast_as((heads.kv_heads, shared, length, size))?;
        wide.reshape((heads.heads, length, size))
    };
    let scaled = (part(queries, 0, heads.heads)? * (1.0 / (size as f64).sqrt()))?;
    let values = repeat(part(keys, heads.kv_heads, heads.kv_heads)?)?;
    let keys = repeat(part(keys, 0, heads.kv_heads)?)?;
    let seen = |position: usize, column: usize| match mask {
        Mask::Full => true,
        Mask::Causal => column <= position,
        Mask::Window(reach) => position.abs_diff(column) <= reach,
        Mask::CausalWindow(reach) => column <= position && position - column <= reach,
    };
    let scores = scaled.matmul(&keys.t()?.contiguous()?)?;
    let scores = match bias {
        None => scores,
        Some(bias) => (scores + plain_bias(bias, rows, length)?)?,
    };
    let hidden: Vec<f32> = (0..rows * length)
        .map(|at| (at / length + length - rows, at % length))
        .map(|(position, column)| if seen(position, column) { 0.0 } else { f32::NEG_INFINITY })
        .collect();
    let hidden = Tensor::from_vec(hidden, (rows, length), queries.device())?;
    let scores = scores.broadcast_add(&hidden)?;
    let weights = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
    let weights = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?;
    weights.matmul(&values)?.transpose(0, 1)?.reshape((rows, heads.heads * size))
}

/// The biases of the last `rows` queries of a sequence: `[heads, rows, length]`.
fn plain_bias(bias: &PositionBias, rows: usize, length: usize) -> Result<Tensor> {
    let of_query = |row: usize| {
        let position = length - rows + row;
        bias.table.narrow(1, bias.reach - position, length)
    };
    Tensor::stack(&(0..rows).map(of_query).collect::<Result<Vec<_>>>()?, 1)
}
