//! Row-wise operations: norms, rotary embeddings, activations, L2 normalization. The result of a
//! row depends on that row alone.
//!
//! Must not know: layers, tensors.

use crate::cpu::buffer::shared::SharedMut;
use crate::cpu::gemm::epilogue;
use crate::cpu::gemm::pack_lhs::{PackedLhs, Packing, PanelWriter};
use crate::cpu::isa::Isa;
use crate::cpu::isa::simd::{LANES, Simd, SimdOp};
use crate::cpu::thread_pool;
use crate::spec::Activation;

/// Minimum elements per task for waking a thread to pay off.
const TASK_MIN: usize = 16 * 1024;

/// Runs `work(first_row, rows)` over chunks of `out`, on all threads if there is enough work.
fn in_pieces(out: &mut [f32], width: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    if out.len() <= TASK_MIN {
        work(0, out);
    } else {
        let rows = TASK_MIN.div_ceil(width);
        thread_pool::for_each_part(out, rows * width, |piece, out| work(piece * rows, out));
    }
}

/// A normalization of rows.
#[derive(Debug, Clone, Copy)]
pub enum Norm<'a> {
    /// `x / sqrt(mean(x^2) + eps) * weight` (Zhang and Sennrich, 2019).
    Rms {
        /// `[width]`
        weight: &'a [f32],
        /// Added to the mean.
        eps: f32,
    },
    /// `(x - mean) / sqrt(variance + eps) * weight + bias` (Ba, Kiros and Hinton, 2016).
    Layer {
        /// `[width]`
        weight: &'a [f32],
        /// `[width]`
        bias: Option<&'a [f32]>,
        /// Added to the variance.
        eps: f32,
    },
}

impl Norm<'_> {
    fn width(&self) -> usize {
        match self {
            Self::Rms { weight, .. } | Self::Layer { weight, .. } => weight.len(),
        }
    }

    fn check(&self, x: &[f32]) {
        let width = self.width();
        assert!(width > 0 && x.len().is_multiple_of(width), "whole rows");
        if let Self::Layer { bias: Some(bias), .. } = self {
            assert_eq!(bias.len(), width, "one bias a column");
        }
    }

    #[inline(always)]
    fn row<S: Simd>(&self, s: S, x: &[f32], out: &mut [f32]) {
        match *self {
            Self::Rms { weight, eps } => rms_norm_row(s, x, weight, eps, out),
            Self::Layer { weight, bias, eps } => layer_norm_row(s, x, weight, bias, eps, out),
        }
    }
}

/// Normalizes each row of `[rows, width]`.
///
/// # Panics
/// If lengths disagree.
pub fn norm(isa: Isa, norm: Norm<'_>, x: &[f32], out: &mut [f32]) {
    norm.check(x);
    assert_eq!(x.len(), out.len(), "as many rows out as in");
    in_pieces(out, norm.width(), |first, out| {
        let first = first * norm.width();
        isa.run(NormRows { norm, x: &x[first..first + out.len()], out });
    });
}

struct NormRows<'a> {
    norm: Norm<'a>,
    x: &'a [f32],
    out: &'a mut [f32],
}

impl SimdOp for NormRows<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let width = self.norm.width();
        for (x, out) in self.x.chunks_exact(width).zip(self.out.chunks_exact_mut(width)) {
            self.norm.row(s, x, out);
        }
    }
}

/// Like [`norm`], but packs the result for a GEMM; `out`, if given, also receives it unpacked.
///
/// # Panics
/// If lengths disagree.
pub fn norm_packed(
    isa: Isa,
    norm: Norm<'_>,
    x: &[f32],
    out: Option<&mut [f32]>,
    packing: Packing,
) -> PackedLhs {
    norm.check(x);
    assert!(out.as_ref().is_none_or(|out| out.len() == x.len()), "as many rows out as in");
    let width = norm.width();
    let mut packed = PackedLhs::new(packing, x.len() / width, width);
    let out = out.map(SharedMut::new);
    packed.fill(isa, |isa, writer, rows| {
        let x = &x[rows.start * width..rows.end * width];
        isa.run(NormPacked { norm, x, first: rows.start, out: out.as_ref(), writer });
    });
    packed
}

struct NormPacked<'a> {
    norm: Norm<'a>,
    x: &'a [f32],
    first: usize,
    out: Option<&'a SharedMut<'a, f32>>,
    writer: &'a PanelWriter<'a>,
}

impl SimdOp for NormPacked<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let width = self.norm.width();
        let mut normed = vec![0.0; width];
        for (row, x) in self.x.chunks_exact(width).enumerate() {
            let row = self.first + row;
            // SAFETY: each task has its own rows.
            let out = self.out.map(|out| unsafe { out.part(row * width, width) });
            let out = out.unwrap_or(&mut normed);
            self.norm.row(s, x, out);
            // SAFETY: as above.
            unsafe { self.writer.row(s, row, out) };
        }
    }
}

#[inline(always)]
fn rms_norm_row<S: Simd>(s: S, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let scale = rms_scale(s, x, eps);
    let parts = x.chunks(LANES).zip(weight.chunks(LANES)).zip(out.chunks_mut(LANES));
    for ((x, weight), out) in parts {
        let scaled = s.mul(s.load_part(x), scale);
        s.store_part(out, s.mul(scaled, s.load_part(weight)));
    }
}

/// `1 / sqrt(mean(x^2) + eps)`, in all lanes.
#[inline(always)]
fn rms_scale<S: Simd>(s: S, x: &[f32], eps: f32) -> S::V {
    let squares = fold(s, x, |sum, x| s.fma(x, x, sum));
    s.splat(1.0 / (squares / x.len() as f32 + eps).sqrt())
}

