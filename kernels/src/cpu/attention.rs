//! Softmax attention over sequences laid end to end, streaming over blocks of keys (Milakov and
//! Gimelshein, 2018; Dao et al., 2022): memory is linear in the length.
//!
//! Sequences that begin alike may share those rows: a run of rows sees the keys of the runs before
//! it and its own. Blocks of keys begin at the sequence's own start, wherever its rows lie, and a
//! block that is masked out for a row leaves that row's bits unchanged, so a row does not depend on
//! its neighbours, its batch, what it shares or the number of threads.
//! Must not know: layers, tensors.

use std::ops::Range;

use rayon::prelude::*;

use super::aligned::AlignedVec;
use super::isa::{Isa, Kernel};
use super::math;
use super::shared::SharedMut;
use super::simd::{LANES, Simd};
use super::tile::{PANEL, Strided, Sums, tile_rows};

/// Keys whose scores are held at a time.
const KEY_BLOCK: usize = 8 * PANEL;
/// Queries of one task.
const QUERY_CHUNK: usize = 96;
/// Rows of the largest tile on any instruction set.
const TILE_ROWS_MAX: usize = 12;

/// Which keys a query sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mask {
    /// All of its sequence.
    Full,
    /// Itself and those before it.
    Causal,
    /// Those at most this many positions away, on either side.
    Window(usize),
}

impl Mask {
    /// The keys that the query at `position` of a sequence of `length` sees.
    fn keys(self, position: usize, length: usize) -> Range<usize> {
        match self {
            Self::Full => 0..length,
            Self::Causal => 0..position + 1,
            Self::Window(reach) => {
                position.saturating_sub(reach)..length.min(position.saturating_add(reach + 1))
            }
        }
    }
}

/// Heads of a row of queries, keys and values: `heads * size` queries, then `kv_heads * size`
/// keys, then as many values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Query heads; a multiple of `kv_heads`.
    pub heads: usize,
    /// Key and value heads; `heads / kv_heads` query heads in a row share one.
    pub kv_heads: usize,
    /// Numbers in a head.
    pub size: usize,
}

impl Heads {
    /// Numbers in a row of queries, keys and values.
    pub fn row(self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.size
    }
}

/// Rows that follow each other in one sequence or, if several begin with them, in each of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its rows in the batch; never empty.
    pub rows: Range<usize>,
    /// Position of its first row in its sequence: the number of rows `before`.
    pub start: usize,
    /// What lies before it in its sequence, in order. Empty where the mask is not causal.
    pub before: Vec<Source>,
}

/// Where rows before a run are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// In the same batch.
    Batch(Range<usize>),
    /// All rows of a part kept from an earlier batch, by its place in [`Layout::kept`].
    Kept(usize),
}

/// How the rows of a batch belong together.
#[derive(Debug, Clone, Copy)]
pub struct Layout<'a> {
    /// Runs in the order of their rows, which they cover without gap.
    pub runs: &'a [Run],
    /// Keys and values kept from earlier batches, `[n_rows, 2 * kv_heads * size]` each.
    pub kept: &'a [&'a [f32]],
}

/// One run a sequence, laid end to end at `offsets`.
pub fn runs_of(offsets: &[usize]) -> Vec<Run> {
    let run = |pair: &[usize]| Run { rows: pair[0]..pair[1], start: 0, before: Vec::new() };
    offsets.windows(2).map(run).collect()
}

