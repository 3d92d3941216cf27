//! Attention over ragged sequences, laid end to end.

use candle_core::{DType, Device, Result, Tensor, bail};

use super::linear::Linear;
use super::linear_input::{Inner, LinearInput};
use super::rows::Rows;
use super::{Backend, CpuSlice, matrix};
use crate::cpu::attention::{Attention, Bias, Layout, TokenTerms, attention_packed};
use crate::cpu::gemm::micro_kernel::Arithmetic;
use crate::cpu::{self, Isa};
use crate::cuda::launch;
use crate::reference;
use crate::spec::{Ancestor, Heads, PositionBias, ScoreBias, Scoring, Sequences};

/// Softmax self-attention of each sequence, with scores scaled by `1/sqrt(size)`, in the input
/// layout of the layer `next`: `[n_rows, heads * size]`. If `next` rounds its inputs, queries,
/// keys, values and attention weights are rounded to bfloat16 too, on CPUs that multiply bfloat16.
///
/// `qkv` is `[n_rows, row]` in the layout of [`Heads`].
///
/// # Errors
/// Mismatched shapes, or a device failure.
pub fn attention_for<'a>(
    qkv: &Rows,
    heads: Heads,
    sequences: Sequences<'_>,
    scoring: impl Into<Scoring<'a>>,
    next: &Linear,
) -> Result<LinearInput> {
    let scoring = scoring.into();
    let [rows, width] = qkv.shape()?;
    if width != heads.row() {
        bail!("attention: rows have {width} elements, expected {} for {heads:?}", heads.row());
    }
    check(rows, heads, sequences, scoring)?;
    let layout = next.input_layout();
    match qkv.backend() {
        Backend::Cpu => {
            let rounds = next.rounds() && Isa::current().multiplies_bf16();
            let arithmetic = if rounds { Arithmetic::Bf16 } else { Arithmetic::F32 };
            let packing = layout.packing()?;
            let qkv = qkv.elements()?;
            let mixed = on_cpu(qkv, heads, arithmetic, sequences, scoring, |attention| {
                attention_packed(Isa::current(), attention, packing)
            });
            Ok(LinearInput(Inner::Packed(mixed?)))
        }
        Backend::Cuda => {
            let qkv = qkv.device_tensor()?;
            let mixed = launch::attention::attention(qkv, heads, sequences, scoring)?;
            LinearInput::of(&mixed, layout)
        }
        Backend::Reference => {
            let qkv = qkv.tensor()?;
            let mixed = reference::attention::attention(&qkv, heads, sequences, scoring)?;
            LinearInput::of(&mixed, layout)
        }
    }
}

/// As [`attention_for`], but returns a float32 tensor; on the CPU it also computes in float32.
///
/// # Errors
/// Mismatched shapes, or a device failure.
pub fn attention<'a>(
    qkv: &Tensor,
    heads: Heads,
    sequences: Sequences<'_>,
    scoring: impl Into<Scoring<'a>>,
) -> Result<Tensor> {
    let scoring = scoring.into();
    let rows = matrix(qkv, heads.row(), "attention")?;
    check(rows, heads, sequences, scoring)?;
    match Backend::of(qkv.device()) {
        Backend::Cpu => {
            let width = heads.heads * heads.size;
            let mut out = vec![0.0; rows * width];
            let qkv = CpuSlice::of(qkv)?;
            on_cpu(&qkv, heads, Arithmetic::F32, sequences, scoring, |attention| {
                cpu::attention::attention(Isa::current(), attention, &mut out);
            })?;
            Tensor::from_vec(out, (rows, width), &Device::Cpu)
        }
        Backend::Cuda => {
            launch::attention::attention(qkv, heads, sequences, scoring)?.to_dtype(DType::F32)
        }
        Backend::Reference => reference::attention::attention(qkv, heads, sequences, scoring),
    }
}

