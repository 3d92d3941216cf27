//! How numbers are multiplied: forms of activations and weights in memory, and the innermost
//! product of a few rows and 32 columns.
//!
//! Activations are packed in strips of rows. A strip holds one cache line of every row, then the
//! next line of every row: what one step reads lies side by side, and a line's 64 bytes are what
//! a row of a matrix unit's tile takes. Weights are packed in panels of 32 columns, 128 bytes
//! a step.
//! Must not know: what rows and columns stand for.

use super::simd::LANES;

/// Columns of a panel and of a tile.
pub const PANEL: usize = 2 * LANES;
/// Bytes of a cache line.
pub const LINE: usize = 64;
/// Weights are filled up with zeros to a multiple of this depth, a whole line in all forms.
pub const DEPTH_UNIT: usize = 64;

/// Most inputs of a product in bytes: sums of more products of 255 and 127 are beyond 32 bits.
pub const BYTES_DEPTH_MAX: usize = i32::MAX as usize / (255 * 127);

/// What numbers of activations are packed as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// float32.
    F32,
    /// bfloat16, rounded to nearest even.
    Bf16,
    /// 8 bits from the row's least number to its largest.
    U8,
    /// The sum of two bfloat16 numbers: about 16 bits of each number.
    Split2,
    /// The sum of three bfloat16 numbers: all 24 bits.
    Split3,
}

impl Form {
    /// Numbers in a line.
    pub fn depth(self) -> usize {
        match self {
            Self::F32 => 16,
            Self::Bf16 | Self::Split2 | Self::Split3 => 32,
            Self::U8 => 64,
        }
    }

    /// Lines that say the same numbers, one more exactly than the other.
    pub fn parts(self) -> usize {
        match self {
            Self::F32 | Self::Bf16 | Self::U8 => 1,
            Self::Split2 => 2,
            Self::Split3 => 3,
        }
    }
}

/// What numbers of weights are packed as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightForm {
    /// float32: a step is 32 columns of one depth.
    F32,
    /// bfloat16: a step is 32 columns of two depths, both of a column side by side.
    Bf16,
    /// IEEE half: a step is 32 columns of one depth, then of the next.
    F16,
    /// 8 bits with a sign, scaled by the largest magnitude of the column: a step is 32 columns of
    /// four depths, all four of a column side by side.
    I8,
    /// float32 as the sum of two bfloat16 numbers: 16 steps of the first, as `Bf16`, then 16 of
    /// the second.
    Split2,
}

impl WeightForm {
    /// Bytes of a number.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 | Self::Split2 => 4,
            Self::Bf16 | Self::F16 => 2,
            Self::I8 => 1,
        }
    }

    /// Where in a panel the number of `depth` and `column` is, in units of the stored number
    /// (for `Split2` the first of the two, the other `16 * 64` behind it).
    #[inline(always)]
    pub fn place(self, depth: usize, column: usize) -> usize {
        match self {
            Self::F32 | Self::F16 => depth * PANEL + column,
            Self::Bf16 => (depth / 2 * PANEL + column) * 2 + depth % 2,
            Self::I8 => (depth / 4 * PANEL + column) * 4 + depth % 4,
            Self::Split2 => {
                let (block, within) = (depth / 32, depth % 32);
                block * 2 * 32 * PANEL + (within / 2 * PANEL + column) * 2 + within % 2
            }
        }
    }
}

/// What is multiplied, and how exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    /// float32 activations and weights, fused multiply-adds in the order of the depth.
    F32,
    /// float32 activations, bfloat16 weights widened in registers: as exact as `F32`.
    F32Bf16,
    /// float32 activations, IEEE half weights widened in registers: as exact as `F32`.
    F32F16,
    /// bfloat16 activations and weights, float32 sums.
    Bf16,
    /// 8-bit activations and weights, exact integer sums of at most [`BYTES_DEPTH_MAX`] products.
    Int8,
    /// float32 activations and weights as two bfloat16 numbers each, without the product of the
    /// two lesser ones: errors of about 2^-16 of the products.
    SplitF32,
    /// float32 activations as three bfloat16 numbers, bfloat16 weights: as exact as float32.
    SplitBf16,
}

impl Arithmetic {
    /// How activations are packed.
    pub fn form(self) -> Form {
        match self {
            Self::F32 | Self::F32Bf16 | Self::F32F16 => Form::F32,
            Self::Bf16 => Form::Bf16,
            Self::Int8 => Form::U8,
            Self::SplitF32 => Form::Split2,
            Self::SplitBf16 => Form::Split3,
        }
    }

    /// How weights are packed.
    pub fn weights(self) -> WeightForm {
        match self {
            Self::F32 => WeightForm::F32,
            Self::F32Bf16 | Self::Bf16 | Self::SplitBf16 => WeightForm::Bf16,
            Self::F32F16 => WeightForm::F16,
            Self::Int8 => WeightForm::I8,
            Self::SplitF32 => WeightForm::Split2,
        }
    }
}

/// Sums of several rows, 32 columns each, `row` apart: float32, or int32 in the same bits.
pub struct Sums<'a> {
    /// All sums.
    pub values: &'a mut [f32],
    /// Distance between rows.
    pub row: usize,
    /// Whether to start from zero instead of what the sums hold.
    pub first: bool,
}

/// The innermost product.
pub trait Product: Copy + Send + Sync {
    /// What it multiplies.
    const ARITHMETIC: Arithmetic;
    /// Rows of a strip.
    const ROWS: usize;

    /// `sums[row][column] += x[row][depth] * weights[depth][column]` for 32 columns and the first
    /// `height` rows of a strip. A row's sums depend on nothing but the row, the weights and how
    /// the depth is cut into calls.
    ///
    /// `x` and `weights` hold the same whole lines. A few rows more than `height` may be computed:
    /// `x` and `sums` have `ROWS`. `fresh` weights come from memory: those that follow them there
    /// are fetched ahead.
    fn tile(self, height: usize, x: &[u8], weights: &[u8], sums: Sums<'_>, fresh: bool);
}

/// A computation with a product.
pub trait ProductKernel {
    /// What it computes.
    type Output;
    /// Computes it with the product `p`, and the instructions of `simd` for all else.
    fn run<S: super::simd::Simd, P: Product>(self, simd: S, p: P) -> Self::Output;
}
