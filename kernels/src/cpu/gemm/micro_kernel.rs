//! How numbers are multiplied: forms of activations and weights in memory, and the innermost
//! product of a few rows and 32 columns.
//!
//! Activations are packed in row panels of rows. A row panel holds one cache line of every row,
//! then the next line of every row: what one step reads lies side by side, and a line's 64 bytes
//! are what a row of a matrix unit's tile takes. Weights are packed in panels of 32 columns, 128
//! bytes a step. Must not know: what rows and columns stand for.

pub use crate::cpu::buffer::aligned::LINE;
use crate::cpu::isa::simd::{LANES, Simd};

/// Columns of a panel and of a tile.
pub const PANEL_COLUMNS: usize = 2 * LANES;
/// Weights are filled up with zeros to a multiple of this depth, a whole line in all forms.
pub const DEPTH_UNIT: usize = 64;

/// Most inputs of a product in bytes: sums of more products of 255 and 127 are beyond 32 bits.
pub const BYTES_DEPTH_MAX: usize = i32::MAX as usize / (255 * 127);

/// What numbers of activations are packed as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackedFormat {
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

impl PackedFormat {
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
pub enum WeightFormat {
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

impl WeightFormat {
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
            Self::F32 | Self::F16 => depth * PANEL_COLUMNS + column,
            Self::Bf16 => (depth / 2 * PANEL_COLUMNS + column) * 2 + depth % 2,
            Self::I8 => (depth / 4 * PANEL_COLUMNS + column) * 4 + depth % 4,
            Self::Split2 => {
                let (block, within) = (depth / 32, depth % 32);
                block * 2 * 32 * PANEL_COLUMNS
                    + (within / 2 * PANEL_COLUMNS + column) * 2
                    + within % 2
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
    pub fn format(self) -> PackedFormat {
        match self {
            Self::F32 | Self::F32Bf16 | Self::F32F16 => PackedFormat::F32,
            Self::Bf16 => PackedFormat::Bf16,
            Self::Int8 => PackedFormat::U8,
            Self::SplitF32 => PackedFormat::Split2,
            Self::SplitBf16 => PackedFormat::Split3,
        }
    }

    /// How weights are packed.
    pub fn weights(self) -> WeightFormat {
        match self {
            Self::F32 => WeightFormat::F32,
            Self::F32Bf16 | Self::Bf16 | Self::SplitBf16 => WeightFormat::Bf16,
            Self::F32F16 => WeightFormat::F16,
            Self::Int8 => WeightFormat::I8,
            Self::SplitF32 => WeightFormat::Split2,
        }
    }
}

/// Sums of several rows, 32 columns each, `row` apart: float32, or int32 in the same bits.
pub struct Sums<'a> {
    /// All sums.
    pub values: &'a mut [f32],
    /// Distance between rows, in elements.
    pub row: usize,
    /// Whether to start from zero instead of what the sums hold.
    pub first: bool,
}

/// The innermost product: a few rows of packed activations times one panel of 32 columns.
///
/// # Tile size
/// Every tile is 32 columns wide, so that one packing of the weights serves all instruction sets.
/// [`ROWS`](Self::ROWS) is as many rows as registers hold sums for: 12 with AVX-512 (24 of 32
/// registers), 3 on NEON (24 of 32), 3 or 2 with AVX2 (12 or 8 of 16), 32 with AMX (4 of 8 tiles).
///
/// # The caller
/// - passes `x` and `weights` that begin at a cache line ([`LINE`]) and hold the same whole number
///   of lines of depth, packed as [`ARITHMETIC`](Self::ARITHMETIC) says;
/// - gives `sums` room for `ROWS` rows, even if `height` is less;
/// - puts finite numbers (zeros) where a row is filled up to a whole line: they meet weights of
///   zero, and infinity times zero is NaN.
///
/// # The implementor
/// - checks lengths and alignment before its first raw access ([`check_tile`]), so that `tile` is
///   safe to call;
/// - may compute more rows than `height`, at most `ROWS`;
/// - sums over the depth in an order that depends on nothing but the length of `weights`: neither
///   on `height` nor on other rows. This is what makes vectors independent of their batch.
///
/// A type is named by what it multiplies (`DotBf16`, `PairsInt8`) and holds the token of its
/// instruction set, which proves that the CPU has it.
pub trait MicroKernel: Copy {
    /// What it multiplies.
    const ARITHMETIC: Arithmetic;
    /// Rows of a row panel.
    const ROWS: usize;

    /// `sums[row][column] += x[row][depth] * weights[depth][column]` for 32 columns and the first
    /// `height` rows of a row panel. `fresh` weights come from memory: those that follow them there
    /// are prefetched.
    ///
    /// # Panics
    /// If a slice is too short or does not begin at a cache line.
    fn tile(self, height: usize, x: &[u8], weights: &[u8], sums: Sums<'_>, fresh: bool);
}

/// Checks what [`MicroKernel::tile`] is called with: `x` has `lines` of `x_line` bytes, both begin
/// at a cache line, and there are sums for `rows` rows.
///
/// # Panics
/// If not.
#[inline(always)]
pub(super) fn check_tile(
    x: &[u8],
    weights: &[u8],
    (lines, x_line): (usize, usize),
    (sums, rows): (&Sums<'_>, usize),
) {
    assert!(x.len() >= lines * x_line, "x has all lines");
    let aligned = (x.as_ptr().addr() | weights.as_ptr().addr()).is_multiple_of(LINE);
    assert!(aligned, "packed memory begins at a cache line");
    assert!(sums.values.len() >= (rows - 1) * sums.row + PANEL_COLUMNS, "sums have all rows");
}

/// A computation that needs a micro-kernel.
pub trait GemmOp {
    /// What it computes.
    type Output;
    /// Computes it with the micro-kernel `p`, and the instructions of `simd` for all else.
    fn run<S: Simd, P: MicroKernel>(self, simd: S, p: P) -> Self::Output;
}
