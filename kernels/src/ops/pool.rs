//! Pooling: from one row per token to one vector per sequence.

use candle_core::{Device, Result, Tensor, bail};

use super::{Backend, CpuSlice};
use crate::cuda::launch;
use crate::reference;
use crate::reference::pool::{is_empty, of_nothing};
use crate::spec::Pooling;

/// Pools `rows` (`[n_tokens, width]`, float32) into one vector per sequence:
/// `[n_sequences, width]`.
///
/// `skips` counts the leading tokens of each sequence that all methods but `Cls` leave out. If none
/// are left, the vector is zero, or NaN for `Max` (nothing has no maximum), as in
/// sentence-transformers.
///
/// # Errors
/// Offsets that do not partition the rows, or a device failure.
pub fn pool(rows: &Tensor, offsets: &[usize], skips: &[usize], pooling: Pooling) -> Result<Tensor> {
    let (tokens, width) = rows.dims2()?;
    let ascending = offsets.windows(2).all(|pair| pair[0] < pair[1]);
    if offsets.last() != Some(&tokens) || skips.len() + 1 != offsets.len() || !ascending {
        bail!("pool: offsets do not divide {tokens} rows");
    }
    match Backend::of(rows.device()) {
        Backend::Cuda => pool_on_cuda(rows, offsets, skips, pooling),
        Backend::Cpu | Backend::Reference => {
            let rows = rows.to_device(&Device::Cpu)?;
            let pooled =
                reference::pool::pool(&CpuSlice::of(&rows)?, width, offsets, skips, pooling);
            Tensor::from_vec(pooled, (skips.len(), width), &Device::Cpu)
        }
    }
}

fn pool_on_cuda(
    rows: &Tensor,
    offsets: &[usize],
    skips: &[usize],
    pooling: Pooling,
) -> Result<Tensor> {
    let bounds = offsets.windows(2).zip(skips).map(|(bounds, skip)| {
        let left_out = matches!(pooling, Pooling::Cls | Pooling::Last);
        let skip = if left_out || *skip >= bounds[1] - bounds[0] { 0 } else { *skip };
        [(bounds[0] + skip) as u32, bounds[1] as u32]
    });
    let pooled = launch::pool::pool(rows, &bounds.collect::<Vec<_>>(), pooling)?;
    let pooled = pooled.to_device(&Device::Cpu)?;
    if !offsets.windows(2).zip(skips).any(|(bounds, skip)| is_empty(bounds, *skip, pooling)) {
        return Ok(pooled);
    }
    let width = pooled.dim(1)?;
    let mut out = pooled.flatten_all()?.to_vec1()?;
    for ((bounds, skip), out) in offsets.windows(2).zip(skips).zip(out.chunks_mut(width)) {
        if is_empty(bounds, *skip, pooling) {
            out.fill(of_nothing(pooling));
        }
    }
    Tensor::from_vec(out, (skips.len(), width), &Device::Cpu)
}
