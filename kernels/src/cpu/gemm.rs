//! The product of activations and packed weights: `[rows, depth] x [columns, depth]^T -> [rows,
//! columns]`.
//!
//! Each output is one chain of fused multiply-adds over the depth, in order, whatever the tile,
//! block, thread or instruction set: this is what makes vectors independent of the batch. Between
//! blocks of the depth the partial sums rest in memory as float32, which loses nothing.
//! Must not know: layers, tensors.

use rayon::prelude::*;

use super::aligned::{AlignedVec, Plain};
use super::epilogue::{Epilogue, finish_row};
use super::isa::{Isa, Kernel};
use super::shared::SharedMut;
use super::simd::Simd;
use super::tile::{PANEL, Strided, Sums, tile_rows};

/// Depth of a block: 32 columns of it stay in the first-level cache.
const DEPTH_BLOCK: usize = 256;
/// Bytes of packed activations in a block of rows, which stay in the second-level cache.
const ROW_BLOCK_BYTES: usize = 512 * 1024;
/// Block heights are multiples of this, which every `TILE_ROWS` divides.
const ROW_UNIT: usize = 24;
/// Products smaller than this are not worth waking other threads for.
const PARALLEL_MIN: usize = 64 * 64 * 64;

/// Weights `[columns, depth]` in panels of 32 columns, within a panel depth by depth.
#[derive(Debug)]
pub struct Packed<E> {
    panels: AlignedVec<E>,
    columns: usize,
    depth: usize,
}

impl<E: Plain> Packed<E> {
    /// Packs rows given one after another: `fill_row(n, row)` writes the weights of output `n`
    /// into a row of `depth` zeros. The last panel is filled up with zeros.
    pub fn new(columns: usize, depth: usize, fill_row: impl Fn(usize, &mut [E]) + Sync) -> Self {
        let mut panels = AlignedVec::zeros(columns.div_ceil(PANEL) * PANEL * depth);
        if depth > 0 {
            panels.par_chunks_mut(PANEL * depth).enumerate().for_each(|(panel, to)| {
                let first = panel * PANEL;
                let mut row = vec![E::default(); depth];
                for column in first..columns.min(first + PANEL) {
                    row.fill(E::default());
                    fill_row(column, &mut row);
                    let to = to[column - first..].iter_mut().step_by(PANEL);
                    to.zip(&row).for_each(|(to, value)| *to = *value);
                }
            });
        }
        Self { panels, columns, depth }
    }

    /// Number of outputs.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Number of inputs.
    pub fn depth(&self) -> usize {
        self.depth
    }
}

/// Multiplies `x`, `[rows, depth]`, by the weights into `out`, `[rows, epilogue width]`.
///
/// # Panics
/// If lengths disagree.
pub fn multiply<E: Plain>(
    isa: Isa,
    x: &[f32],
    weights: &Packed<E>,
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
) {
    let (depth, columns) = (weights.depth, weights.columns);
    assert!(depth > 0 && columns > 0, "a product has inputs and outputs");
    assert_eq!(x.len() % depth, 0, "activations are whole rows");
    let rows = x.len() / depth;
    epilogue.check(rows, columns);
    assert_eq!(
        out.len(),
        rows * epilogue.width(columns),
        "the output has a row for each input row"
    );
    if rows == 0 {
        return;
    }
    let mut packed = PACKED.take();
    pack_rows(isa.tile_rows(), x, depth, &mut packed);
    multiply_packed(isa, (&packed, rows), weights, epilogue, &SharedMut::new(out));
    PACKED.set(packed);
}

thread_local! {
    /// Packed activations, kept between calls so that nothing large is allocated.
    static PACKED: std::cell::Cell<Vec<f32>> = const { std::cell::Cell::new(Vec::new()) };
    /// Partial sums, likewise.
    static SUMS: std::cell::Cell<Vec<f32>> = const { std::cell::Cell::new(Vec::new()) };
}

