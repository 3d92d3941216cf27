//! The product of activations and packed weights: `[rows, depth] x [columns, depth]^T -> [rows,
//! columns]`.
//!
//! Each output is summed over the depth in an order that is the same whatever the strip, block,
//! thread or batch: this is what makes vectors independent of their neighbours. Between blocks of
//! the depth the partial sums rest in memory as they are, which loses nothing. In float32 the
//! order is that of the depth on every instruction set, so results have the same bits on all of
//! them; integer sums are exact.
//! Must not know: layers, tensors.

use super::aligned::{AlignedBytes, numbers_mut, room};
use super::epilogue::{Epilogue, Finish, Target, Tile};
use super::isa::Isa;
use super::operand::{Operand, Packing, RowScale};
use super::product::{Arithmetic, DEPTH_UNIT, PANEL, Product, ProductKernel, Sums};
use super::shared::SharedMut;
use super::simd::Simd;
use super::team;
use super::weights::{ByteScale, Packed};

/// Bytes of a block of weights, 32 columns wide, which stay in the first-level cache.
const WEIGHT_BLOCK_BYTES: usize = 32 * 1024;
/// Bytes of packed activations in a block of rows, which stay in the second-level cache.
const ROW_BLOCK_BYTES: usize = 512 * 1024;
/// Rows of a block are at most this many, and a multiple of every strip.
const ROWS_MAX: usize = 384;
const ROW_UNIT: usize = 96;
/// Tasks of a product for each thread.
const TASKS_A_THREAD: usize = 12;
/// Up to this many rows a product waits for weights, which come fastest in long runs.
const FEW_ROWS: usize = 32;
/// Products smaller than this are not worth waking other threads for.
const PARALLEL_MIN: usize = 64 * 64 * 64;

/// Multiplies `x`, `[rows, depth]`, by the weights into `out`, `[rows, epilogue width]`.
///
/// # Panics
/// If lengths disagree, or `x` is not packed for this product.
pub fn multiply(
    isa: Isa,
    arithmetic: Arithmetic,
    x: &Operand,
    weights: &Packed,
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
) {
    let width = epilogue.width(weights.columns());
    assert_eq!(out.len(), x.rows() * width, "the output has a row for each input row");
    let out = Target::Numbers(SharedMut::new(out));
    multiply_to(isa, arithmetic, (x, weights), epilogue, &out);
}

/// As [`multiply`], with the result packed for the next product.
///
/// # Panics
/// If lengths disagree, or `x` is not packed for this product.
pub fn multiply_packed(
    isa: Isa,
    arithmetic: Arithmetic,
    (x, weights): (&Operand, &Packed),
    epilogue: &Epilogue<'_>,
    packing: Packing,
) -> Operand {
    let width = epilogue.width(weights.columns());
    let mut operand = Operand::new(packing, x.rows(), width);
    if operand.writer().takes_pieces() {
        let out = Target::Packed(operand.writer());
        multiply_to(isa, arithmetic, (x, weights), epilogue, &out);
        return operand;
    }
    let mut bytes = AlignedBytes::reused(x.rows() * width * size_of::<f32>());
    let numbers = numbers_mut(&mut bytes);
    multiply(isa, arithmetic, x, weights, epilogue, numbers);
    Operand::of(isa, numbers, width, packing)
}

thread_local! {
    /// Sums of tiles, kept between calls, which would else allocate them for each block.
    static SUMS: std::cell::Cell<Option<AlignedBytes>> = const { std::cell::Cell::new(None) };
}

fn multiply_to(
    isa: Isa,
    arithmetic: Arithmetic,
    (x, weights): (&Operand, &Packed),
    epilogue: &Epilogue<'_>,
    out: &Target<'_>,
) {
    let (depth, columns, rows) = (weights.depth(), weights.columns(), x.rows());
    assert!(depth > 0 && columns > 0, "a product has inputs and outputs");
    assert_eq!(x.width(), depth, "activations have a number for each weight");
    assert_eq!(x.packing(), isa.packing(arithmetic), "activations are packed for the product");
    assert_eq!(weights.form(), arithmetic.weights(), "weights are packed for the product");
    epilogue.check(rows, columns);
    if rows == 0 {
        return;
    }
    let height = ROW_BLOCK_BYTES / (x.packing().strip_bytes(depth) / x.packing().strip);
    let height = (height / ROW_UNIT * ROW_UNIT).clamp(ROW_UNIT, ROWS_MAX);
    let row_blocks = rows.div_ceil(height);
    let panels = columns.div_ceil(PANEL);
    // Enough tasks for a balanced load, each with whole panels.
    let tasks = match team::threads() {
        1 => 1,
        threads if rows <= FEW_ROWS => threads * TASKS_A_THREAD / 3,
        threads => threads * TASKS_A_THREAD,
    };
    let column_blocks = tasks.div_ceil(row_blocks).min(panels);
    let panels_a_block = panels.div_ceil(column_blocks);
    let task = |index: usize| {
        let (row_block, column_block) = (index / column_blocks, index % column_blocks);
        let (first_row, first_panel) = (row_block * height, column_block * panels_a_block);
        let block = Block {
            x,
            weights,
            epilogue,
            out,
            rows: first_row..rows.min(first_row + height),
            panels: first_panel.min(panels)..panels.min(first_panel + panels_a_block),
        };
        isa.run_product(arithmetic, block);
    };
    let tasks = row_blocks * column_blocks;
    if rows * columns * depth < PARALLEL_MIN {
        (0..tasks).for_each(task);
    } else {
        team::for_each(tasks, task);
    }
}

