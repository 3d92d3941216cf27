//! Embedding lookup.
//!
//! Must not know: what ids stand for.

use candle_core::{DType, Result, Tensor};

use super::{Call, at, blocks, empty, int, uploaded};
use crate::cuda::Argument;
use crate::spec::Corner;

/// The rows of `ids`, in float32. The caller has checked that all are in the table.
pub(crate) fn gather(table: &Tensor, ids: &[u32]) -> Result<Tensor> {
    let out = empty((ids.len(), table.dim(1)?), DType::F32, table.device())?;
    add(table, ids, &out, false)?;
    Ok(out)
}

/// Adds the table's rows of `ids` to `rows` if `added`, else overwrites `rows` with them. `rows`
/// must not be shared.
pub(crate) fn add(table: &Tensor, ids: &[u32], rows: &Tensor, added: bool) -> Result<()> {
    let (width, device) = (table.dim(1)?, table.device());
    let uploaded = uploaded(ids, device)?;
    let call = Call { source: "embedding", operation: "gather", dtype: table.dtype(), device };
    let arguments = [
        at(table)?,
        at(&uploaded)?,
        int(ids.len())?,
        int(width)?,
        Argument::Int(added.into()),
        at(rows)?,
    ];
    // SAFETY: the arguments match `gather`'s parameters; the caller has checked ids and shapes.
    unsafe { call.launch(blocks(ids.len()), &arguments) }
}

/// Adds four weighted rows of the table to each of `rows`, which must not be shared.
pub(crate) fn add_weighted(table: &Tensor, corners: &[[Corner; 4]], rows: &Tensor) -> Result<()> {
    let (width, device) = (table.dim(1)?, table.device());
    let ids: Vec<u32> = corners.iter().flatten().map(|corner| corner.row).collect();
    let weights: Vec<f32> = corners.iter().flatten().map(|corner| corner.weight).collect();
    let (ids, weights) = (uploaded(&ids, device)?, Tensor::new(weights, device)?);
    let call =
        Call { source: "embedding", operation: "gather_weighted", dtype: table.dtype(), device };
    let arguments =
        [at(table)?, at(&ids)?, at(&weights)?, int(corners.len())?, int(width)?, at(rows)?];
    // SAFETY: the arguments match `gather_weighted`'s parameters; the caller has checked ids and
    // shapes.
    unsafe { call.launch(blocks(corners.len()), &arguments) }
}
