//! The interface of a micro-kernel (a few rows times 32 columns), and the packed formats of
//! activations and weights that it reads.
//!
//! Activations are packed in row panels: one cache line of every row, then the next line of every
//! row, and so on. So a step reads contiguous memory, and a line's 64 bytes are one row of an AMX
//! tile. Weights are packed in panels of 32 columns, 128 bytes per step. Must not know: what rows
//! and columns stand for.

pub use crate::cpu::buffer::aligned::LINE;
use crate::cpu::isa::simd::{LANES, Simd};

/// Columns of a panel and of a tile.
pub const PANEL_COLUMNS: usize = 2 * LANES;
/// The depth of weights is zero-padded to a multiple of this: whole lines in every format.
pub const DEPTH_UNIT: usize = 64;

/// Largest depth of an int8 GEMM: a sum of more products of 255 and 127 could overflow `i32`.
pub const BYTES_DEPTH_MAX: usize = i32::MAX as usize / (255 * 127);

/// Packed formats of activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackedFormat {
    /// float32.
    F32,
    /// bfloat16, rounded to nearest even.
    Bf16,
    /// 8 bits, asymmetric: 0 to 255 span the row's minimum to maximum, zero included.
    U8,
    /// The sum of two bfloat16 values: about 16 bits of each element.
    Split2,
    /// The sum of three bfloat16 values: all 24 bits.
    Split3,
}

impl PackedFormat {
    /// Elements per line.
    #[inline]
    pub fn depth(self) -> usize {
        match self {
            Self::F32 => 16,
            Self::Bf16 | Self::Split2 | Self::Split3 => 32,
            Self::U8 => 64,
        }
    }

    /// Lines per group of elements: one for each bfloat16 value that an element is split into.
    #[inline]
    pub fn parts(self) -> usize {
        match self {
            Self::F32 | Self::Bf16 | Self::U8 => 1,
            Self::Split2 => 2,
            Self::Split3 => 3,
        }
    }
}

/// Packed formats of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightFormat {
    /// float32: a step is 32 columns at one depth.
    F32,
    /// bfloat16: a step is 32 columns at two depths, interleaved by column.
    Bf16,
    /// IEEE half: a step is 32 columns at one depth, then at the next.
    F16,
    /// Signed 8 bits, scaled by the largest magnitude of the column: a step is 32 columns at four
    /// depths, interleaved by column.
    I8,
    /// float32 as the sum of two bfloat16 values: 16 steps of the first, as in `Bf16`, then 16 of
    /// the second.
    Split2,
}

impl WeightFormat {
    /// Bytes per element.
    #[inline]
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 | Self::Split2 => 4,
            Self::Bf16 | Self::F16 => 2,
            Self::I8 => 1,
        }
    }

    /// Index in a panel of the element at `depth` and `column`, in units of the stored type (for
    /// `Split2`, of its first part; the second part is `16 * 64` further).
    #[inline(always)]
    pub fn index(self, depth: usize, column: usize) -> usize {
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

/// The operand types of a GEMM, and its accuracy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    /// float32 activations and weights, fused multiply-adds in depth order.
    F32,
    /// float32 activations, bfloat16 weights widened in registers: as exact as `F32`.
    F32Bf16,
    /// float32 activations, IEEE half weights widened in registers: as exact as `F32`.
    F32F16,
    /// bfloat16 activations and weights, float32 sums.
    Bf16,
    /// 8-bit activations and weights, exact integer sums of at most [`BYTES_DEPTH_MAX`] products.
    Int8,
    /// float32 activations and weights, each split into two bfloat16 parts; the product of the two
    /// smaller parts is omitted: errors of about 2^-16 of the products.
    SplitF32,
    /// float32 activations split into three bfloat16 parts, bfloat16 weights: as exact as float32.
    SplitBf16,
}