/// Calls `compute` with the inputs as the CPU kernel takes them.
fn on_cpu<T>(
    qkv: &[f32],
    heads: Heads,
    arithmetic: Arithmetic,
    sequences: Sequences<'_>,
    scoring: Scoring<'_>,
    compute: impl FnOnce(Attention<'_>) -> T,
) -> Result<T> {
    let cached = sequences.cached.iter().map(|cached| CpuSlice::of(cached));
    let cached = cached.collect::<Result<Vec<_>>>()?;
    let cached: Vec<&[f32]> = cached.iter().map(|elements| &**elements).collect();
    let layout = Layout { segments: sequences.segments, cached: &cached };
    let compute =
        |bias| compute(Attention { qkv, heads, layout, mask: scoring.mask, bias, arithmetic });
    Ok(match scoring.bias {
        None => compute(None),
        Some(ScoreBias::Table(bias)) => {
            let table = CpuSlice::of(&bias.table)?;
            compute(Some(Bias::Table { table: &table, reach: bias.reach }))
        }
        Some(ScoreBias::Tokens(bias)) => {
            let queries = bias.queries.iter().map(CpuSlice::of).collect::<Result<Vec<_>>>()?;
            let keys = bias.keys.iter().map(CpuSlice::of).collect::<Result<Vec<_>>>()?;
            let terms = queries.iter().zip(&keys);
            let terms: Vec<TokenTerms<'_>> =
                terms.map(|(queries, keys)| TokenTerms { queries, keys }).collect();
            compute(Some(Bias::Tokens { terms: &terms, buckets: bias.buckets }))
        }
    })
}

/// Checks that a bias has the heads and rows of a batch, and reaches as far as its longest
/// sequence.
fn check_bias(rows: usize, heads: Heads, longest: usize, bias: ScoreBias<'_>) -> Result<()> {
    let (found, wanted, reach) = match bias {
        ScoreBias::Table(PositionBias { table, reach }) => {
            (vec![table.dims2()?], vec![(heads.heads, 2 * reach + 1)], *reach)
        }
        ScoreBias::Tokens(bias) => {
            let both = bias.queries.iter().chain(&bias.keys);
            let found = both.map(Tensor::dims2).collect::<Result<Vec<_>>>()?;
            (found, vec![(rows, bias.buckets.count); 2 * heads.heads], bias.buckets.reach)
        }
    };
    if found != wanted || longest > reach + 1 {
        bail!(
            "attention: the bias has shape {found:?}, expected {wanted:?}; it reaches {reach} \
             positions, and the longest sequence has {longest} rows"
        );
    }
    if let ScoreBias::Tokens(bias) = bias {
        let buckets = bias.buckets;
        let fit = buckets.of_offsets.iter().all(|bucket| (*bucket as usize) < buckets.count);
        if buckets.of_offsets.len() != 2 * reach + 1 || !fit {
            bail!("attention: {} buckets for a reach of {reach}", buckets.of_offsets.len());
        }
    }
    Ok(())
}

fn check(
    rows: usize,
    heads: Heads,
    Sequences { segments, cached }: Sequences<'_>,
    Scoring { mask, bias }: Scoring<'_>,
) -> Result<()> {
    if let Some(bias) = bias {
        let lengths = segments.iter().map(|segment| segment.start + segment.rows.len());
        check_bias(rows, heads, lengths.max().unwrap_or(0), bias)?;
        if matches!(bias, ScoreBias::Tokens(_)) && segments.iter().any(|part| part.start > 0) {
            bail!("attention: sequences with a bias by token share rows");
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
                Ancestor::Cached(index) if *index < cached.len() => cached[*index].dim(0)?,
                other => {
                    bail!("attention: the ancestor {other:?} is not before rows {:?}", segment.rows)
                }
            };
        }
        if before != segment.start || (before > 0 && !mask.is_causal()) {
            bail!(
                "attention: ancestors have {before} rows, but the segment starts at {}",
                segment.start
            );
        }
        next = segment.rows.end;
    }
    if next != rows {
        bail!("attention: segments cover {next} of {rows} rows");
    }
    Ok(())
}
