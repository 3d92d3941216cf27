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
use crate::spec::{
    Ancestor, Heads, Mask, OffsetBuckets, PositionBias, ScoreBias, Scoring, Sequences, TokenBias,
};

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
    check(qkv_rows(qkv, heads)?, heads, sequences, scoring)?;
    let layout = next.input_layout();
    match qkv.backend() {
        Backend::Cpu => with_bias(scoring.bias, |bias| {
            packed_on_cpu(qkv, heads, sequences, scoring.mask, bias, next)
        })?,
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

/// The terms of a bias by token, see [`TokenBias`], as activations between operations.
#[derive(Debug)]
pub struct RowTerms {
    /// For each head, `[n_rows, buckets]`: the terms of queries, scaled.
    pub queries: Vec<Rows>,
    /// The same for keys.
    pub keys: Vec<Rows>,
}

/// As [`attention_for`], of whole sequences with a bias by token.
///
/// # Errors
/// Mismatched shapes, or a device failure.
pub fn attention_by_token_for(
    qkv: &Rows,
    heads: Heads,
    sequences: Sequences<'_>,
    terms: &RowTerms,
    buckets: &OffsetBuckets,
    next: &Linear,
) -> Result<LinearInput> {
    if qkv.backend() != Backend::Cpu {
        let tensors = |rows: &[Rows]| rows.iter().map(Rows::tensor).collect::<Result<Vec<_>>>();
        let (queries, keys) = (tensors(&terms.queries)?, tensors(&terms.keys)?);
        let bias = TokenBias { queries, keys, buckets };
        let scoring = Scoring { mask: Mask::Full, bias: Some(ScoreBias::Tokens(&bias)) };
        return attention_for(qkv, heads, sequences, scoring, next);
    }
    let rows = qkv_rows(qkv, heads)?;
    check(rows, heads, sequences, Mask::Full.into())?;
    for terms in [&terms.queries, &terms.keys] {
        let shapes = terms.iter().map(Rows::shape).collect::<Result<Vec<_>>>()?;
        check_terms(&shapes, [rows, buckets.count()], heads, sequences)?;
    }
    check_reach(sequences, buckets.reach())?;
    let of_heads = terms.queries.iter().zip(&terms.keys).map(|(queries, keys)| {
        Ok(TokenTerms { queries: queries.elements()?, keys: keys.elements()? })
    });
    let of_heads = of_heads.collect::<Result<Vec<_>>>()?;
    let bias = Some(Bias::Tokens { terms: &of_heads, buckets });
    packed_on_cpu(qkv, heads, sequences, Mask::Full, bias, next)
}

/// Attention on the CPU, in the input layout of the layer `next`.
fn packed_on_cpu(
    qkv: &Rows,
    heads: Heads,
    sequences: Sequences<'_>,
    mask: Mask,
    bias: Option<Bias<'_>>,
    next: &Linear,
) -> Result<LinearInput> {
    let rounds = next.rounds() && Isa::current().multiplies_bf16();
    let arithmetic = if rounds { Arithmetic::Bf16 } else { Arithmetic::F32 };
    let packing = next.input_layout().packing()?;
    let cached = cached_slices(sequences)?;
    let cached: Vec<&[f32]> = cached.iter().map(|elements| &**elements).collect();
    let layout = Layout { segments: sequences.segments, cached: &cached };
    let attention = Attention { qkv: qkv.elements()?, heads, layout, mask, bias, arithmetic };
    Ok(LinearInput(Inner::Packed(attention_packed(Isa::current(), attention, packing))))
}

/// The cached parts of sequences on the CPU.
fn cached_slices<'a>(sequences: Sequences<'a>) -> Result<Vec<CpuSlice<'a>>> {
    sequences.cached.iter().map(|cached| CpuSlice::of(cached)).collect()
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
            let (qkv, cached) = (CpuSlice::of(qkv)?, cached_slices(sequences)?);
            let cached: Vec<&[f32]> = cached.iter().map(|elements| &**elements).collect();
            let layout = Layout { segments: sequences.segments, cached: &cached };
            with_bias(scoring.bias, |bias| {
                let (mask, arithmetic) = (scoring.mask, Arithmetic::F32);
                let attention = Attention { qkv: &qkv, heads, layout, mask, bias, arithmetic };
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

/// Calls `compute` with a bias as the CPU kernel takes it.
fn with_bias<T>(
    bias: Option<ScoreBias<'_>>,
    compute: impl FnOnce(Option<Bias<'_>>) -> T,
) -> Result<T> {
    Ok(match bias {
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

/// Number of rows, whose length is checked.
fn qkv_rows(qkv: &Rows, heads: Heads) -> Result<usize> {
    let [rows, width] = qkv.shape()?;
    if width != heads.row() {
        bail!("attention: rows have {width} elements, expected {} for {heads:?}", heads.row());
    }
    Ok(rows)
}

/// Checks that a bias has the heads and rows of a batch, and reaches as far as its longest
/// sequence.
fn check_bias(
    rows: usize,
    heads: Heads,
    sequences: Sequences<'_>,
    bias: ScoreBias<'_>,
) -> Result<()> {
    match bias {
        ScoreBias::Table(PositionBias { table, reach }) => {
            matrix(table, 2 * reach + 1, "attention's table of biases")?;
            if table.dim(0)? != heads.heads {
                bail!("attention: a table of {} biases for {heads:?}", table.dim(0)?);
            }
            check_reach(sequences, *reach)
        }
        ScoreBias::Tokens(TokenBias { queries, keys, buckets }) => {
            for terms in [queries, keys] {
                let shapes = terms.iter().map(|terms| Ok(terms.dims2()?.into()));
                let shapes = shapes.collect::<Result<Vec<[usize; 2]>>>()?;
                check_terms(&shapes, [rows, buckets.count()], heads, sequences)?;
            }
            check_reach(sequences, buckets.reach())
        }
    }
}

/// Checks that the terms of queries or of keys have the shape `wanted`, one for each head, and that
/// no sequences share rows.
fn check_terms(
    shapes: &[[usize; 2]],
    wanted: [usize; 2],
    heads: Heads,
    sequences: Sequences<'_>,
) -> Result<()> {
    if shapes.len() != heads.heads || shapes.iter().any(|shape| *shape != wanted) {
        bail!("attention: terms have shapes {shapes:?}, expected {wanted:?} for {heads:?}");
    }
    if sequences.segments.iter().any(|segment| segment.start > 0) {
        bail!("attention: sequences with a bias by token share rows");
    }
    Ok(())
}

/// Checks that a bias that reaches `reach` positions does for the longest sequence.
fn check_reach(sequences: Sequences<'_>, reach: usize) -> Result<()> {
    let lengths = sequences.segments.iter().map(|segment| segment.start + segment.rows.len());
    match lengths.max() {
        Some(longest) if longest > reach + 1 => bail!(
            "attention: the bias reaches {reach} positions, and the longest sequence has {longest} \
             rows"
        ),
        _ => Ok(()),
    }
}

fn check(
    rows: usize,
    heads: Heads,
    sequences: Sequences<'_>,
    Scoring { mask, bias }: Scoring<'_>,
) -> Result<()> {
    let Sequences { segments, cached } = sequences;
    if let Some(bias) = bias {
        check_bias(rows, heads, sequences, bias)?;
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