impl Arithmetic {
    /// The packed format of activations.
    #[inline]
    pub fn format(self) -> PackedFormat {
        match self {
            Self::F32 | Self::F32Bf16 | Self::F32F16 => PackedFormat::F32,
            Self::Bf16 => PackedFormat::Bf16,
            Self::Int8 => PackedFormat::U8,
            Self::SplitF32 => PackedFormat::Split2,
            Self::SplitBf16 => PackedFormat::Split3,
        }
    }

    /// The packed format of weights.
    #[inline]
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

/// Sums of several rows of 32 columns: float32, or int32 bit patterns.
pub struct Sums<'a> {
    /// All sums.
    pub values: &'a mut [f32],
    /// Distance between rows, in elements.
    pub row: usize,
    /// Whether to start from zero instead of adding to `values`.
    pub first: bool,
}

/// The micro-kernel: a few rows of packed activations times one panel of 32 columns.
///
/// # Tile size
/// Every tile is 32 columns wide, so that one packing of the weights serves all instruction sets.
/// [`ROWS`](Self::ROWS) is how many rows of sums fit the registers: 12 with AVX-512 (24 of 32
/// registers), 3 on NEON (24 of 32), 3 or 2 with AVX2 (12 or 8 of 16), 32 with AMX (4 of 8 tiles).
///
/// # The caller
/// - passes `x` and `weights` that start at a cache line ([`LINE`]), packed for
///   [`ARITHMETIC`](Self::ARITHMETIC): `weights` with a whole number of lines, and `x` with as many
///   or more, of which the rest is not read;
/// - passes `sums` with room for `ROWS` rows, even if `height` is less;
/// - pads rows to whole lines with finite values (zeros): the padding meets zero weights, and
///   infinity times zero is NaN.
///
/// # The implementor
/// - checks lengths and alignment before its first raw access (`check_tile`), so that `tile` is
///   safe to call;
/// - may compute more rows than `height`, at most `ROWS`;
/// - sums over the depth in an order that depends only on the length of `weights`, not on `height`
///   or other rows. This makes results batch-invariant.
///
/// An implementation is named after what it multiplies (`DotBf16`, `PairsInt8`) and holds the token
/// of its instruction set, which proves that the CPU has it.
pub trait MicroKernel: Copy {
    /// What it multiplies.
    const ARITHMETIC: Arithmetic;
    /// Rows per row panel.
    const ROWS: usize;

    /// `sums[row][column] += x[row][depth] * weights[depth][column]` for 32 columns and the first
    /// `height` rows of a row panel. `fresh` says that the weights come from memory, so that
    /// prefetching the following ones pays off.
    ///
    /// # Panics
    /// If a slice is too short or does not start at a cache line.
    fn tile(self, height: usize, x: &[u8], weights: &[u8], sums: Sums<'_>, fresh: bool);
}

/// Checks the arguments of [`MicroKernel::tile`]: `x` has `lines` of `x_line` bytes, `x` and
/// `weights` start at a cache line, and `sums` has room for `rows` rows.
///
/// # Panics
/// If a check fails.
#[inline(always)]
pub(super) fn check_tile(
    x: &[u8],
    weights: &[u8],
    lines: usize,
    x_line: usize,
    sums: &Sums<'_>,
    rows: usize,
) {
    assert!(x.len() >= lines * x_line, "x has all lines");
    let aligned = (x.as_ptr().addr() | weights.as_ptr().addr()).is_multiple_of(LINE);
    assert!(aligned, "packed memory begins at a cache line");
    // By division, as a product with any row length could overflow.
    let room = sums.values.len().checked_sub(PANEL_COLUMNS).expect("sums have a row");
    assert!(rows == 1 || sums.row <= room / (rows - 1), "sums have all rows");
}

/// A computation that needs a micro-kernel.
pub trait GemmOp {
    /// What it computes.
    type Output;
    /// Computes it with the micro-kernel `p`, and the instructions of `simd` for everything else.
    fn run<S: Simd, P: MicroKernel>(self, simd: S, p: P) -> Self::Output;
}
