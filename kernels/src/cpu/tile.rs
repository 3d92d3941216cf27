//! The innermost product: a few rows times 32 columns, all sums in registers.
//!
//! Must not know: what the rows and columns stand for.

use super::aligned::Plain;
use super::simd::{LANES, Simd};

/// Columns of a panel and of a tile.
pub const PANEL: usize = 2 * LANES;

/// Numbers of several rows, step by step: number `(row, step)` is at `row * self.row + step *
/// self.step`.
#[derive(Clone, Copy)]
pub struct Strided<'a> {
    /// All numbers.
    pub values: &'a [f32],
    /// Distance between rows.
    pub row: usize,
    /// Distance between steps.
    pub step: usize,
}

/// Sums of several rows, 32 columns each, `row` apart.
pub struct Sums<'a> {
    /// All sums.
    pub values: &'a mut [f32],
    /// Distance between rows.
    pub row: usize,
}

/// `sums[row][column] += x[row][step] * weights[step][column]` for each step in order, for
/// `height` rows (at most `TILE_ROWS`) and 32 columns; `first` starts from zero instead of what
/// the sums hold.
///
/// A few rows more than `height` may be computed: `x` and `sums` have them.
#[inline(always)]
pub fn tile_rows<S: Simd, E: Plain>(
    s: S,
    height: usize,
    x: Strided<'_>,
    weights: &[E],
    sums: Sums<'_>,
    first: bool,
) {
    if S::TILE_ROWS == 12 {
        match height {
            1 => tile::<S, E, 1>(s, x, weights, sums, first),
            2 => tile::<S, E, 2>(s, x, weights, sums, first),
            3..=4 => tile::<S, E, 4>(s, x, weights, sums, first),
            5..=8 => tile::<S, E, 8>(s, x, weights, sums, first),
            _ => tile::<S, E, 12>(s, x, weights, sums, first),
        }
    } else if S::TILE_ROWS == 3 && height > 1 {
        tile::<S, E, 3>(s, x, weights, sums, first);
    } else if S::TILE_ROWS == 2 && height > 1 {
        tile::<S, E, 2>(s, x, weights, sums, first);
    } else {
        tile::<S, E, 1>(s, x, weights, sums, first);
    }
}

#[inline(always)]
fn tile<S: Simd, E: Plain, const HEIGHT: usize>(
    s: S,
    x: Strided<'_>,
    weights: &[E],
    sums: Sums<'_>,
    first: bool,
) {
    let steps = weights.len() / PANEL;
    if steps == 0 {
        return;
    }
    assert!(x.values.len() > (HEIGHT - 1) * x.row + (steps - 1) * x.step, "x has all steps");
    assert!(sums.values.len() >= (HEIGHT - 1) * sums.row + PANEL, "sums have all rows");
    let mut acc = [[s.splat(0.0); 2]; HEIGHT];
    let out = sums.values.as_mut_ptr();
    // SAFETY: the largest offset into `x` is that of the last row and step, into `sums` that of
    // the last row's 32 columns, both checked above; the weights have 32 numbers a step by the
    // definition of `steps`.
    unsafe {
        if !first {
            for (row, acc) in acc.iter_mut().enumerate() {
                let at = out.add(row * sums.row);
                *acc = [s.load(at), s.load(at.add(LANES))];
            }
        }
        let (mut x_step, mut weights) = (x.values.as_ptr(), weights.as_ptr());
        for _ in 0..steps {
            let (left, right) = (E::load(s, weights), E::load(s, weights.add(LANES)));
            for (row, acc) in acc.iter_mut().enumerate() {
                let value = s.splat(*x_step.wrapping_add(row * x.row));
                *acc = [s.fma(value, left, acc[0]), s.fma(value, right, acc[1])];
            }
            x_step = x_step.wrapping_add(x.step);
            weights = weights.wrapping_add(PANEL);
        }
        for (row, acc) in acc.iter().enumerate() {
            let at = out.add(row * sums.row);
            s.store(at, acc[0]);
            s.store(at.add(LANES), acc[1]);
        }
    }
}
