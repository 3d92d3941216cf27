//! Softmax attention over concatenated sequences, streaming over blocks of keys (online softmax:
//! Milakov and Gimelshein, 2018; Dao et al., 2022), so memory is linear in the sequence length.
//!
//! Sequences that share a prefix may share its rows: a segment sees its own keys and those of its
//! ancestors. Key blocks start at the sequence's own start, wherever its rows are stored, and a
//! block with finite values that is masked out for a row leaves that row's bits unchanged. So a row
//! does not depend on its neighbours, its batch, prefix sharing or the number of threads.
//! Must not know: layers, tensors.

mod keys;
mod token_bias;

use std::ops::Range;

use crate::cpu::buffer::aligned::{AlignedBytes, cast_mut, grown};
use crate::cpu::buffer::shared::SharedMut;
use crate::cpu::gemm::epilogue::Target;
use crate::cpu::gemm::micro_kernel::{Arithmetic, GemmOp, MicroKernel, PANEL_COLUMNS, Sums};
use crate::cpu::gemm::pack_lhs::{
    Bf16Parts, F32Pieces, PackedLhs, Packing, PanelWriter, row_panel_writer,
};
use crate::cpu::isa::simd::{LANES, Simd};
use crate::cpu::isa::{Isa, math};
use crate::cpu::thread_pool;
use crate::spec::{Heads, Mask, OffsetBuckets, Segment};
use keys::PackedKeys;
use token_bias::HeadTerms;
pub use token_bias::TokenTerms;

/// Keys per block, whose scores are computed together.
const KEY_BLOCK: usize = 8 * PANEL_COLUMNS;
/// Queries per task: whole row panels on every instruction set.
const QUERY_CHUNK: usize = 96;
/// Rows of the largest row panel on any instruction set.
const PANEL_ROWS_MAX: usize = 32;
/// The head size is zero-padded to a multiple of this: whole lines in float32 and bfloat16.
const SIZE_UNIT: usize = 32;

/// How the rows of a batch form sequences.
#[derive(Debug, Clone, Copy)]
pub struct Layout<'a> {
    /// Segments in row order, covering all rows without gaps.
    pub segments: &'a [Segment],
    /// Keys and values cached from earlier batches, `[n_rows, 2 * kv_heads * size]` each.
    pub cached: &'a [&'a [f32]],
}

/// What is added to scores, by the position of a key relative to the query's.
#[derive(Debug, Clone, Copy)]
pub enum Bias<'a> {
    /// The same for all tokens.
    Table {
        /// `[heads, 2 * reach + 1]`: from `reach` positions before the query to `reach` after it.
        table: &'a [f32],
        /// Sequences are at most `reach + 1` long.
        reach: usize,
    },
    /// A term of the query plus one of the key; see [`TokenBias`](crate::spec::TokenBias).
    Tokens {
        /// Of each head.
        terms: &'a [TokenTerms<'a>],
        /// The buckets of relative positions.
        buckets: &'a OffsetBuckets,
    },
}

impl Bias<'_> {
    /// Checks the sizes for a batch.
    ///
    /// # Panics
    /// If one does not fit.
    fn check(&self, rows: usize, heads: usize, longest: usize, shares: bool) {
        match self {
            Self::Table { table, reach } => {
                assert!(longest <= reach + 1, "a bias for every pair of positions");
                assert_eq!(table.len(), heads * (2 * reach + 1), "one bias row per head");
            }
            Self::Tokens { terms, buckets } => {
                assert!(longest <= buckets.reach() + 1, "a bias for every pair of positions");
                assert!(!shares, "a row of terms is at its own position");
                assert_eq!(terms.len(), heads, "terms of every head");
                let wanted = rows * buckets.count();
                let fit = |part: &[f32]| part.len() == wanted;
                assert!(terms.iter().all(|part| fit(part.queries) && fit(part.keys)), "all rows");
            }
        }
    }
}

