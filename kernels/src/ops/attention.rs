//! Attention over sequences laid end to end.

use candle_core::{D, Device, Result, Tensor, bail};

use super::{CpuNumbers, matrix};
use crate::cpu::Isa;
pub use crate::cpu::attention::{Heads, Mask};

/// Softmax attention of each sequence with itself, scores scaled by `1/sqrt(size)`.
///
/// `qkv` is `[n_tokens, row]` as [`Heads`] lays it out, `offsets` where sequences begin and the
/// number of tokens; the result is `[n_tokens, heads * size]`.
///
/// # Errors
/// Shapes that disagree, or a failure of the device.
pub fn attention(qkv: &Tensor, heads: Heads, offsets: &[usize], mask: Mask) -> Result<Tensor> {
    let tokens = matrix(qkv, heads.row(), "attention")?;
    let ascending = offsets.windows(2).all(|pair| pair[0] < pair[1]);
    if offsets.first() != Some(&0) || offsets.last() != Some(&tokens) || !ascending {
        bail!("attention: offsets do not divide {tokens} tokens");
    }
    if !qkv.device().is_cpu() {
        return plain(qkv, heads, offsets, mask);
    }
    let mut out = vec![0.0; tokens * heads.heads * heads.size];
    let numbers = CpuNumbers::of(qkv)?;
    crate::cpu::attention::attention(Isa::current(), &numbers, heads, offsets, mask, &mut out);
    Tensor::from_vec(out, (tokens, heads.heads * heads.size), &Device::Cpu)
}

/// The plain form of [`attention`]: all scores of a sequence at once.
///
/// # Errors
/// Shapes that disagree, or a failure of the device.
pub fn plain(qkv: &Tensor, heads: Heads, offsets: &[usize], mask: Mask) -> Result<Tensor> {
    let outputs = offsets.windows(2).map(|bounds| {
        let rows = qkv.narrow(0, bounds[0], bounds[1] - bounds[0])?;
        plain_sequence(&rows, heads, mask)
    });
    Tensor::cat(&outputs.collect::<Result<Vec<_>>>()?, 0)
}

fn plain_sequence(rows: &Tensor, heads: Heads, mask: Mask) -> Result<Tensor> {
    let (length, size, shared) = (rows.dim(0)?, heads.size, heads.heads / heads.kv_heads);
    let part = |first: usize, count: usize| -> Result<Tensor> {
        let part = rows.narrow(1, first * size, count * size)?;
        part.reshape((length, count, size))?.transpose(0, 1)?.contiguous()
    };
    let repeat = |part: Tensor| -> Result<Tensor> {
        let wide = part.unsqueeze(1)?.broadcast_as((heads.kv_heads, shared, length, size))?;
        wide.reshape((heads.heads, length, size))
    };
    let queries = (part(0, heads.heads)? * (1.0 / (size as f64).sqrt()))?;
    let keys = repeat(part(heads.heads, heads.kv_heads)?)?;
    let values = repeat(part(heads.heads + heads.kv_heads, heads.kv_heads)?)?;
    let seen = |row: usize, column: usize| match mask {
        Mask::Full => true,
        Mask::Causal => column <= row,
        Mask::Window(reach) => row.abs_diff(column) <= reach,
    };
    let hidden: Vec<f32> = (0..length * length)
        .map(|at| if seen(at / length, at % length) { 0.0 } else { f32::NEG_INFINITY })
        .collect();
    let hidden = Tensor::from_vec(hidden, (length, length), rows.device())?;
    let scores = queries.matmul(&keys.t()?.contiguous()?)?.broadcast_add(&hidden)?;
    let weights = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
    let weights = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?;
    weights.matmul(&values)?.transpose(0, 1)?.reshape((length, heads.heads * size))
}
