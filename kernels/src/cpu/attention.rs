//! Softmax attention over sequences laid end to end, streaming over blocks of keys (Milakov and
//! Gimelshein, 2018; Dao et al., 2022): memory is linear in the length.
//!
//! Sequences that begin alike may share those rows: a run of rows sees the keys of the runs before
//! it and its own. Blocks of keys begin at the sequence's own start, wherever its rows lie, and a
//! block of finite numbers that is masked out for a row leaves that row's bits unchanged, so a row
//! does not depend on its neighbours, its batch, what it shares or the number of threads.
//! Must not know: layers, tensors.

mod keys;

use std::ops::Range;

use super::aligned::{AlignedBytes, numbers_mut, room};
use super::epilogue::Target;
use super::isa::Isa;
use super::math;
use super::operand::{Bf16Parts, F32Pieces, Operand, Packing, Writer, strip_writer};
use super::product::{Arithmetic, PANEL, Product, ProductKernel, Sums};
use super::shared::SharedMut;
use super::simd::{LANES, Simd};
use super::team;
use keys::PackedKeys;

/// Keys whose scores are held at a time.
const KEY_BLOCK: usize = 8 * PANEL;
/// Queries of one task, whole strips on every instruction set.
const QUERY_CHUNK: usize = 96;
/// Rows of the largest strip on any instruction set.
const STRIP_MAX: usize = 32;
/// Heads are filled up with zeros to a multiple of this, whole lines in both forms.
const SIZE_UNIT: usize = 32;

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
    pub fn keys(self, position: usize, length: usize) -> Range<usize> {
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

/// What attention is computed of, and how.
#[derive(Debug, Clone, Copy)]
pub struct Attention<'a> {
    /// Queries, keys and values, `[n_rows, row]`.
    pub qkv: &'a [f32],
    /// How a row is made up.
    pub heads: Heads,
    /// How rows belong together.
    pub layout: Layout<'a>,
    /// Which keys a query sees.
    pub mask: Mask,
    /// Of both products, [`Arithmetic::F32`] or [`Arithmetic::Bf16`]; softmax and sums are float32.
    pub arithmetic: Arithmetic,
}

impl Attention<'_> {
    fn rows(&self) -> usize {
        self.layout.runs.last().map_or(0, |run| run.rows.end)
    }
}

/// Attention of each sequence with itself, scores scaled by `1/sqrt(size)`, to `out`,
/// `[n_rows, heads * size]`.
///
/// # Panics
/// If lengths disagree, or runs share rows under a mask that is not causal.
pub fn attention(isa: Isa, what: Attention<'_>, out: &mut [f32]) {
    let width = what.heads.heads * what.heads.size;
    assert_eq!(out.len(), what.rows() * width, "an output a token");
    attend(isa, what, &Target::Numbers(SharedMut::new(out)));
}

/// As [`attention`], with the result packed for the next product.
///
/// # Panics
/// If lengths disagree, or runs share rows under a mask that is not causal.
pub fn attention_packed(isa: Isa, what: Attention<'_>, packing: Packing) -> Operand {
    let (rows, width) = (what.rows(), what.heads.heads * what.heads.size);
    let mut operand = Operand::new(packing, rows, width);
    if operand.writer().takes_pieces() && what.heads.size.is_multiple_of(LANES) {
        attend(isa, what, &Target::Packed(operand.writer()));
        return operand;
    }
    let mut bytes = AlignedBytes::reused(rows * width * size_of::<f32>());
    let numbers = numbers_mut(&mut bytes);
    attention(isa, what, numbers);
    Operand::of(isa, numbers, width, packing)
}

