//! What happens to a product's sums before they are stored: bias, activation, gate, residual.

use super::math;
use super::operand::Writer;
use super::shared::SharedMut;
use super::simd::{LANES, Simd};

/// An elementwise activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x/2 (1 + erf(x/sqrt 2))`
    Gelu,
    /// GELU's tanh form.
    GeluTanh,
    /// `x / (1 + e^-x)`
    Silu,
    /// `max(x, 0)`
    Relu,
    /// `tanh x`
    Tanh,
}

impl Activation {
    /// The activation of 16 numbers.
    #[inline(always)]
    pub fn apply<S: Simd>(self, s: S, x: S::V) -> S::V {
        match self {
            Self::Gelu => math::gelu_erf(s, x),
            Self::GeluTanh => math::gelu_tanh(s, x),
            Self::Silu => math::silu(s, x),
            Self::Relu => s.select_lt(x, s.splat(0.0), s.splat(0.0), x),
            Self::Tanh => math::tanh(s, x),
        }
    }
}

/// What is done with the sums.
#[derive(Debug, Clone, Copy)]
pub enum Epilogue<'a> {
    /// `act(sum + bias) + residual`, each part where it is given.
    Plain {
        /// `[columns]`
        bias: Option<&'a [f32]>,
        /// Applied after the bias.
        activation: Option<Activation>,
        /// `[rows, columns]`
        residual: Option<&'a [f32]>,
    },
    /// Columns come in groups of 16 gates and 16 values; the output, half as wide, is
    /// `act(gate + bias) * (value + bias)`.
    Gated {
        /// Applied to the gates.
        activation: Activation,
    },
}

impl Epilogue<'_> {
    /// Columns of the output.
    pub fn width(&self, columns: usize) -> usize {
        match self {
            Self::Plain { .. } => columns,
            Self::Gated { .. } => columns / 2,
        }
    }

    /// # Panics
    /// If a part has the wrong length.
    pub fn check(&self, rows: usize, columns: usize) {
        match self {
            Self::Plain { bias, residual, .. } => {
                assert!(bias.is_none_or(|bias| bias.len() == columns), "one bias a column");
                let residual_fits = residual.is_none_or(|part| part.len() == rows * columns);
                assert!(residual_fits, "the residual has the output's shape");
            }
            Self::Gated { .. } => {
                assert_eq!(columns % (2 * LANES), 0, "gates and values come in groups of 16");
            }
        }
    }
}

/// Where finished numbers go.
pub(super) enum Target<'a> {
    /// Rows of float32.
    Numbers(SharedMut<'a, f32>),
    /// Packed for the next product.
    Packed(Writer<'a>),
}

/// A row of a [`Target`].
enum TargetRow<'a> {
    Numbers(&'a SharedMut<'a, f32>, usize),
    Packed(&'a Writer<'a>, usize),
}

impl Target<'_> {
    /// The row of a matrix with `width` columns.
    #[inline(always)]
    fn row(&self, row: usize, width: usize) -> TargetRow<'_> {
        match self {
            Self::Numbers(out) => TargetRow::Numbers(out, row * width),
            Self::Packed(writer) => TargetRow::Packed(writer, writer.start_of(row)),
        }
    }
}

impl TargetRow<'_> {
    /// Stores 16 numbers from column `first` on, or as many as there are, `count`.
    ///
    /// # Safety
    /// No other thread writes these numbers.
    #[inline(always)]
    unsafe fn put<S: Simd>(&self, s: S, first: usize, count: usize, value: S::V) {
        // SAFETY: as the caller vouches.
        unsafe {
            match self {
                Self::Numbers(out, start) => s.store_part(out.part(start + first, count), value),
                Self::Packed(writer, start) => writer.piece(s, *start, first, value),
            }
        }
    }
}

/// Finishes sums of some rows, 32 columns each, and stores them: `place` is the first row and the
/// first column.
#[inline(always)]
pub(super) fn finish_rows<S: Simd>(
    s: S,
    epilogue: &Epilogue<'_>,
    sums: &[f32],
    place: (usize, usize),
    columns: usize,
    out: &Target<'_>,
) {
    let (row, first) = place;
    let rows = sums.chunks_exact(2 * LANES).enumerate();
    match *epilogue {
        Epilogue::Gated { activation } => {
            for (place, sums) in rows {
                let (gate, value) = (s.load_part(&sums[..LANES]), s.load_part(&sums[LANES..]));
                let value = s.mul(activation.apply(s, gate), value);
                let to = out.row(row + place, columns / 2);
                // SAFETY: a task writes only its own rows and panels; half a panel here.
                unsafe { to.put(s, first / 2, LANES, value) };
            }
        }
        Epilogue::Plain { bias, activation, residual } => {
            let half = |half: usize| {
                let first = columns.min(first + half * LANES);
                first..columns.min(first + LANES)
            };
            let halves = [half(0), half(1)];
            // No closures here: they would not be compiled with the instruction set.
            let bias = match bias {
                Some(bias) => {
                    let [left, right] = halves.clone();
                    Some([s.load_part(&bias[left]), s.load_part(&bias[right])])
                }
                None => None,
            };
            for (place, sums) in rows {
                let (start, to) = ((row + place) * columns, out.row(row + place, columns));
                for (place, half) in halves.iter().enumerate() {
                    if half.is_empty() {
                        continue;
                    }
                    let mut value = s.load_part(&sums[place * LANES..(place + 1) * LANES]);
                    if let Some(bias) = &bias {
                        value = s.add(value, bias[place]);
                    }
                    if let Some(activation) = activation {
                        value = activation.apply(s, value);
                    }
                    if let Some(residual) = residual {
                        let part = &residual[start + half.start..start + half.end];
                        value = s.add(value, s.load_part(part));
                    }
                    // SAFETY: a task writes only its own rows and panels.
                    unsafe { to.put(s, half.start, half.len(), value) };
                }
            }
        }
    }
}