/// Attention of each sequence with itself, scores scaled by `1/sqrt(size)`.
///
/// `qkv` is `[n_rows, row]`; `out` is `[n_rows, heads * size]`.
///
/// # Panics
/// If lengths disagree, or runs share rows under a mask that is not causal.
pub fn attention(
    isa: Isa,
    qkv: &[f32],
    heads: Heads,
    layout: Layout<'_>,
    mask: Mask,
    out: &mut [f32],
) {
    let rows = layout.runs.last().map_or(0, |run| run.rows.end);
    let shares = layout.runs.iter().any(|run| run.start > 0);
    assert!(heads.kv_heads > 0 && heads.heads.is_multiple_of(heads.kv_heads), "heads share evenly");
    assert!(mask == Mask::Causal || !shares, "only a causal prefix can be shared");
    assert_eq!(qkv.len(), rows * heads.row(), "a row a token");
    assert_eq!(out.len(), rows * heads.heads * heads.size, "an output a token");
    let packed = PackedKeys::new(qkv, heads, layout);
    let out = SharedMut::new(out);
    let mut tasks = Vec::new();
    for (place, run) in layout.runs.iter().enumerate() {
        for head in 0..heads.heads {
            for first in (0..run.rows.len()).step_by(QUERY_CHUNK) {
                tasks.push((place, head, first..run.rows.len().min(first + QUERY_CHUNK)));
            }
        }
    }
    tasks.into_par_iter().for_each(|(place, head, queries)| {
        let run = &layout.runs[place];
        let (keys, values) = packed.of(place, head / (heads.heads / heads.kv_heads));
        isa.run(Chunk { qkv, heads, head, run, queries, keys, values, mask, out: &out });
    });
}

/// Keys and values that every run and head sees, in panels of 32 columns: keys transposed
/// (`[length/32][size][32]`), values as they are (`[size/32][length][32]`), filled up with zeros.
struct PackedKeys {
    numbers: AlignedVec<f32>,
    /// Where each run's part begins, in units of `Self::per_key`.
    starts: Vec<usize>,
    heads: Heads,
}

impl PackedKeys {
    fn new(qkv: &[f32], heads: Heads, layout: Layout<'_>) -> Self {
        let padded = |run: &Run| (run.start + run.rows.len()).next_multiple_of(PANEL);
        let mut starts = vec![0];
        for run in layout.runs {
            starts.push(starts[starts.len() - 1] + padded(run) * heads.kv_heads);
        }
        let length = starts[starts.len() - 1] * Self::per_key(heads);
        let mut packed = Self { numbers: AlignedVec::zeros(length), starts, heads };
        let mut parts = Vec::with_capacity(layout.runs.len() * heads.kv_heads);
        let mut rest = &mut packed.numbers[..];
        for run in layout.runs {
            for head in 0..heads.kv_heads {
                let (part, after) = rest.split_at_mut(padded(run) * Self::per_key(heads));
                parts.push((run, head, part));
                rest = after;
            }
        }
        parts.into_par_iter().for_each(|(run, head, part)| {
            let own = std::iter::once(Source::Batch(run.rows.clone()));
            let mut first = 0;
            for source in run.before.iter().cloned().chain(own) {
                let rows = match source {
                    Source::Batch(rows) => {
                        let rows = &qkv[rows.start * heads.row()..rows.end * heads.row()];
                        KeyRows { rows, width: heads.row(), keys: heads.heads * heads.size }
                    }
                    Source::Kept(place) => {
                        let width = 2 * heads.kv_heads * heads.size;
                        KeyRows { rows: layout.kept[place], width, keys: 0 }
                    }
                };
                first = rows.pack(heads, head, first, part);
            }
            assert_eq!(first, run.start + run.rows.len(), "a run starts behind what is before it");
        });
        packed
    }

    /// Numbers kept for one key and its value.
    fn per_key(heads: Heads) -> usize {
        heads.size + heads.size.next_multiple_of(PANEL)
    }

    /// Keys and values of one head of one run.
    fn of(&self, run: usize, kv_head: usize) -> (&[f32], &[f32]) {
        let per_head = (self.starts[run + 1] - self.starts[run]) / self.heads.kv_heads;
        let start = (self.starts[run] + kv_head * per_head) * Self::per_key(self.heads);
        let part = &self.numbers[start..start + per_head * Self::per_key(self.heads)];
        part.split_at(per_head * self.heads.size)
    }
}

/// Rows with keys of every head from `keys` on, and values behind them.
struct KeyRows<'a> {
    rows: &'a [f32],
    width: usize,
    keys: usize,
}