/// A block of rows times a range of panels.
struct Block<'a> {
    x: &'a Operand,
    weights: &'a Packed,
    epilogue: &'a Epilogue<'a>,
    out: &'a Target<'a>,
    rows: std::ops::Range<usize>,
    panels: std::ops::Range<usize>,
}

/// A tile whose sums are complete, but not finished.
struct Complete {
    panel: usize,
    strip: usize,
    /// Its place in the scratch memory.
    place: usize,
}

impl ProductKernel for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, P: Product>(self, s: S, p: P) {
        let padded = self.weights.depth().next_multiple_of(DEPTH_UNIT);
        let rows = self.rows.len();
        let strips = rows.div_ceil(P::ROWS);
        let (strip_bytes, depth_bytes) =
            (self.x.packing().strip_bytes(padded), self.weights.bytes_of(1));
        let x = self.x.strips_from(self.rows.start);
        let depth_block = WEIGHT_BLOCK_BYTES / depth_bytes / DEPTH_UNIT * DEPTH_UNIT;
        let x_bytes = |depth: usize| strip_bytes / padded * depth;
        // A tile is finished one tile late, while the CPU multiplies the next: its place is not
        // used again before. Tiles of several depth blocks keep their places during a panel.
        let places = if padded <= depth_block { 2 } else { strips + 1 };
        let (size, mut scratch) = (P::ROWS * PANEL, SUMS.take());
        let sums: &mut [f32] = numbers_mut(room(&mut scratch, places * size * size_of::<f32>()));
        let (mut complete, mut first_place) = (None::<Complete>, 0);
        for panel in self.panels.clone() {
            let weights = self.weights.panel(panel);
            for start in (0..padded).step_by(depth_block) {
                let end = padded.min(start + depth_block);
                for strip in 0..strips {
                    let height = (rows - strip * P::ROWS).min(P::ROWS);
                    let at = strip * strip_bytes;
                    let x = &x[at + x_bytes(start)..at + x_bytes(end)];
                    let place = (first_place + strip) % places;
                    let values = &mut sums[place * size..(place + 1) * size];
                    let weights = &weights[start * depth_bytes..end * depth_bytes];
                    let of = Sums { values, row: PANEL, first: start == 0 };
                    p.tile(height, x, weights, of, strip == 0);
                    if end == padded {
                        let before = complete.replace(Complete { panel, strip, place });
                        if let Some(tile) = before {
                            self.finish::<S, P>(s, tile, sums);
                        }
                    }
                }
            }
            first_place = (first_place + strips) % places;
        }
        if let Some(tile) = complete {
            self.finish::<S, P>(s, tile, sums);
        }
        SUMS.set(scratch);
    }
}

impl Block<'_> {
    /// Finishes a tile, whose sums are in the scratch memory, and stores it.
    #[inline(always)]
    fn finish<S: Simd, P: Product>(&self, s: S, tile: Complete, scratch: &mut [f32]) {
        let Complete { panel, strip, place } = tile;
        let height = (self.rows.len() - strip * P::ROWS).min(P::ROWS);
        let sums = &mut scratch[place * P::ROWS * PANEL..][..height * PANEL];
        let row = self.rows.start + strip * P::ROWS;
        if P::ARITHMETIC == Arithmetic::Int8 {
            let (rows, columns) = (&self.x.scales()[row..], self.weights.scales(panel));
            for (row, sums) in rows.iter().zip(sums.chunks_exact_mut(PANEL)) {
                to_numbers(sums, *row, columns);
            }
        }
        let tile = Tile { sums, row, column: panel * PANEL };
        let (columns, epilogue, out) = (self.weights.columns(), self.epilogue, self.out);
        s.apart(Finish { epilogue, tile, columns, out });
    }
}

/// Integer sums, in the bits of float32, to the numbers they stand for.
#[inline(always)]
fn to_numbers(sums: &mut [f32], row: RowScale, columns: &[ByteScale]) {
    for (sum, column) in sums.iter_mut().zip(columns) {
        let exact = sum.to_bits() as i32 - row.zero * column.sum;
        *sum = exact as f32 * (row.scale * column.scale);
    }
}
