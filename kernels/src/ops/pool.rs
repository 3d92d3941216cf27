//! Pooling: from one row per token to one vector per sequence.

use candle_core::{Device, Result, Tensor, bail};

use super::{Backend, CpuSlice};
use crate::cuda::launch;
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
        bail!("pool: offsets do not divide {tokens} tokens");
    }
    match Backend::of(rows.device()) {
        Backend::Cuda => pool_on_cuda(rows, offsets, skips, pooling),
        Backend::Cpu | Backend::Reference => {
            let rows = rows.to_device(&Device::Cpu)?;
            let pooled = pool_on_cpu(&CpuSlice::of(&rows)?, width, (offsets, skips), pooling);
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

fn pool_on_cpu(
    rows: &[f32],
    width: usize,
    (offsets, skips): (&[usize], &[usize]),
    pooling: Pooling,
) -> Vec<f32> {
    let mut out = vec![0.0; skips.len() * width];
    for ((bounds, skip), out) in offsets.windows(2).zip(skips).zip(out.chunks_exact_mut(width)) {
        if is_empty(bounds, *skip, pooling) {
            out.fill(of_nothing(pooling));
            continue;
        }
        let all = &rows[bounds[0] * width..bounds[1] * width];
        match pooling {
            Pooling::Cls => out.copy_from_slice(&all[..width]),
            Pooling::Last => out.copy_from_slice(&all[all.len() - width..]),
            _ => combine(&all[skip * width..], pooling, out),
        }
    }
    out
}

/// Whether no token of a sequence is left.
fn is_empty(bounds: &[usize], skip: usize, pooling: Pooling) -> bool {
    pooling != Pooling::Cls && skip >= bounds[1] - bounds[0]
}

/// The value of every element of the vector of a sequence with no token left.
fn of_nothing(pooling: Pooling) -> f32 {
    if pooling == Pooling::Max { f32::NAN } else { 0.0 }
}

fn combine(rows: &[f32], pooling: Pooling, out: &mut [f32]) {
    let width = out.len();
    let count = rows.len() / width;
    if pooling == Pooling::Max {
        out.copy_from_slice(&rows[..width]);
        for row in rows.chunks_exact(width).skip(1) {
            // NaN propagates, so the finite check catches it.
            let larger = |a: f32, b: f32| if a > b || a.is_nan() { a } else { b };
            out.iter_mut().zip(row).for_each(|(out, value)| *out = larger(*out, *value));
        }
        return;
    }
    for (index, row) in rows.chunks_exact(width).enumerate() {
        let weight = if pooling == Pooling::WeightedMean { (index + 1) as f32 } else { 1.0 };
        out.iter_mut().zip(row).for_each(|(out, value)| *out += weight * value);
    }
    let divisor = match pooling {
        Pooling::WeightedMean => (count * (count + 1) / 2) as f32,
        Pooling::MeanSqrtLength => (count as f32).sqrt(),
        _ => count as f32,
    };
    out.iter_mut().for_each(|value| *value /= divisor);
}