fn attend(isa: Isa, what: Attention<'_>, out: &Target<'_>) {
    let Attention { qkv, heads, layout, mask, arithmetic } = what;
    let shares = layout.runs.iter().any(|run| run.start > 0);
    assert!(heads.kv_heads > 0 && heads.heads.is_multiple_of(heads.kv_heads), "heads share evenly");
    assert!(mask == Mask::Causal || !shares, "only a causal prefix can be shared");
    assert_eq!(qkv.len(), what.rows() * heads.row(), "a row a token");
    let packed = PackedKeys::new(isa, qkv, heads, layout, arithmetic.weights());
    let packing = isa.packing(arithmetic);
    let mut tasks = Vec::new();
    for (place, run) in layout.runs.iter().enumerate() {
        for head in 0..heads.heads {
            for first in (0..run.rows.len()).step_by(QUERY_CHUNK) {
                tasks.push((place, head, first..run.rows.len().min(first + QUERY_CHUNK)));
            }
        }
    }
    team::for_each(tasks.len(), |task| {
        let (place, head, queries) = tasks[task].clone();
        let run = &layout.runs[place];
        let (keys, values) = packed.of(place, head / (heads.heads / heads.kv_heads));
        let chunk = Chunk { what, packing, head, run, queries, keys, values, out };
        isa.run_product(arithmetic, chunk);
    });
}

/// Some queries of one head of one run.
struct Chunk<'a> {
    what: Attention<'a>,
    packing: Packing,
    head: usize,
    run: &'a Run,
    queries: Range<usize>,
    keys: &'a [u8],
    values: &'a [u8],
    out: &'a Target<'a>,
}

/// The running softmax of a strip of queries.
struct Running {
    /// Largest score so far; not minus infinity at first, so that differences stay numbers.
    largest: [f32; STRIP_MAX],
    /// Sum of weights so far, relative to `largest`.
    total: [f32; STRIP_MAX],
}

/// A strip's numbers, kept between calls.
#[derive(Default)]
struct Scratch {
    /// Queries, packed.
    queries: Option<AlignedBytes>,
    /// Scores of a block of keys.
    scores: Option<AlignedBytes>,
    /// Weights, packed.
    weights: Option<AlignedBytes>,
    /// Weighted values.
    sums: Option<AlignedBytes>,
}

thread_local! {
    static SCRATCH: std::cell::Cell<Scratch> = const { std::cell::Cell::new(Scratch {
        queries: None,
        scores: None,
        weights: None,
        sums: None,
    }) };
}

impl ProductKernel for Chunk<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, P: Product>(self, s: S, p: P) {
        let size = self.what.heads.size;
        let padded_size = size.next_multiple_of(SIZE_UNIT);
        let mut scratch = SCRATCH.take();
        let Scratch { queries, scores, weights, sums } = &mut scratch;
        let scores: &mut [f32] = numbers_mut(room(scores, STRIP_MAX * KEY_BLOCK * 4));
        let sums: &mut [f32] = numbers_mut(room(sums, STRIP_MAX * padded_size * 4));
        let queries = room(queries, self.packing.strip_bytes(size));
        let weights = room(weights, self.packing.strip_bytes(KEY_BLOCK));
        for first in self.queries.clone().step_by(P::ROWS) {
            let strip = first..self.queries.end.min(first + P::ROWS);
            self.pack_queries::<S, P>(s, strip.clone(), queries);
            sums.fill(0.0);
            let mut running = Running { largest: [-f32::MAX; STRIP_MAX], total: [0.0; STRIP_MAX] };
            let (position, length) = (self.run.start, self.run.start + self.run.rows.len());
            let seen_by = |query: usize| self.what.mask.keys(position + query, length);
            let start = seen_by(strip.start).start / KEY_BLOCK * KEY_BLOCK;
            let end = seen_by(strip.end - 1).end;
            for block in (start..end).step_by(KEY_BLOCK) {
                let keys = block..end.min(block + KEY_BLOCK).next_multiple_of(PANEL);
                self.score(p, strip.len(), queries, keys.clone(), scores);
                let packed = strip_writer(self.packing, KEY_BLOCK, weights);
                for row in 0..strip.len() {
                    let seen = seen_by(strip.start + row);
                    let values = &mut scores[row * KEY_BLOCK..][..keys.len()];
                    let scores = Scores { values, block, seen };
                    let sums = &mut sums[row * padded_size..][..padded_size];
                    weigh::<S, P>(s, scores, (&mut running, row), sums, &packed);
                }
                self.add_values(p, strip.len(), weights, keys, sums);
            }
            self.store(s, strip, &running, sums);
        }
        SCRATCH.set(scratch);
    }
}

