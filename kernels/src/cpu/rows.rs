//! Row by row: norms, rotary positions, activations, pooling. A row's result depends on that row
//! alone.
//!
//! Must not know: layers, tensors.

use rayon::prelude::*;

use super::epilogue::Activation;
use super::isa::{Isa, Kernel};
use super::simd::{LANES, Simd};

/// Numbers a task should have at least, so that waking a thread pays.
const TASK_MIN: usize = 16 * 1024;

/// Runs `work(first_row, rows)` over pieces of `out`, on all threads if there is enough to do.
fn in_pieces(out: &mut [f32], width: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    if out.len() <= TASK_MIN {
        work(0, out);
    } else {
        let rows = TASK_MIN.div_ceil(width);
        let pieces = out.par_chunks_mut(rows * width).enumerate();
        pieces.for_each(|(piece, out)| work(piece * rows, out));
    }
}

/// Root-mean-square norm of each row of `[rows, width]`: `x / sqrt(mean(x^2) + eps) * weight`
/// (Zhang and Sennrich, 2019).
///
/// # Panics
/// If lengths disagree.
pub fn rms_norm(isa: Isa, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let width = weight.len();
    assert!(width > 0 && x.len() == out.len() && x.len().is_multiple_of(width), "whole rows");
    in_pieces(out, width, |first, out| {
        let x = &x[first * width..first * width + out.len()];
        isa.run(RmsNorm { x, weight, eps, out });
    });
}

struct RmsNorm<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    eps: f32,
    out: &'a mut [f32],
}

impl Kernel for RmsNorm<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let width = self.weight.len();
        for (x, out) in self.x.chunks_exact(width).zip(self.out.chunks_exact_mut(width)) {
            rms_norm_row(s, x, self.weight, self.eps, out);
        }
    }
}

#[inline(always)]
fn rms_norm_row<S: Simd>(s: S, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let squares = fold(s, x, |sum, x| s.fma(x, x, sum));
    let scale = s.splat(1.0 / (squares / x.len() as f32 + eps).sqrt());
    let parts = x.chunks(LANES).zip(weight.chunks(LANES)).zip(out.chunks_mut(LANES));
    for ((x, weight), out) in parts {
        let scaled = s.mul(s.load_part(x), scale);
        s.store_part(out, s.mul(scaled, s.load_part(weight)));
    }
}

/// Sums over a row, 16 chains side by side; lanes beyond the end add `step(sum, 0)`.
#[inline(always)]
fn fold<S: Simd>(s: S, x: &[f32], step: impl Fn(S::V, S::V) -> S::V) -> f32 {
    let mut sum = s.splat(0.0);
    for part in x.chunks(LANES) {
        sum = step(sum, s.load_part(part));
    }
    s.sum(sum)
}

/// Layer norm of each row of `[rows, width]`: `(x - mean) / sqrt(variance + eps) * weight + bias`
/// (Ba, Kiros and Hinton, 2016).
///
/// # Panics
/// If lengths disagree.
pub fn layer_norm(
    isa: Isa,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    eps: f32,
    out: &mut [f32],
) {
    let width = weight.len();
    assert!(width > 0 && x.len() == out.len() && x.len().is_multiple_of(width), "whole rows");
    assert!(bias.is_none_or(|bias| bias.len() == width), "one bias a column");
    in_pieces(out, width, |first, out| {
        let x = &x[first * width..first * width + out.len()];
        isa.run(LayerNorm { x, weight, bias, eps, out });
    });
}

struct LayerNorm<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    eps: f32,
    out: &'a mut [f32],
}

impl Kernel for LayerNorm<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let width = self.weight.len();
        for (x, out) in self.x.chunks_exact(width).zip(self.out.chunks_exact_mut(width)) {
            let mean = fold(s, x, |sum, x| s.add(sum, x)) / width as f32;
            let mut squares = 0.0;
            let (whole, rest) = x.split_at(width - width % LANES);
            let center = |x| s.sub(x, s.splat(mean));
            squares += fold(s, whole, |sum, x| s.fma(center(x), center(x), sum));
            squares += rest.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>();
            let scale = 1.0 / (squares / width as f32 + self.eps).sqrt();
            for (part, out) in out.chunks_mut(LANES).enumerate() {
                let range = part * LANES..part * LANES + out.len();
                let centred = s.sub(s.load_part(&x[range.clone()]), s.splat(mean));
                let mut value = s.mul(centred, s.splat(scale));
                value = s.mul(value, s.load_part(&self.weight[range.clone()]));
                if let Some(bias) = self.bias {
                    value = s.add(value, s.load_part(&bias[range]));
                }
                s.store_part(out, value);
            }
        }
    }
}