/// The inputs and options of attention.
#[derive(Debug, Clone, Copy)]
pub struct Attention<'a> {
    /// Queries, keys and values, `[n_rows, row]`.
    pub qkv: &'a [f32],
    /// The layout of a row.
    pub heads: Heads,
    /// The segments, and cached keys and values.
    pub layout: Layout<'a>,
    /// Which keys a query sees.
    pub mask: Mask,
    /// What is added to scores after scaling.
    pub bias: Option<Bias<'a>>,
    /// Of both GEMMs, [`Arithmetic::F32`] or [`Arithmetic::Bf16`]; softmax and sums are float32.
    pub arithmetic: Arithmetic,
}

impl Attention<'_> {
    fn rows(&self) -> usize {
        self.layout.segments.last().map_or(0, |segment| segment.rows.end)
    }
}

/// Self-attention of each sequence, with scores scaled by `1/sqrt(size)`, written to `out`,
/// `[n_rows, heads * size]`.
///
/// # Panics
/// If lengths disagree, segments share rows under a mask that is not causal, the query heads are no
/// multiple of the key and value heads, or a bias does not fit.
pub fn attention(isa: Isa, what: Attention<'_>, out: &mut [f32]) {
    let width = what.heads.heads * what.heads.size;
    assert_eq!(out.len(), what.rows() * width, "one output row per token");
    attend(isa, what, &Target::Rows(SharedMut::new(out)));
}

/// Like [`attention`], but packs the result for the next GEMM.
///
/// # Panics
/// If lengths disagree, segments share rows under a mask that is not causal, the query heads are no
/// multiple of the key and value heads, or a bias does not fit.
pub fn attention_packed(isa: Isa, what: Attention<'_>, packing: Packing) -> PackedLhs {
    let (rows, width) = (what.rows(), what.heads.heads * what.heads.size);
    let mut packed = PackedLhs::new(packing, rows, width);
    if packed.writer().takes_pieces() && what.heads.size.is_multiple_of(LANES) {
        attend(isa, what, &Target::Packed(packed.writer()));
        return packed;
    }
    let mut bytes = AlignedBytes::reused(rows * width * size_of::<f32>());
    let elements = cast_mut(&mut bytes);
    attention(isa, what, elements);
    PackedLhs::of(isa, elements, width, packing)
}

fn attend(isa: Isa, what: Attention<'_>, out: &Target<'_>) {
    let Attention { qkv, heads, layout, mask, bias, arithmetic } = what;
    let shares = layout.segments.iter().any(|segment| segment.start > 0);
    if let Some(bias) = bias {
        let lengths = layout.segments.iter().map(|segment| segment.start + segment.rows.len());
        bias.check(what.rows(), heads.heads, lengths.max().unwrap_or(0), shares);
    }
    assert!(heads.kv_heads > 0 && heads.heads.is_multiple_of(heads.kv_heads), "heads share evenly");
    assert!(mask.is_causal() || !shares, "only a causal prefix can be shared");
    assert_eq!(qkv.len(), what.rows() * heads.row(), "one row per token");
    let packed = PackedKeys::new(isa, qkv, heads, layout, arithmetic.weights());
    let packing = isa.packing(arithmetic);
    let mut tasks = Vec::new();
    for (index, segment) in layout.segments.iter().enumerate() {
        for head in 0..heads.heads {
            for first in (0..segment.rows.len()).step_by(QUERY_CHUNK) {
                tasks.push((index, head, first..segment.rows.len().min(first + QUERY_CHUNK)));
            }
        }
    }
    thread_pool::for_each(tasks.len(), |task| {
        let (index, head, queries) = tasks[task].clone();
        let segment = &layout.segments[index];
        let (keys, values) = packed.of(index, head / (heads.heads / heads.kv_heads));
        let chunk = QueryChunk { what, packing, head, segment, queries, keys, values, out };
        isa.run_gemm(arithmetic, chunk);
    });
}

