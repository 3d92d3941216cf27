//! Embedding lookup.

use candle_core::{DType, Result, Tensor};

/// The rows of `ids`: `[n, width]`, float32.
///
/// # Errors
/// A device failure.
pub fn gather(table: &Tensor, ids: &[u32]) -> Result<Tensor> {
    table.index_select(&Tensor::new(ids, table.device())?, 0)?.to_dtype(DType::F32)
}

/// For each four (id, weight) pairs, the weighted sum of their table rows: `[n, width]`, float32.
///
/// # Errors
/// A device failure.
pub fn weighted(table: &Tensor, corners: &[[(u32, f32); 4]]) -> Result<Tensor> {
    let (ids, weights): (Vec<u32>, Vec<f32>) = corners.iter().flatten().copied().unzip();
    let weights = Tensor::from_vec(weights, (ids.len(), 1), table.device())?;
    let rows = gather(table, &ids)?.broadcast_mul(&weights)?;
    rows.reshape((corners.len(), 4, table.dim(1)?))?.sum(1)
}