/// Heads in a row of queries, keys and values laid side by side.
#[derive(Debug, Clone, Copy)]
pub struct RotaryHeads<'a> {
    /// Heads from the row's start on that are normed with `norms` and turned; the rest is copied.
    pub counts: [usize; 2],
    /// Norm weights (`[size]`) of the two groups of heads, if they are normed, and epsilon.
    pub norms: Option<([&'a [f32]; 2], f32)>,
    /// Numbers in a head; even.
    pub size: usize,
}

/// Norms (where asked) and turns heads by their position, in the half-split layout (Su et al.,
/// 2021, as `rotate_half`): for `i < size/2`, `(x[i], x[i+size/2])` is turned by the angle of `i`.
///
/// `x` and `out` are `[rows, width]`, `tables` the cosines and sines `[positions, size/2]`.
///
/// # Panics
/// If lengths disagree or a position is beyond the tables.
pub fn rotary(
    isa: Isa,
    x: &[f32],
    heads: RotaryHeads<'_>,
    positions: &[u32],
    tables: (&[f32], &[f32]),
    out: &mut [f32],
) {
    assert!(!positions.is_empty() && x.len() == out.len(), "a position a row");
    let width = x.len() / positions.len();
    assert!(x.len() == width * positions.len() && heads.size.is_multiple_of(2), "whole rows");
    assert!((heads.counts[0] + heads.counts[1]) * heads.size <= width, "the heads fit the row");
    if let Some((norms, _)) = heads.norms {
        assert!(norms.iter().all(|norm| norm.len() == heads.size), "norms have a head's size");
    }
    in_pieces(out, width, |first, out| {
        let x = &x[first * width..first * width + out.len()];
        isa.run(Rotary { x, heads, positions: &positions[first..], tables, width, out });
    });
}

struct Rotary<'a> {
    x: &'a [f32],
    heads: RotaryHeads<'a>,
    positions: &'a [u32],
    tables: (&'a [f32], &'a [f32]),
    width: usize,
    out: &'a mut [f32],
}

impl Kernel for Rotary<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let RotaryHeads { counts, norms, size } = self.heads;
        let turned = (counts[0] + counts[1]) * size;
        let rows = self.x.chunks_exact(self.width).zip(self.out.chunks_exact_mut(self.width));
        for ((x, out), position) in rows.zip(self.positions) {
            let at = *position as usize * (size / 2);
            let (cos, sin) = (&self.tables.0[at..at + size / 2], &self.tables.1[at..at + size / 2]);
            out[turned..].copy_from_slice(&x[turned..]);
            let heads = x[..turned].chunks_exact(size).zip(out[..turned].chunks_exact_mut(size));
            for (head, (x, out)) in heads.enumerate() {
                match norms {
                    Some((weights, eps)) => {
                        rms_norm_row(s, x, weights[usize::from(head >= counts[0])], eps, out);
                    }
                    None => out.copy_from_slice(x),
                }
                turn(s, out, cos, sin);
            }
        }
    }
}

#[inline(always)]
fn turn<S: Simd>(s: S, head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (left, right) = head.split_at_mut(cos.len());
    let parts = left.chunks_mut(LANES).zip(right.chunks_mut(LANES));
    for ((left, right), (cos, sin)) in parts.zip(cos.chunks(LANES).zip(sin.chunks(LANES))) {
        let (a, b) = (s.load_part(left), s.load_part(right));
        let (cos, sin) = (s.load_part(cos), s.load_part(sin));
        // As the reference: each product rounded, then the sum.
        s.store_part(left, s.sub(s.mul(a, cos), s.mul(b, sin)));
        s.store_part(right, s.add(s.mul(b, cos), s.mul(a, sin)));
    }
}

/// The activation of every number.
///
/// # Panics
/// If lengths disagree.
pub fn activate(isa: Isa, activation: Activation, x: &[f32], out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "as many out as in");
    in_pieces(out, LANES, |first, out| {
        let x = &x[first * LANES..first * LANES + out.len()];
        isa.run(Activate { activation, x, out });
    });
}

struct Activate<'a> {
    activation: Activation,
    x: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Activate<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (x, out) in self.x.chunks(LANES).zip(self.out.chunks_mut(LANES)) {
            s.store_part(out, self.activation.apply(s, s.load_part(x)));
        }
    }
}

/// Scales a vector to length one; a zero vector stays zero.
pub fn l2_normalize(vector: &mut [f32]) {
    // Summed in double precision, so that no length and no order of a cut is off.
    let squares = vector.iter().map(|value| f64::from(*value) * f64::from(*value)).sum::<f64>();
    if squares > 0.0 {
        let scale = 1.0 / squares.sqrt();
        vector.iter_mut().for_each(|value| *value = (f64::from(*value) * scale) as f32);
    }
}