impl KeyRows<'_> {
    /// Packs one head from the key `first` on; gives the key after the last.
    fn pack(&self, heads: Heads, kv_head: usize, first: usize, part: &mut [f32]) -> usize {
        let size = heads.size;
        let padded = part.len() / PackedKeys::per_key(heads);
        let (keys, values) = part.split_at_mut(padded * size);
        let mut token = first;
        for row in self.rows.chunks_exact(self.width) {
            let key = &row[self.keys + kv_head * size..][..size];
            let to = &mut keys[token / PANEL * PANEL * size + token % PANEL..];
            for (place, value) in key.iter().enumerate() {
                to[place * PANEL] = *value;
            }
            let value = &row[self.keys + (heads.kv_heads + kv_head) * size..][..size];
            for (panel, part) in value.chunks(PANEL).enumerate() {
                values[(panel * padded + token) * PANEL..][..part.len()].copy_from_slice(part);
            }
            token += 1;
        }
        token
    }
}

/// Some queries of one head of one run.
struct Chunk<'a> {
    qkv: &'a [f32],
    heads: Heads,
    head: usize,
    run: &'a Run,
    queries: Range<usize>,
    keys: &'a [f32],
    values: &'a [f32],
    mask: Mask,
    out: &'a SharedMut<'a>,
}

/// The running softmax of a strip of queries.
struct Running {
    /// Largest score so far; not minus infinity at first, so that differences stay numbers.
    largest: [f32; TILE_ROWS_MAX],
    /// Sum of weights so far, relative to `largest`.
    total: [f32; TILE_ROWS_MAX],
}

thread_local! {
    /// Packed queries, scores and weighted values, kept between calls.
    static SCRATCH: std::cell::Cell<Vec<f32>> = const { std::cell::Cell::new(Vec::new()) };
}

impl Kernel for Chunk<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let padded_size = self.heads.size.next_multiple_of(PANEL);
        let mut scratch = SCRATCH.take();
        scratch.resize(TILE_ROWS_MAX * (self.heads.size + KEY_BLOCK + padded_size), 0.0);
        let (packed, rest) = scratch.split_at_mut(TILE_ROWS_MAX * self.heads.size);
        let (scores, sums) = rest.split_at_mut(TILE_ROWS_MAX * KEY_BLOCK);
        for first in self.queries.clone().step_by(S::TILE_ROWS) {
            let strip = first..self.queries.end.min(first + S::TILE_ROWS);
            self.pack_queries::<S>(strip.clone(), packed);
            sums.fill(0.0);
            let mut running =
                Running { largest: [-f32::MAX; TILE_ROWS_MAX], total: [0.0; TILE_ROWS_MAX] };
            let (position, length) = (self.run.start, self.run.start + self.run.rows.len());
            let seen_by = |query: usize| self.mask.keys(position + query, length);
            let start = seen_by(strip.start).start / KEY_BLOCK * KEY_BLOCK;
            let end = seen_by(strip.end - 1).end;
            for block in (start..end).step_by(KEY_BLOCK) {
                let keys = block..end.min(block + KEY_BLOCK).next_multiple_of(PANEL);
                self.score(s, strip.len(), packed, keys.clone(), scores);
                for row in 0..strip.len() {
                    let seen = seen_by(strip.start + row);
                    let scores = &mut scores[row * KEY_BLOCK..][..keys.len()];
                    let sums = &mut sums[row * padded_size..][..padded_size];
                    weigh(s, scores, block, seen, (&mut running, row), sums);
                }
                self.add_values(s, strip.len(), scores, keys, sums);
            }
            self.store(s, strip, &running, sums);
        }
        SCRATCH.set(scratch);
    }
}

