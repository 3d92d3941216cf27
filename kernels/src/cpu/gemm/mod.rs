//! GEMM of activations and packed weights: `[rows, depth] x [columns, depth]^T -> [rows, columns]`.
//!
//! The order in which an output is summed over the depth does not depend on the row panel, block,
//! thread or batch, so results are batch-invariant. Partial sums of depth blocks are stored
//! unrounded, so blocking changes nothing. float32 sums in depth order on every instruction set, so
//! results have the same bits on all of them; integer sums are exact.
//! Must not know: layers, tensors.

#[cfg(target_arch = "x86_64")]
pub mod amx;
#[cfg(target_arch = "x86_64")]
pub mod avx2_int8;
#[cfg(target_arch = "x86_64")]
pub mod avx512_bf16;
mod dispatch;
pub mod epilogue;
pub mod fma;
pub mod micro_kernel;
#[cfg(target_arch = "aarch64")]
pub mod neon_dot;
#[cfg(target_arch = "aarch64")]
pub mod neon_fma;
pub mod pack_lhs;
pub mod pack_rhs;

use crate::cpu::buffer::aligned::{AlignedBytes, cast_mut, grown};
use crate::cpu::buffer::shared::SharedMut;
use crate::cpu::isa::Isa;
use crate::cpu::isa::simd::Simd;
use crate::cpu::thread_pool;
use epilogue::{Epilogue, Finish, Target, Tile};
use micro_kernel::{Arithmetic, DEPTH_UNIT, GemmOp, MicroKernel, PANEL_COLUMNS, Sums};
use pack_lhs::{PackedLhs, Packing, RowScale};
use pack_rhs::{ByteScale, PackedRhs};

/// Bytes of a block of weights, 32 columns wide, which stays in L1.
const WEIGHT_BLOCK_BYTES: usize = 32 * 1024;
/// Bytes of packed activations in a row block, which stays in L2.
const ROW_BLOCK_BYTES: usize = 512 * 1024;
/// Row blocks have a multiple of `ROW_UNIT` rows (whole row panels on every instruction set), at
/// most `ROWS_MAX`.
const ROWS_MAX: usize = 384;
const ROW_UNIT: usize = 96;
/// Tasks per thread in one GEMM, to balance the load.
const TASKS_A_THREAD: usize = 12;
/// With at most this many rows, a GEMM is bound by reading weights, which is fastest in long
/// sequential reads.
const FEW_ROWS: usize = 32;
/// GEMMs smaller than this, in multiply-adds, are not worth waking other threads for.
const PARALLEL_MIN: usize = 64 * 64 * 64;

/// Multiplies `x`, `[rows, depth]`, by the weights into `out`, `[rows, epilogue width]`.
///
/// # Panics
/// If lengths disagree, or `x` or the weights are not packed for this arithmetic.
pub fn multiply(
    isa: Isa,
    arithmetic: Arithmetic,
    x: &PackedLhs,
    weights: &PackedRhs,
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
) {
    let width = epilogue.width(weights.columns());
    assert_eq!(out.len(), x.rows() * width, "the output has a row for each input row");
    let out = Target::Rows(SharedMut::new(out));
    multiply_to(isa, arithmetic, x, weights, epilogue, &out);
}

/// Like [`multiply`], but packs the result for the next GEMM.
///
/// # Panics
/// If lengths disagree, or `x` or the weights are not packed for this arithmetic.
pub fn multiply_packed(
    isa: Isa,
    arithmetic: Arithmetic,
    x: &PackedLhs,
    weights: &PackedRhs,
    epilogue: &Epilogue<'_>,
    packing: Packing,
) -> PackedLhs {
    let width = epilogue.width(weights.columns());
    let mut packed = PackedLhs::new(packing, x.rows(), width);
    if packed.writer().takes_pieces() {
        let out = Target::Packed(packed.writer());
        multiply_to(isa, arithmetic, x, weights, epilogue, &out);
        return packed;
    }
    let mut bytes = AlignedBytes::reused(x.rows() * width * size_of::<f32>());
    let elements = cast_mut(&mut bytes);
    multiply(isa, arithmetic, x, weights, epilogue, elements);
    PackedLhs::of(isa, elements, width, packing)
}

thread_local! {
    /// Sums of tiles, cached between calls, which would otherwise allocate them for each block.
    static SUMS: std::cell::Cell<Option<AlignedBytes>> = const { std::cell::Cell::new(None) };
}

fn multiply_to(
    isa: Isa,
    arithmetic: Arithmetic,
    x: &PackedLhs,
    weights: &PackedRhs,
    epilogue: &Epilogue<'_>,
    out: &Target<'_>,
) {
    let (depth, columns, rows) = (weights.depth(), weights.columns(), x.rows());
    assert!(depth > 0 && columns > 0, "a product has inputs and outputs");
    assert_eq!(x.width(), depth, "activations are as wide as weights are deep");
    assert_eq!(x.packing(), isa.packing(arithmetic), "activations are packed for the product");
    assert_eq!(weights.format(), arithmetic.weights(), "weights are packed for the product");
    epilogue.check(rows, columns);
    if rows == 0 {
        return;
    }
    let height = ROW_BLOCK_BYTES / (x.packing().row_panel_bytes(depth) / x.packing().panel_rows);
    let height = (height / ROW_UNIT * ROW_UNIT).clamp(ROW_UNIT, ROWS_MAX);
    let row_blocks = rows.div_ceil(height);
    let panels = columns.div_ceil(PANEL_COLUMNS);
    // Enough tasks to balance the load, each of whole panels.
    let tasks = match thread_pool::threads() {
        1 => 1,
        threads if rows <= FEW_ROWS => threads * TASKS_A_THREAD / 3,
        threads => threads * TASKS_A_THREAD,
    };
    let column_blocks = tasks.div_ceil(row_blocks).min(panels);
    let panels_a_block = panels.div_ceil(column_blocks);
    let task = |index: usize| {
        let (row_block, column_block) = (index / column_blocks, index % column_blocks);
        let (first_row, first_panel) = (row_block * height, column_block * panels_a_block);
        let block = GemmBlock {
            x,
            weights,
            epilogue,
            out,
            rows: first_row..rows.min(first_row + height),
            panels: first_panel.min(panels)..panels.min(first_panel + panels_a_block),
        };
        isa.run_gemm(arithmetic, block);
    };
    let tasks = row_blocks * column_blocks;
    if rows * columns * depth < PARALLEL_MIN {
        (0..tasks).for_each(task);
    } else {
        thread_pool::for_each(tasks, task);
    }
}

