//! Attention over ragged sequences, with all scores of a segment in memory.

use candle_core::{D, Result, Tensor};

use crate::spec::{
    Ancestor, Heads, Mask, PositionBias, ScoreBias, Scoring, Segment, Sequences, TokenBias,
};

/// Softmax attention of each sequence, with scores scaled by `1/sqrt(size)`.
///
/// # Errors
/// Mismatched shapes, or a device failure.
pub fn attention<'a>(
    qkv: &Tensor,
    heads: Heads,
    Sequences { segments, cached }: Sequences<'_>,
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
                Ancestor::Cached(index) => cached[*index].clone(),
            });
        }
        seen.push(keys(&segment.rows)?);
        let own = qkv.narrow(0, segment.rows.start, segment.rows.len())?.narrow(1, 0, queries)?;
        attend(&own, &Tensor::cat(&seen, 0)?, heads, scoring, segment)
    });
    Tensor::cat(&outputs.collect::<Result<Vec<_>>>()?, 0)
}

/// `queries` are those of the last rows of a sequence, `keys` holds the keys and values of all its
/// rows.
fn attend(
    queries: &Tensor,
    keys: &Tensor,
    heads: Heads,
    Scoring { mask, bias }: Scoring<'_>,
    segment: &Segment,
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
    let terms = bias.map_or(1, ScoreBias::terms);
    let scaled = (part(queries, 0, heads.heads)? * (1.0 / ((terms * size) as f64).sqrt()))?;
    let values = repeat(part(keys, heads.kv_heads, heads.kv_heads)?)?;
    let keys = repeat(part(keys, 0, heads.kv_heads)?)?;
    let scores = scaled.matmul(&keys.t()?.contiguous()?)?;
    let scores = match bias {
        None => scores,
        Some(ScoreBias::Table(bias)) => (scores + bias_of(bias, rows, length)?)?,
        Some(ScoreBias::Tokens(bias)) => (scores + token_bias_of(bias, segment)?)?,
    };
    let hidden = (0..rows * length).map(|at| {
        let (position, column) = (at / length + length - rows, at % length);
        let is_seen = match mask {
            Mask::Full => true,
            Mask::Causal => column <= position,
            Mask::Window(reach) => position.abs_diff(column) <= reach,
            Mask::CausalWindow(reach) => column <= position && position - column <= reach,
        };
        if is_seen { 0.0 } else { f32::NEG_INFINITY }
    });
    let hidden = Tensor::from_vec(hidden.collect::<Vec<f32>>(), (rows, length), queries.device())?;
    let scores = scores.broadcast_add(&hidden)?;
    let weights = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
    let weights = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?;
    weights.matmul(&values)?.transpose(0, 1)?.reshape((rows, heads.heads * size))
}

/// The biases of the last `rows` queries of a sequence: `[heads, rows, length]`.
fn bias_of(bias: &PositionBias, rows: usize, length: usize) -> Result<Tensor> {
    let of_queries = (0..rows).map(|row| {
        let position = length - rows + row;
        bias.table.narrow(1, bias.reach - position, length)
    });
    Tensor::stack(&of_queries.collect::<Result<Vec<_>>>()?, 1)
}

/// The biases of a sequence: `[heads, rows, rows]`.
fn token_bias_of(bias: &TokenBias<'_>, segment: &Segment) -> Result<Tensor> {
    let TokenBias { queries, keys, buckets } = bias;
    let (first, rows) = (segment.rows.start, segment.rows.len());
    // The bucket of each token relative to each other.
    let of_pairs = (0..rows).flat_map(|row| {
        let first = buckets.reach() - row;
        &buckets.of_offsets()[first..first + rows]
    });
    let of_pairs: Vec<u32> = of_pairs.copied().collect();
    let of_pairs = Tensor::from_vec(of_pairs, (rows, rows), queries[0].device())?;
    let of_heads = queries.iter().zip(keys).map(|(queries, keys)| {
        let of_queries = queries.narrow(0, first, rows)?.gather(&of_pairs, 1)?;
        let of_keys = keys.narrow(0, first, rows)?.gather(&of_pairs, 1)?;
        of_queries + of_keys.t()?
    });
    Tensor::stack(&of_heads.collect::<Result<Vec<_>>>()?, 0)
}
