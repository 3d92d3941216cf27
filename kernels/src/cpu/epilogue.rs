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

impl Target<'_> {
    /// Stores 16 numbers of a row of `width` from `first` on, or as many as the row has.
    ///
    /// # Safety
    /// No other thread writes these numbers.
    #[inline(always)]
    unsafe fn put<S: Simd>(&self, s: S, (row, first): (usize, usize), width: usize, value: S::V) {
        // SAFETY: as the caller vouches.
        unsafe {
            match self {
                Self::Numbers(out) => {
                    let count = (width - first).min(LANES);
                    s.store_part(out.part(row * width + first, count), value);
                }
                Self::Packed(writer) => writer.piece(s, row, first, value),
            }
        }
    }
}

/// Finishes 32 sums of one row and stores them: `place` is the row and the first column.
#[inline(always)]
pub(super) fn finish_row<S: Simd>(
    s: S,
    epilogue: &Epilogue<'_>,
    sums: &[f32],
    place: (usize, usize),
    columns: usize,
    out: &Target<'_>,
) {
    let (row, first) = place;
    match *epilogue {
        Epilogue::Gated { activation } => {
            let (gate, value) = (s.load_part(&sums[..LANES]), s.load_part(&sums[LANES..]));
            let value = s.mul(activation.apply(s, gate), value);
            // SAFETY: a task writes only its own rows and panels; half a panel here.
            unsafe { out.put(s, (row, first / 2), columns / 2, value) };
        }
        Epilogue::Plain { bias, activation, residual } => {
            for half in 0..2 {
                let first = first + half * LANES;
                if first >= columns {
                    break;
                }
                let end = columns.min(first + LANES);
                let mut value = s.load_part(&sums[half * LANES..(half + 1) * LANES]);
                if let Some(bias) = bias {
                    value = s.add(value, s.load_part(&bias[first..end]));
                }
                if let Some(activation) = activation {
                    value = activation.apply(s, value);
                }
                if let Some(residual) = residual {
                    let at = row * columns;
                    value = s.add(value, s.load_part(&residual[at + first..at + end]));
                }
                // SAFETY: a task writes only its own rows and panels.
                unsafe { out.put(s, (row, first), columns, value) };
            }
        }
    }
}
