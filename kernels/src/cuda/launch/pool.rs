//! Pooling: one vector per sequence.
//!
//! Must not know: readouts.

use candle_core::{DType, Result, Tensor};

use super::{BLOCK, Call, at, empty, float32, int, uploaded};
use crate::cuda::{Argument, Launch};
use crate::spec::Pooling;

/// Pools sequences, each given by its first row and its end, which the caller has checked:
/// `[sequences, width]`, float32.
pub(crate) fn pool(rows: &Tensor, bounds: &[[u32; 2]], pooling: Pooling) -> Result<Tensor> {
    let rows = float32(rows)?;
    let (width, device) = (rows.dim(1)?, rows.device());
    let out = empty((bounds.len(), width), DType::F32, device)?;
    let uploaded = uploaded(bounds.as_flattened(), device)?;
    let method = match pooling {
        Pooling::Cls => 0,
        Pooling::Mean => 1,
        Pooling::Last => 2,
        Pooling::Max => 3,
        Pooling::WeightedMean => 4,
        Pooling::MeanSqrtLength => 5,
    };
    let call = Call { source: "pool", operation: "pool", dtype: DType::F32, device };
    let arguments =
        [at(&rows)?, at(&uploaded)?, int(width)?, Argument::Int(method), int(width)?, at(&out)?];
    let shape = Launch {
        grid: [width.div_ceil(BLOCK) as u32, bounds.len() as u32, 1],
        block: [BLOCK as u32, 1, 1],
        shared_bytes: 0,
    };
    // SAFETY: the arguments match `pool`'s parameters; all columns are requested, bounds lie within
    // `rows`, and `out` has one row for each sequence.
    unsafe { call.launch(shape, &arguments) }?;
    Ok(out)
}