/// Folds a row in 16 independent lanes and sums them; lanes past the row's end see `step(sum, 0)`.
#[inline(always)]
fn fold<S: Simd>(s: S, x: &[f32], step: impl Fn(S::V, S::V) -> S::V) -> f32 {
    let mut sum = s.splat(0.0);
    for part in x.chunks(LANES) {
        sum = step(sum, s.load_part(part));
    }
    s.sum(sum)
}

#[inline(always)]
fn layer_norm_row<S: Simd>(
    s: S,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    eps: f32,
    out: &mut [f32],
) {
    let width = x.len();
    let mean = fold(s, x, |sum, x| s.add(sum, x)) / width as f32;
    let mut squares = 0.0;
    let (whole, rest) = x.split_at(width - width % LANES);
    let center = |x| s.sub(x, s.splat(mean));
    squares += fold(s, whole, |sum, x| s.fma(center(x), center(x), sum));
    squares += rest.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>();
    let scale = 1.0 / (squares / width as f32 + eps).sqrt();
    for (part, out) in out.chunks_mut(LANES).enumerate() {
        let range = part * LANES..part * LANES + out.len();
        let centred = s.sub(s.load_part(&x[range.clone()]), s.splat(mean));
        let mut value = s.mul(centred, s.splat(scale));
        value = s.mul(value, s.load_part(&weight[range.clone()]));
        if let Some(bias) = bias {
            value = s.add(value, s.load_part(&bias[range]));
        }
        s.store_part(out, value);
    }
}

/// Heads of a row that holds queries, keys and values side by side.
#[derive(Debug, Clone, Copy)]
pub struct RotaryHeads<'a> {
    /// Number of heads in each of two groups at the row's start, which are normalized by `norms`
    /// and rotated; the rest of the row is unchanged.
    pub counts: [usize; 2],
    /// RMS norm weights (`[size]`) of the two groups, and epsilon, if heads are normalized.
    pub norms: Option<([&'a [f32]; 2], f32)>,
    /// Elements per head; even.
    pub size: usize,
}

/// Applies the norm (if any) and the rotary embedding to heads, in place, in the half-split layout
/// (Su et al., 2021; `rotate_half`): for `i < size/2`, `(x[i], x[i+size/2])` is rotated by the
/// `i`-th angle of the row's position.
///
/// `x` is `[rows, width]`; `cos` and `sin` are `[positions, size/2]`.
///
/// # Panics
/// If lengths disagree or a position is beyond the tables.
pub fn rotary(
    isa: Isa,
    x: &mut [f32],
    heads: RotaryHeads<'_>,
    positions: &[u32],
    cos: &[f32],
    sin: &[f32],
) {
    assert!(!positions.is_empty(), "a position a row");
    let width = x.len() / positions.len();
    assert!(x.len() == width * positions.len() && heads.size.is_multiple_of(2), "whole rows");
    assert!((heads.counts[0] + heads.counts[1]) * heads.size <= width, "the heads fit the row");
    if let Some((norms, _)) = heads.norms {
        assert!(norms.iter().all(|norm| norm.len() == heads.size), "norms have a head's size");
    }
    in_pieces(x, width, |first, x| {
        isa.run(RotateRows { x, heads, positions: &positions[first..], cos, sin, width });
    });
}

struct RotateRows<'a> {
    x: &'a mut [f32],
    heads: RotaryHeads<'a>,
    positions: &'a [u32],
    cos: &'a [f32],
    sin: &'a [f32],
    width: usize,
}

impl SimdOp for RotateRows<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let RotaryHeads { counts, norms, size } = self.heads;
        let turned = (counts[0] + counts[1]) * size;
        for (x, position) in self.x.chunks_exact_mut(self.width).zip(self.positions) {
            let at = *position as usize * (size / 2);
            let (cos, sin) = (&self.cos[at..at + size / 2], &self.sin[at..at + size / 2]);
            for (head, x) in x[..turned].chunks_exact_mut(size).enumerate() {
                if let Some((weights, eps)) = norms {
                    let weight = weights[usize::from(head >= counts[0])];
                    let scale = rms_scale(s, x, eps);
                    for (x, weight) in x.chunks_mut(LANES).zip(weight.chunks(LANES)) {
                        let scaled = s.mul(s.load_part(x), scale);
                        s.store_part(x, s.mul(scaled, s.load_part(weight)));
                    }
                }
                turn(s, x, cos, sin);
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
        // As in the reference: each product is rounded before the sum (no FMA).
        s.store_part(left, s.sub(s.mul(a, cos), s.mul(b, sin)));
        s.store_part(right, s.add(s.mul(b, cos), s.mul(a, sin)));
    }
}

/// Applies an activation to every element.
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

impl SimdOp for Activate<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (x, out) in self.x.chunks(LANES).zip(self.out.chunks_mut(LANES)) {
            s.store_part(out, epilogue::activated(s, self.activation, s.load_part(x)));
        }
    }
}

/// Scales a vector to unit L2 norm; a zero vector stays zero.
pub fn l2_normalize(vector: &mut [f32]) {
    // Summed in float64, so that the norm is accurate for any length and summation order.
    let squares = vector.iter().map(|value| f64::from(*value) * f64::from(*value)).sum::<f64>();
    if squares > 0.0 {
        let scale = 1.0 / squares.sqrt();
        vector.iter_mut().for_each(|value| *value = (f64::from(*value) * scale) as f32);
    }
}