impl Chunk<'_> {
    /// Scaled queries as the product takes them; missing rows are zero.
    #[inline(always)]
    fn pack_queries<S: Simd, P: Product>(&self, s: S, strip: Range<usize>, packed: &mut [u8]) {
        let (size, row) = (self.what.heads.size, self.what.heads.row());
        let scale = s.splat(1.0 / (size as f32).sqrt());
        if strip.len() < P::ROWS || !size.is_multiple_of(SIZE_UNIT) {
            packed.fill(0);
        }
        let writer = strip_writer(self.packing, size, packed);
        let start_of = |query: usize| (self.run.rows.start + query) * row + self.head * size;
        for (place, query) in strip.enumerate() {
            let (at, ahead) = (start_of(query), start_of(query + P::ROWS));
            // Queries lie far apart: the CPU does not see by itself which come next.
            for line in (0..size).step_by(LANES) {
                s.prefetch(self.what.qkv.as_ptr().wrapping_add(ahead + line).cast());
            }
            let (start, numbers) = (writer.start_of(place), &self.what.qkv[at..at + size]);
            for (piece, numbers) in numbers.chunks(LANES).enumerate() {
                let value = [s.mul(s.load_part(numbers), scale)];
                // SAFETY: the strip is this task's own, and its form is the product's.
                unsafe { put::<S, P, 1>(s, &writer, start, piece * LANES, value) };
            }
        }
    }

    /// Scores of a strip with whole panels of keys.
    #[inline(always)]
    fn score<P: Product>(
        &self,
        p: P,
        height: usize,
        queries: &[u8],
        keys: Range<usize>,
        scores: &mut [f32],
    ) {
        let per_key = self.keys.len() / self.padded_keys();
        for (panel, first) in keys.step_by(PANEL).enumerate() {
            let keys = &self.keys[first * per_key..(first + PANEL) * per_key];
            let values = &mut scores[panel * PANEL..];
            let sums = Sums { values, row: KEY_BLOCK, first: true };
            p.tile(height, queries, keys, sums, false);
        }
    }

    /// Keys of the run, filled up.
    fn padded_keys(&self) -> usize {
        (self.run.start + self.run.rows.len()).next_multiple_of(PANEL)
    }

    /// Adds the values of a block of keys, each by its weight.
    #[inline(always)]
    fn add_values<P: Product>(
        &self,
        p: P,
        height: usize,
        weights: &[u8],
        keys: Range<usize>,
        sums: &mut [f32],
    ) {
        let padded_size = self.what.heads.size.next_multiple_of(SIZE_UNIT);
        let panels = padded_size / PANEL;
        let per_key = self.values.len() / self.padded_keys() / panels;
        for panel in 0..panels {
            let first = (panel * self.padded_keys() + keys.start) * per_key;
            let values = &self.values[first..first + keys.len() * per_key];
            let sums = Sums { values: &mut sums[panel * PANEL..], row: padded_size, first: false };
            p.tile(height, weights, values, sums, false);
        }
    }

    #[inline(always)]
    fn store<S: Simd>(&self, s: S, strip: Range<usize>, running: &Running, sums: &[f32]) {
        let Heads { heads, size, .. } = self.what.heads;
        for (row, sums) in strip.clone().zip(sums.chunks_exact(size.next_multiple_of(SIZE_UNIT))) {
            let (token, first) = (self.run.rows.start + row, self.head * size);
            let inverse = s.splat(1.0 / running.total[row - strip.start]);
            for (piece, sums) in sums.chunks_exact(LANES).take(size.div_ceil(LANES)).enumerate() {
                let (value, at) = (s.mul(s.load_part(sums), inverse), piece * LANES);
                // SAFETY: a task writes only its own queries of its own head.
                unsafe {
                    match self.out {
                        Target::Packed(writer) => {
                            writer.piece(s, writer.start_of(token), first + at, value);
                        }
                        Target::Numbers(out) => {
                            let count = (size - at).min(LANES);
                            let to = out.part(token * heads * size + first + at, count);
                            s.store_part(to, value);
                        }
                    }
                }
            }
        }
    }
}

