//! What happens to a product's sums before they are stored: bias, activation, gate, residual.

use super::math;
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

/// Finishes 32 sums of one row and stores them: `place` is row, first column and number of columns.
#[inline(always)]
pub fn finish_row<S: Simd>(
    s: S,
    epilogue: &Epilogue<'_>,
    sums: &[f32],
    place: (usize, usize, usize),
    columns: usize,
    out: &SharedMut<'_>,
) {
    let (row, first, count) = place;
    match *epilogue {
        Epilogue::Gated { activation } => {
            // SAFETY: a task writes only its own rows and panels; half a panel here.
            let to = unsafe { out.part(row * (columns / 2) + first / 2, LANES) };
            let (gate, value) = (s.load_part(&sums[..LANES]), s.load_part(&sums[LANES..]));
            s.store_part(to, s.mul(activation.apply(s, gate), value));
        }
        Epilogue::Plain { bias, activation, residual } => {
            let at = row * columns + first;
            // SAFETY: a task writes only its own rows and panels.
            let to = unsafe { out.part(at, count) };
            let halves = sums.chunks_exact(LANES).zip(to.chunks_mut(LANES)).enumerate();
            for (half, (sums, to)) in halves {
                let (skip, end) = (half * LANES, half * LANES + to.len());
                let mut value = s.load_part(sums);
                if let Some(bias) = bias {
                    value = s.add(value, s.load_part(&bias[first + skip..first + end]));
                }
                if let Some(activation) = activation {
                    value = activation.apply(s, value);
                }
                if let Some(residual) = residual {
                    value = s.add(value, s.load_part(&residual[at + skip..at + end]));
                }
                s.store_part(to, value);
            }
        }
    }
}