impl Chunk<'_> {
    /// Scaled queries, number by number, as the tile wants them; missing rows are zero.
    #[inline(always)]
    fn pack_queries<S: Simd>(&self, strip: Range<usize>, packed: &mut [f32]) {
        let size = self.heads.size;
        let scale = 1.0 / (size as f32).sqrt();
        packed.fill(0.0);
        for (row, query) in strip.enumerate() {
            let at = (self.run.rows.start + query) * self.heads.row() + self.head * size;
            for (place, value) in self.qkv[at..at + size].iter().enumerate() {
                packed[place * S::TILE_ROWS + row] = value * scale;
            }
        }
    }

    /// Scores of a strip with whole panels of keys.
    #[inline(always)]
    fn score<S: Simd>(
        &self,
        s: S,
        height: usize,
        packed: &[f32],
        keys: Range<usize>,
        scores: &mut [f32],
    ) {
        let size = self.heads.size;
        for (panel, first) in keys.step_by(PANEL).enumerate() {
            let x = Strided { values: packed, row: 1, step: S::TILE_ROWS };
            let keys = &self.keys[first * size..(first + PANEL) * size];
            let sums = Sums { values: &mut scores[panel * PANEL..], row: KEY_BLOCK };
            tile_rows(s, height, x, keys, sums, true);
        }
    }

    /// Adds the values of a block of keys, each by its weight.
    #[inline(always)]
    fn add_values<S: Simd>(
        &self,
        s: S,
        height: usize,
        weights: &[f32],
        keys: Range<usize>,
        sums: &mut [f32],
    ) {
        let padded_size = self.heads.size.next_multiple_of(PANEL);
        let padded = self.values.len() / padded_size;
        for panel in 0..padded_size / PANEL {
            let first = (panel * padded + keys.start) * PANEL;
            let values = &self.values[first..first + keys.len() * PANEL];
            let x = Strided { values: weights, row: KEY_BLOCK, step: 1 };
            let sums = Sums { values: &mut sums[panel * PANEL..], row: padded_size };
            tile_rows(s, height, x, values, sums, false);
        }
    }

    #[inline(always)]
    fn store<S: Simd>(&self, s: S, strip: Range<usize>, running: &Running, sums: &[f32]) {
        let size = self.heads.size;
        for (row, sums) in strip.clone().zip(sums.chunks_exact(size.next_multiple_of(PANEL))) {
            let at = ((self.run.rows.start + row) * self.heads.heads + self.head) * size;
            // SAFETY: a task writes only its own queries of its own head.
            let out = unsafe { self.out.part(at, size) };
            let total = s.splat(running.total[row - strip.start]);
            for (out, sums) in out.chunks_mut(LANES).zip(sums.chunks_exact(LANES)) {
                s.store_part(out, s.div(s.load_part(sums), total));
            }
        }
    }
}

/// Turns a row's scores into weights `e^(score - largest)`, zero for keys it does not see, and
/// brings what was summed before to the new largest score.
#[inline(always)]
fn weigh<S: Simd>(
    s: S,
    scores: &mut [f32],
    block: usize,
    seen: Range<usize>,
    (running, row): (&mut Running, usize),
    sums: &mut [f32],
) {
    let from = seen.start.saturating_sub(block).min(scores.len());
    let to = seen.end.saturating_sub(block).min(scores.len());
    scores[..from].fill(f32::NEG_INFINITY);
    scores[to..].fill(f32::NEG_INFINITY);
    let mut largest = s.splat(f32::NEG_INFINITY);
    for part in scores.chunks_exact(LANES) {
        largest = s.max(largest, s.load_part(part));
    }
    let before = running.largest[row];
    let largest = s.largest(largest);
    let largest = if largest > before { largest } else { before };
    let mut total = s.splat(0.0);
    for part in scores.chunks_exact_mut(LANES) {
        let weight = math::exp(s, s.sub(s.load_part(part), s.splat(largest)));
        total = s.add(total, weight);
        s.store_part(part, weight);
    }
    if largest > before {
        let shrink = math::exp(s, s.splat(before - largest));
        for part in sums.chunks_exact_mut(LANES) {
            s.store_part(part, s.mul(s.load_part(part), shrink));
        }
        running.total[row] *= s.lanes(shrink)[0];
    }
    running.total[row] += s.sum(total);
    running.largest[row] = largest;
}

#[cfg(test)]
mod tests;