/// Writes pieces of a row of attention's own strips, whose form the product decides.
///
/// # Safety
/// As [`Writer::pieces`]; the writer is of the product's packing.
#[inline(always)]
unsafe fn put<S: Simd, P: Product, const N: usize>(
    s: S,
    writer: &Writer<'_>,
    start: usize,
    first: usize,
    values: [S::V; N],
) {
    // SAFETY: as the caller vouches.
    unsafe {
        if P::ARITHMETIC == Arithmetic::Bf16 {
            writer.pieces::<S, Bf16Parts<1>, N>(s, start, first, values);
        } else {
            writer.pieces::<S, F32Pieces, N>(s, start, first, values);
        }
    }
}

/// A row of scores of the keys from `block` on.
struct Scores<'a> {
    values: &'a mut [f32],
    block: usize,
    /// The keys that the row sees.
    seen: Range<usize>,
}

/// Turns a row's scores into weights `e^(score - largest)`, zero for keys it does not see, packs
/// them, and brings what was summed before to the new largest score.
#[inline(always)]
fn weigh<S: Simd, P: Product>(
    s: S,
    scores: Scores<'_>,
    (running, row): (&mut Running, usize),
    sums: &mut [f32],
    packed: &Writer<'_>,
) {
    let Scores { values, block, seen } = scores;
    let from = seen.start.saturating_sub(block).min(values.len());
    let to = seen.end.saturating_sub(block).min(values.len());
    values[..from].fill(f32::NEG_INFINITY);
    values[to..].fill(f32::NEG_INFINITY);
    // Two chains, so that one maximum need not wait for the one before it.
    let mut largest = [s.splat(f32::NEG_INFINITY); 2];
    for pair in values.chunks_exact(PANEL) {
        largest[0] = s.max(largest[0], s.load_part(&pair[..LANES]));
        largest[1] = s.max(largest[1], s.load_part(&pair[LANES..]));
    }
    let before = running.largest[row];
    let largest = s.largest(s.max(largest[0], largest[1]));
    let largest = if largest > before { largest } else { before };
    let (mut total, at_most) = (s.splat(0.0), s.splat(largest));
    let start = packed.start_of(row);
    for (panel, pair) in values.chunks_exact(PANEL).enumerate() {
        let left = math::exp_of_negative(s, s.sub(s.load_part(&pair[..LANES]), at_most));
        let right = math::exp_of_negative(s, s.sub(s.load_part(&pair[LANES..]), at_most));
        total = s.add(s.add(total, left), right);
        // SAFETY: the strip is this task's own, and its form is the product's.
        unsafe { put::<S, P, 2>(s, packed, start, panel * PANEL, [left, right]) };
    }
    // Nothing was summed before the first block.
    if largest > before && before > -f32::MAX {
        let shrink = math::exp_of_negative(s, s.splat(before - largest));
        for part in sums.chunks_exact_mut(LANES) {
            s.store_part(part, s.mul(s.load_part(part), shrink));
        }
        running.total[row] *= s.lanes(shrink)[0];
    }
    running.total[row] += s.sum(total);
    running.largest[row] = largest;
}
