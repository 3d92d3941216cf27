//! Rotary position embeddings.

use candle_core::{Result, Tensor};

use super::norm::rms_norm;
use crate::spec::{HeadNorms, Heads};

/// Applies the norms, if given, and rotates queries and keys by the cosines and sines of their
/// positions, in the half-split layout; values are unchanged.
///
/// # Errors
/// Mismatched shapes, or a device failure.
pub fn rotary(
    qkv: &Tensor,
    heads: Heads,
    norms: Option<&HeadNorms>,
    positions: &[u32],
    [cos, sin]: [&Tensor; 2],
) -> Result<Tensor> {
    let (tokens, size) = (positions.len(), heads.size);
    let index = Tensor::new(positions, qkv.device())?;
    let table = |table: &Tensor| -> Result<Tensor> {
        table.index_select(&index, 0)?.reshape((tokens, 1, size / 2))
    };
    let (cos, sin) = (table(cos)?, table(sin)?);
    let turn = |first: usize, count: usize, weight: Option<&Tensor>| -> Result<Tensor> {
        let mut part = qkv.narrow(1, first * size, count * size)?.contiguous()?;
        if let (Some(weight), Some(norms)) = (weight, norms) {
            let rows = part.reshape((tokens * count, size))?;
            part = rms_norm(&rows, weight, norms.eps)?;
        }
        let part = part.reshape((tokens, count, size))?;
        let (left, right) = (part.narrow(2, 0, size / 2)?, part.narrow(2, size / 2, size / 2)?);
        let new_left = (left.broadcast_mul(&cos)? - right.broadcast_mul(&sin)?)?;
        let new_right = (right.broadcast_mul(&cos)? + left.broadcast_mul(&sin)?)?;
        Tensor::cat(&[new_left, new_right], 2)?.reshape((tokens, count * size))
    };
    let queries = turn(0, heads.heads, norms.map(|norms| &norms.queries))?;
    let keys = turn(heads.heads, heads.kv_heads, norms.map(|norms| &norms.keys))?;
    let first_value = (heads.heads + heads.kv_heads) * size;
    let values = qkv.narrow(1, first_value, heads.kv_heads * size)?;
    Tensor::cat(&[queries, keys, values], 1)
}
