//! Pooling, on slices: one vector per sequence.

use crate::spec::Pooling;

/// Pools rows of `width` elements into one vector per sequence; see [`crate::ops::pool::pool`].
/// `offsets` divides the rows into sequences.
pub(crate) fn pool(
    rows: &[f32],
    width: usize,
    offsets: &[usize],
    skips: &[usize],
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
pub(crate) fn is_empty(bounds: &[usize], skip: usize, pooling: Pooling) -> bool {
    pooling != Pooling::Cls && skip >= bounds[1] - bounds[0]
}

/// The value of every element of the vector of a sequence with no token left.
pub(crate) fn of_nothing(pooling: Pooling) -> f32 {
    if pooling == Pooling::Max { f32::NAN } else { 0.0 }
}

fn combine(rows: &[f32], pooling: Pooling, out: &mut [f32]) {
    let width = out.len();
    let count = rows.len() / width;
    if pooling == Pooling::Max {
        out.copy_from_slice(&rows[..width]);
        for row in rows.chunks_exact(width).skip(1) {
            for (out, value) in out.iter_mut().zip(row) {
                // NaN propagates, so the finite check catches it.
                *out = if *out > *value || out.is_nan() { *out } else { *value };
            }
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