/// A block of rows times a range of panels.
struct GemmBlock<'a> {
    x: &'a PackedLhs,
    weights: &'a PackedRhs,
    epilogue: &'a Epilogue<'a>,
    out: &'a Target<'a>,
    rows: std::ops::Range<usize>,
    panels: std::ops::Range<usize>,
}

/// A tile whose sums are complete, but whose epilogue has not run.
struct Complete {
    panel: usize,
    row_panel: usize,
    /// Its slot in the scratch memory.
    slot: usize,
}

impl GemmOp for GemmBlock<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, P: MicroKernel>(self, s: S, p: P) {
        let padded = self.weights.depth().next_multiple_of(DEPTH_UNIT);
        let rows = self.rows.len();
        let row_panels = rows.div_ceil(P::ROWS);
        let (row_panel_bytes, depth_bytes) =
            (self.x.packing().row_panel_bytes(padded), self.weights.bytes_of(1));
        let x = self.x.row_panels_from(self.rows.start);
        let depth_block = WEIGHT_BLOCK_BYTES / depth_bytes / DEPTH_UNIT * DEPTH_UNIT;
        let x_bytes = |depth: usize| row_panel_bytes / padded * depth;
        // The epilogue of a tile runs one tile late, while the CPU multiplies the next, so its slot
        // must not be reused before that. With several depth blocks, tiles keep their slots for a
        // whole panel.
        let slots = if padded <= depth_block { 2 } else { row_panels + 1 };
        let (size, mut scratch) = (P::ROWS * PANEL_COLUMNS, SUMS.take());
        let sums: &mut [f32] = cast_mut(grown(&mut scratch, slots * size * size_of::<f32>()));
        let (mut complete, mut first_slot) = (None::<Complete>, 0);
        for panel in self.panels.clone() {
            let weights = self.weights.panel(panel);
            for start in (0..padded).step_by(depth_block) {
                let end = padded.min(start + depth_block);
                for row_panel in 0..row_panels {
                    let height = (rows - row_panel * P::ROWS).min(P::ROWS);
                    let at = row_panel * row_panel_bytes;
                    let x = &x[at + x_bytes(start)..at + x_bytes(end)];
                    let slot = (first_slot + row_panel) % slots;
                    let values = &mut sums[slot * size..(slot + 1) * size];
                    let weights = &weights[start * depth_bytes..end * depth_bytes];
                    let of = Sums { values, row: PANEL_COLUMNS, first: start == 0 };
                    p.tile(height, x, weights, of, row_panel == 0);
                    if end == padded {
                        let before = complete.replace(Complete { panel, row_panel, slot });
                        if let Some(tile) = before {
                            self.finish::<S, P>(s, tile, sums);
                        }
                    }
                }
            }
            first_slot = (first_slot + row_panels) % slots;
        }
        if let Some(tile) = complete {
            self.finish::<S, P>(s, tile, sums);
        }
        SUMS.set(scratch);
    }
}

impl GemmBlock<'_> {
    /// Applies the epilogue to a tile, whose sums are in the scratch memory, and stores it.
    #[inline(always)]
    fn finish<S: Simd, P: MicroKernel>(&self, s: S, tile: Complete, scratch: &mut [f32]) {
        let Complete { panel, row_panel, slot } = tile;
        let height = (self.rows.len() - row_panel * P::ROWS).min(P::ROWS);
        let sums = &mut scratch[slot * P::ROWS * PANEL_COLUMNS..][..height * PANEL_COLUMNS];
        let row = self.rows.start + row_panel * P::ROWS;
        if P::ARITHMETIC == Arithmetic::Int8 {
            let (rows, columns) = (&self.x.scales()[row..], self.weights.scales(panel));
            for (row, sums) in rows.iter().zip(sums.chunks_exact_mut(PANEL_COLUMNS)) {
                to_float32(sums, *row, columns);
            }
        }
        let tile = Tile { sums, row, column: panel * PANEL_COLUMNS };
        let (columns, epilogue, out) = (self.weights.columns(), self.epilogue, self.out);
        s.outlined(Finish { epilogue, tile, columns, out });
    }
}

/// Dequantizes integer sums, stored as float32 bit patterns, in place.
#[inline(always)]
fn to_float32(sums: &mut [f32], row: RowScale, columns: &[ByteScale]) {
    for (sum, column) in sums.iter_mut().zip(columns) {
        let exact = sum.to_bits() as i32 - row.zero * column.sum;
        *sum = exact as f32 * (row.scale * column.scale);
    }
}