/// One task: at most [`QUERY_CHUNK`] queries of one head of one segment.
struct QueryChunk<'a> {
    what: Attention<'a>,
    packing: Packing,
    head: usize,
    segment: &'a Segment,
    queries: Range<usize>,
    keys: &'a [u8],
    values: &'a [u8],
    out: &'a Target<'a>,
}

/// The online softmax state of a row panel of queries.
struct RunningSoftmax {
    /// Running maximum; starts at `-f32::MAX`, because differences of minus infinity are NaN.
    largest: [f32; PANEL_ROWS_MAX],
    /// Sum of the weights `e^(score - largest)` so far.
    total: [f32; PANEL_ROWS_MAX],
}

/// Scratch buffers of a row panel, cached between calls.
#[derive(Default)]
struct Scratch {
    /// Packed queries.
    queries: Option<AlignedBytes>,
    /// Scores of one block of keys.
    scores: Option<AlignedBytes>,
    /// Packed softmax weights.
    weights: Option<AlignedBytes>,
    /// Weighted sums of values.
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

impl GemmOp for QueryChunk<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, P: MicroKernel>(self, s: S, p: P) {
        let size = self.what.heads.size;
        let padded_size = size.next_multiple_of(SIZE_UNIT);
        let mut scratch = SCRATCH.take();
        let Scratch { queries, scores, weights, sums } = &mut scratch;
        let scores: &mut [f32] = cast_mut(grown(scores, PANEL_ROWS_MAX * KEY_BLOCK * 4));
        let sums: &mut [f32] = cast_mut(grown(sums, PANEL_ROWS_MAX * padded_size * 4));
        let queries = grown(queries, self.packing.row_panel_bytes(size));
        let weights = grown(weights, self.packing.row_panel_bytes(KEY_BLOCK));
        for first in self.queries.clone().step_by(P::ROWS) {
            let row_panel = first..self.queries.end.min(first + P::ROWS);
            self.pack_queries::<S, P>(s, row_panel.clone(), queries);
            sums.fill(0.0);
            let mut running = RunningSoftmax {
                largest: [-f32::MAX; PANEL_ROWS_MAX],
                total: [0.0; PANEL_ROWS_MAX],
            };
            let (position, length) =
                (self.segment.start, self.segment.start + self.segment.rows.len());
            let seen_by = |query: usize| self.what.mask.keys(position + query, length);
            let start = seen_by(row_panel.start).start / KEY_BLOCK * KEY_BLOCK;
            let end = seen_by(row_panel.end - 1).end;
            for block in (start..end).step_by(KEY_BLOCK) {
                let keys = block..end.min(block + KEY_BLOCK).next_multiple_of(PANEL_COLUMNS);
                self.score(p, row_panel.len(), queries, keys.clone(), scores);
                let packed = row_panel_writer(self.packing, KEY_BLOCK, weights);
                self.add_bias(s, row_panel.clone(), keys.clone(), scores);
                for row in 0..row_panel.len() {
                    let seen = seen_by(row_panel.start + row);
                    let values = &mut scores[row * KEY_BLOCK..][..keys.len()];
                    let scores = ScoreRow { values, block, seen };
                    let sums = &mut sums[row * padded_size..][..padded_size];
                    weigh::<S, P>(s, scores, &mut running, row, sums, &packed);
                }
                self.add_values(p, row_panel.len(), weights, keys, sums);
            }
            self.store(s, row_panel, &running, sums);
        }
        SCRATCH.set(scratch);
    }
}

