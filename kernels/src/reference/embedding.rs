//! Embedding lookup.

use candle_core::{DType, Result, Tensor};

use crate::spec::Corner;

/// The rows of `ids`: `[n, width]`, float32.
///
/// # Errors
/// A device failure.
pub fn gather(table: &Tensor, ids: &[u32]) -> Result<Tensor> {
    table.index_select(&Tensor::new(ids, table.device())?, 0)?.to_dtype(DType::F32)
}

/// For each four corners, the weighted sum of their table rows: `[n, width]`, float32.
///
/// # Errors
/// A device failure.
pub fn weighted(table: &Tensor, corners: &[[Corner; 4]]) -> Result<Tensor> {
    let all = corners.iter().flatten().map(|corner| (corner.row, corner.weight));
    let (ids, weights): (Vec<u32>, Vec<f32>) = all.unzip();
    let weights = Tensor::from_vec(weights, (ids.len(), 1), table.device())?;
    let rows = gather(table, &ids)?.broadcast_mul(&weights)?;
    rows.reshape((corners.len(), 4, table.dim(1)?))?.sum(1)
}