fn multiply_packed<E: Plain>(
    isa: Isa,
    (packed, rows): (&[f32], usize),
    weights: &Packed<E>,
    epilogue: &Epilogue<'_>,
    out: &SharedMut<'_>,
) {
    let depth = weights.depth;
    let height = ROW_BLOCK_BYTES / (depth * size_of::<f32>());
    let height = (height / ROW_UNIT * ROW_UNIT).clamp(ROW_UNIT, 384);
    let row_blocks = rows.div_ceil(height);
    let panels = weights.columns.div_ceil(PANEL);
    // Enough tasks for a balanced load, each with whole panels.
    let column_blocks = (4 * rayon::current_num_threads()).div_ceil(row_blocks).min(panels);
    let panels_a_block = panels.div_ceil(column_blocks);
    let task = |index: usize| {
        let (row_block, column_block) = (index / column_blocks, index % column_blocks);
        let first_row = row_block * height;
        let last_row = rows.min(first_row + height);
        let first_panel = (column_block * panels_a_block).min(panels);
        isa.run(Block {
            packed: &packed[first_row * depth..],
            weights,
            epilogue,
            out,
            rows: first_row..last_row,
            panels: first_panel..panels.min(first_panel + panels_a_block),
        });
    };
    let tasks = row_blocks * column_blocks;
    if rows * weights.columns * depth < PARALLEL_MIN {
        (0..tasks).for_each(task);
    } else {
        (0..tasks).into_par_iter().for_each(task);
    }
}

/// Lays strips of `height` rows out depth by depth; missing rows of the last strip are zero.
fn pack_rows(height: usize, x: &[f32], depth: usize, packed: &mut Vec<f32>) {
    /// Depth packed at a time, so that what is written stays in the first-level cache.
    const CHUNK: usize = 128;
    let rows = x.len() / depth;
    let strips = rows.div_ceil(height);
    packed.resize(strips * height * depth, 0.0);
    let pack = |(strip, to): (usize, &mut [f32])| {
        let from = &x[strip * height * depth..rows.min((strip + 1) * height) * depth];
        if from.len() < to.len() {
            to.fill(0.0);
        }
        for start in (0..depth).step_by(CHUNK) {
            let end = depth.min(start + CHUNK);
            for (row, values) in from.chunks_exact(depth).enumerate() {
                for (k, value) in values[start..end].iter().enumerate() {
                    to[(start + k) * height + row] = *value;
                }
            }
        }
    };
    let strips = packed.chunks_mut(height * depth).enumerate();
    if x.len() < PARALLEL_MIN / 8 {
        strips.for_each(pack);
    } else {
        packed.par_chunks_mut(height * depth).enumerate().for_each(pack);
    }
}

/// A block of rows times a range of panels.
struct Block<'a, E> {
    /// From the first row of the block on.
    packed: &'a [f32],
    weights: &'a Packed<E>,
    epilogue: &'a Epilogue<'a>,
    out: &'a SharedMut<'a>,
    rows: std::ops::Range<usize>,
    panels: std::ops::Range<usize>,
}

impl<E: Plain> Kernel for Block<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let depth = self.weights.depth;
        let rows = self.rows.len();
        let strips = rows.div_ceil(S::TILE_ROWS);
        let mut sums = SUMS.take();
        sums.resize(strips * S::TILE_ROWS * PANEL, 0.0);
        for panel in self.panels.clone() {
            let weights = &self.weights.panels[panel * PANEL * depth..(panel + 1) * PANEL * depth];
            for start in (0..depth).step_by(DEPTH_BLOCK) {
                let end = depth.min(start + DEPTH_BLOCK);
                for strip in 0..strips {
                    let height = (rows - strip * S::TILE_ROWS).min(S::TILE_ROWS);
                    let at = strip * S::TILE_ROWS * depth + start * S::TILE_ROWS;
                    let x = &self.packed[at..at + (end - start) * S::TILE_ROWS];
                    let at = strip * S::TILE_ROWS * PANEL;
                    let sums = &mut sums[at..at + S::TILE_ROWS * PANEL];
                    let x = Strided { values: x, row: 1, step: S::TILE_ROWS };
                    let weights = &weights[start * PANEL..end * PANEL];
                    tile_rows(s, height, x, weights, Sums { values: sums, row: PANEL }, start == 0);
                }
            }
            let columns = self.weights.columns.min((panel + 1) * PANEL) - panel * PANEL;
            for row in 0..rows {
                let sums = &sums[row * PANEL..(row + 1) * PANEL];
                let place = (self.rows.start + row, panel * PANEL, columns);
                finish_row(s, self.epilogue, sums, place, self.weights.columns, self.out);
            }
        }
        SUMS.set(sums);
    }
}

#[cfg(test)]
mod tests;