impl QueryChunk<'_> {
    /// Packs scaled queries for the micro-kernel; missing rows are zero.
    #[inline(always)]
    fn pack_queries<S: Simd, P: MicroKernel>(
        &self,
        s: S,
        row_panel: Range<usize>,
        packed: &mut [u8],
    ) {
        let (size, row) = (self.what.heads.size, self.what.heads.row());
        let terms = if matches!(self.what.bias, Some(Bias::Tokens { .. })) { 3 } else { 1 };
        let scale = s.splat(1.0 / ((terms * size) as f32).sqrt());
        if row_panel.len() < P::ROWS || !size.is_multiple_of(SIZE_UNIT) {
            packed.fill(0);
        }
        let writer = row_panel_writer(self.packing, size, packed);
        let start_of = |query: usize| (self.segment.rows.start + query) * row + self.head * size;
        for (panel_row, query) in row_panel.enumerate() {
            let (at, ahead) = (start_of(query), start_of(query + P::ROWS));
            // Queries are far apart in memory: the hardware prefetcher does not predict them.
            for line in (0..size).step_by(LANES) {
                s.prefetch(self.what.qkv.as_ptr().wrapping_add(ahead + line).cast());
            }
            let (start, elements) = (writer.start_of(panel_row), &self.what.qkv[at..at + size]);
            for (piece, elements) in elements.chunks(LANES).enumerate() {
                let value = [s.mul(s.load_part(elements), scale)];
                // SAFETY: the row panel belongs to this task and has the micro-kernel's format.
                unsafe { put::<S, P, 1>(s, &writer, start, piece * LANES, value) };
            }
        }
    }

    /// Scores of a row panel against whole panels of keys.
    #[inline(always)]
    fn score<P: MicroKernel>(
        &self,
        p: P,
        height: usize,
        queries: &[u8],
        keys: Range<usize>,
        scores: &mut [f32],
    ) {
        let per_key = self.keys.len() / self.padded_keys();
        for (panel, first) in keys.step_by(PANEL_COLUMNS).enumerate() {
            let keys = &self.keys[first * per_key..(first + PANEL_COLUMNS) * per_key];
            let values = &mut scores[panel * PANEL_COLUMNS..];
            let sums = Sums { values, row: KEY_BLOCK, first: true };
            p.tile(height, queries, keys, sums, false);
        }
    }

    /// Adds biases to the scores of queries and keys; those of keys after the last may stay as they
    /// are.
    #[inline(always)]
    fn add_bias<S: Simd>(
        &self,
        s: S,
        queries: Range<usize>,
        keys: Range<usize>,
        scores: &mut [f32],
    ) {
        match &self.what.bias {
            None => {}
            Some(Bias::Table { table, reach }) => {
                let width = 2 * reach + 1;
                let table = &table[self.head * width..][..width];
                for (row, query) in queries.enumerate() {
                    let position = self.segment.start + query;
                    let values = &mut scores[row * KEY_BLOCK..][..keys.len()];
                    add(s, values, &table[reach + keys.start - position..]);
                }
            }
            Some(Bias::Tokens { terms, buckets }) => {
                let terms =
                    HeadTerms { terms: terms[self.head], rows: &self.segment.rows, buckets };
                terms.add(s, queries, keys, scores);
            }
        }
    }

    /// Keys of the segment and its ancestors, padded to whole panels.
    fn padded_keys(&self) -> usize {
        (self.segment.start + self.segment.rows.len()).next_multiple_of(PANEL_COLUMNS)
    }

    /// Adds the values of a block of keys, weighted by the softmax weights.
    #[inline(always)]
    fn add_values<P: MicroKernel>(
        &self,
        p: P,
        height: usize,
        weights: &[u8],
        keys: Range<usize>,
        sums: &mut [f32],
    ) {
        let padded_size = self.what.heads.size.next_multiple_of(SIZE_UNIT);
        let panels = padded_size / PANEL_COLUMNS;
        let per_key = self.values.len() / self.padded_keys() / panels;
        for panel in 0..panels {
            let first = (panel * self.padded_keys() + keys.start) * per_key;
            let values = &self.values[first..first + keys.len() * per_key];
            let sums =
                Sums { values: &mut sums[panel * PANEL_COLUMNS..], row: padded_size, first: false };
            p.tile(height, weights, values, sums, false);
        }
    }

    #[inline(always)]
    fn store<S: Simd>(
        &self,
        s: S,
        row_panel: Range<usize>,
        running: &RunningSoftmax,
        sums: &[f32],
    ) {
        let Heads { heads, size, .. } = self.what.heads;
        for (row, sums) in
            row_panel.clone().zip(sums.chunks_exact(size.next_multiple_of(SIZE_UNIT)))
        {
            let (token, first) = (self.segment.rows.start + row, self.head * size);
            let inverse = s.splat(1.0 / running.total[row - row_panel.start]);
            for (piece, sums) in sums.chunks_exact(LANES).take(size.div_ceil(LANES)).enumerate() {
                let (value, at) = (s.mul(s.load_part(sums), inverse), piece * LANES);
                // SAFETY: a task writes only its own queries of its own head.
                unsafe {
                    match self.out {
                        Target::Packed(writer) => {
                            writer.piece(s, writer.start_of(token), first + at, value);
                        }
                        Target::Rows(out) => {
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

/// Writes pieces of a row into attention's own row panels, in the format of `P`.
///
/// # Safety
/// As for [`PanelWriter::pieces`]; the writer has `P`'s packing.
#[inline(always)]
unsafe fn put<S: Simd, P: MicroKernel, const N: usize>(
    s: S,
    writer: &PanelWriter<'_>,
    start: usize,
    first: usize,
    values: [S::V; N],
) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        if P::ARITHMETIC == Arithmetic::Bf16 {
            writer.pieces::<S, Bf16Parts<1>, N>(s, start, first, values);
        } else {
            writer.pieces::<S, F32Pieces, N>(s, start, first, values);
        }
    }
}

/// A row of scores for the keys from `block` on.
struct ScoreRow<'a> {
    values: &'a mut [f32],
    block: usize,
    /// The keys that the row sees.
    seen: Range<usize>,
}

/// Adds biases to a row of scores; those of keys after the last may be missing.
#[inline(always)]
fn add<S: Simd>(s: S, values: &mut [f32], biases: &[f32]) {
    for (values, biases) in values.chunks_exact_mut(LANES).zip(biases.chunks(LANES)) {
        s.store_part(values, s.add(s.load_part(values), s.load_part(biases)));
    }
}

/// Turns a row's scores into weights `e^(score - largest)`, zero for masked keys, packs them, and
/// rescales the previous sums to the new maximum.
#[inline(always)]
fn weigh<S: Simd, P: MicroKernel>(
    s: S,
    scores: ScoreRow<'_>,
    running: &mut RunningSoftmax,
    row: usize,
    sums: &mut [f32],
    packed: &PanelWriter<'_>,
) {
    let ScoreRow { values, block, seen } = scores;
    let from = seen.start.saturating_sub(block).min(values.len());
    let to = seen.end.saturating_sub(block).min(values.len());
    values[..from].fill(f32::NEG_INFINITY);
    values[to..].fill(f32::NEG_INFINITY);
    // Two accumulators hide the latency of `max`.
    let mut largest = [s.splat(f32::NEG_INFINITY); 2];
    for pair in values.chunks_exact(PANEL_COLUMNS) {
        largest[0] = s.max(largest[0], s.load_part(&pair[..LANES]));
        largest[1] = s.max(largest[1], s.load_part(&pair[LANES..]));
    }
    let before = running.largest[row];
    let largest = s.largest(s.max(largest[0], largest[1]));
    let largest = if largest > before { largest } else { before };
    let (mut total, at_most) = (s.splat(0.0), s.splat(largest));
    let start = packed.start_of(row);
    for (panel, pair) in values.chunks_exact(PANEL_COLUMNS).enumerate() {
        let left = math::exp_of_negative(s, s.sub(s.load_part(&pair[..LANES]), at_most));
        let right = math::exp_of_negative(s, s.sub(s.load_part(&pair[LANES..]), at_most));
        total = s.add(s.add(total, left), right);
        // SAFETY: the row panel belongs to this task and has the micro-kernel's format.
        unsafe { put::<S, P, 2>(s, packed, start, panel * PANEL_COLUMNS, [left, right]) };
    }
    // Before the first visible key there is nothing to rescale.
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
