//! Attention: against its plain form, and that its bits do not depend on the layout.
//!
//! Must not know: how threads run.

use std::ops::Range;

use half::{bf16, f16};
use proxima_emulator::{Block, Buffer, Span, read, write};
use proxima_kernels::reference;
use proxima_kernels::spec::{Ancestor, Heads, Mask, Segment, Sequences, segments_of};

use super::device::*;

/// An element type of attention.
trait AttentionType: Float {
    /// The largest error of a result, for values up to 2.
    const ERROR: f32;
    /// Query rows per block, at most.
    const ROWS: usize;
    /// The kernel for heads of this size, and its shared memory in bytes.
    fn kernel(size: usize) -> (String, usize);
}

/// Head sizes with a tensor-core kernel, and the shared memory of each.
const TENSOR_CORES: [(usize, usize); 5] =
    [(32, 32_768), (64, 57_344), (80, 46_080), (96, 54_272), (128, 70_656)];

fn tensor_cores(name: &str, size: usize) -> (String, usize) {
    let fits = TENSOR_CORES.iter().find(|(largest, _)| size <= *largest);
    let (largest, shared) = fits.expect("a size that there is");
    (format!("attention_{name}_{largest}"), *shared)
}

impl AttentionType for bf16 {
    const ERROR: f32 = 0.02;
    const ROWS: usize = 128;
    fn kernel(size: usize) -> (String, usize) {
        tensor_cores("bf16", size)
    }
}

impl AttentionType for f16 {
    const ERROR: f32 = 0.0025;
    const ROWS: usize = 128;
    fn kernel(size: usize) -> (String, usize) {
        tensor_cores("f16", size)
    }
}

impl AttentionType for f32 {
    const ERROR: f32 = 4e-6;
    const ROWS: usize = 16;
    fn kernel(size: usize) -> (String, usize) {
        let stride = 4 * (size.div_ceil(4) | 1);
        ("attention_f32".to_owned(), 4 * (80 * stride + 512))
    }
}

/// A sequence's rows in the batch, from a position on, and the spans of all its keys.
struct Sequence {
    rows: Range<usize>,
    position: usize,
    spans: Vec<Span>,
}

impl Sequence {
    fn length(&self) -> usize {
        self.spans.iter().map(|span| span.rows as usize).sum()
    }

    /// Blocks of at most `size` rows, the first of at most `first`; their spans begin at
    /// `first_span`.
    fn blocks(&self, first_span: usize, first: usize, size: usize) -> Vec<Block> {
        let mut blocks = Vec::new();
        let (mut row, mut next) = (self.rows.start, first);
        while row < self.rows.end {
            let rows = next.min(self.rows.end - row);
            blocks.push(Block {
                row: row as i32,
                rows: rows as i32,
                position: (self.position + row - self.rows.start) as i32,
                first_span: first_span as i32,
                spans: self.spans.len() as i32,
                length: self.length() as i32,
            });
            (row, next) = (row + rows, size);
        }
        blocks
    }
}

/// Some rows of a batch as a span; or, if `keys` is 0, rows of keys and values alone.
fn span<T: Float>(rows: &Buffer<T>, width: usize, keys: usize, range: Range<usize>) -> Span {
    Span {
        address: rows.address_of(range.start * width + keys),
        stride: width as i32,
        rows: range.len() as i32,
    }
}

/// Rows of the batch itself as a span.
fn own(range: Range<usize>) -> Span {
    Span { address: range.start as u64, stride: 0, rows: range.len() as i32 }
}

/// What is computed, besides the values.
#[derive(Debug, Clone, Copy)]
struct Case {
    heads: Heads,
    mask: Mask,
    /// Rows of a sequence's first block, and of the others.
    blocks: [usize; 2],
    seed: u64,
}

impl Case {
    fn new<T: AttentionType>(heads: Heads, mask: Mask) -> Self {
        Self { heads, mask, blocks: [T::ROWS; 2], seed: 1 }
    }
}

fn run<T: AttentionType>(
    qkv: &Buffer<T>,
    rows: usize,
    case: Case,
    sequences: &[Sequence],
) -> Vec<f32> {
    let Heads { heads, kv_heads, size } = case.heads;
    let (mut blocks, mut spans) = (Vec::new(), Vec::new());
    for sequence in sequences {
        blocks.extend(sequence.blocks(spans.len(), case.blocks[0], case.blocks[1]));
        spans.extend_from_slice(&sequence.spans);
    }
    let count = blocks.len();
    let (blocks, spans) = (Buffer::of(&blocks), Buffer::of(&spans));
    let mut out = unwritten::<T>(rows * heads * size);
    let (mask, window) = match case.mask {
        Mask::Full => (0, 0),
        Mask::Causal => (1, 0),
        Mask::Window(reach) => (2, reach),
        Mask::CausalWindow(reach) => (3, reach),
    };
    let mut args = vec![read(qkv), read(&blocks), read(&spans)];
    args.extend([case.heads.row(), heads, kv_heads, size, mask, window].map(int));
    args.push(write(&mut out));
    let (name, shared) = T::kernel(size);
    launch_with(&name, [count * heads, 1], 128, (shared, case.seed), &args);
    widened(&out)
}

/// Attention of whole sequences laid end to end.
fn run_whole<T: AttentionType>(qkv: &[f32], offsets: &[usize], case: Case) -> Vec<f32> {
    let buffer = stored::<T>(qkv);
    let sequence = |pair: &[usize]| Sequence {
        rows: pair[0]..pair[1],
        position: 0,
        spans: vec![own(pair[0]..pair[1])],
    };
    let sequences: Vec<Sequence> = offsets.windows(2).map(sequence).collect();
    run(&buffer, offsets[offsets.len() - 1], case, &sequences)
}

const MASKS: [Mask; 5] =
    [Mask::Full, Mask::Causal, Mask::Window(5), Mask::Window(64), Mask::CausalWindow(20)];

fn is_close_at<T: AttentionType>(sizes: &[usize], lengths: &[usize]) {
    let mut offsets = vec![0];
    lengths.iter().for_each(|length| offsets.push(offsets[offsets.len() - 1] + length));
    for size in sizes {
        let [heads, kv_heads] = if size % 32 == 0 { [4, 2] } else { [3, 1] };
        let heads = Heads { heads, kv_heads, size: *size };
        let qkv =
            rounded::<T>(&random_values(offsets[offsets.len() - 1] * heads.row(), *size as u32));
        for mask in MASKS {
            let tensor = matrix(&qkv, heads.row());
            let expected = reference::attention::attention(
                &tensor,
                heads,
                Sequences { segments: &segments_of(&offsets), cached: &[] },
                mask,
            )
            .expect("attention");
            let got = run_whole::<T>(&qkv, &offsets, Case::new::<T>(heads, mask));
            let what = format!("{} {heads:?} {mask:?}", T::NAME);
            assert_close(&got, &values_of(&expected), [T::UNIT, T::ERROR], &what);
        }
    }
}

#[test]
fn bfloat16_is_close_to_the_definition() {
    let lengths = [1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 97, 130, 257];
    is_close_at::<bf16>(&[32, 64, 72, 80, 96, 128], &lengths);
}

#[test]
fn half_is_close_to_the_definition() {
    is_close_at::<f16>(&[8, 32, 64, 72, 80, 96, 128], &[1, 16, 17, 33, 64, 129]);
}

#[test]
fn float32_is_close_to_the_definition() {
    let lengths = [1, 15, 16, 17, 31, 32, 33, 100];
    is_close_at::<f32>(&[3, 30, 32, 64, 72, 128, 256], &lengths);
}

/// Sequences that share a cached and a computed prefix of odd lengths, against the plain form.
fn shares_prefixes<T: AttentionType>(size: usize) {
    let heads = Heads { heads: 4, kv_heads: 2, size };
    let (width, keys) = (heads.row(), heads.heads * size);
    let (cached_rows, trunk, leaves) = (37, 75, [1usize, 21, 66]);
    let total = trunk + leaves.iter().sum::<usize>();
    let cached = rounded::<T>(&random_values(cached_rows * (width - keys), 1));
    let qkv = rounded::<T>(&random_values(total * width, 2));
    let (cached_buffer, buffer) = (stored::<T>(&cached), stored::<T>(&qkv));

    let mut segments =
        vec![Segment { rows: 0..trunk, start: cached_rows, ancestors: vec![Ancestor::Cached(0)] }];
    let mut first = trunk;
    for leaf in leaves {
        let ancestors = vec![Ancestor::Cached(0), Ancestor::Batch(0..trunk)];
        segments.push(Segment { rows: first..first + leaf, start: cached_rows + trunk, ancestors });
        first += leaf;
    }
    let sequence = |segment: &Segment| {
        let before = segment.ancestors.iter().map(|source| match source {
            Ancestor::Cached(_) => span(&cached_buffer, width - keys, 0, 0..cached_rows),
            Ancestor::Batch(rows) => own(rows.clone()),
        });
        let spans = before.chain([own(segment.rows.clone())]).collect();
        Sequence { rows: segment.rows.clone(), position: segment.start, spans }
    };
    let sequences: Vec<Sequence> = segments.iter().map(sequence).collect();
    let case = Case::new::<T>(heads, Mask::Causal);
    let got = run::<T>(&buffer, total, case, &sequences);
    let (tensor, cached_tensor) = (matrix(&qkv, width), matrix(&cached, width - keys));
    let expected = reference::attention::attention(
        &tensor,
        heads,
        Sequences { segments: &segments, cached: &[&cached_tensor] },
        Mask::Causal,
    )
    .expect("attention");
    let what = format!("{} of {size}", T::NAME);
    assert_close(&got, &values_of(&expected), [T::UNIT, T::ERROR], &what);

    // Each as a sequence of its own, whose first rows are the prefix.
    for segment in &segments[1..] {
        let mut whole: Vec<f32> = Vec::new();
        for row in cached.chunks_exact(width - keys) {
            whole.extend(std::iter::repeat_n(0.5, keys).chain(row.iter().copied()));
        }
        whole.extend_from_slice(&qkv[..trunk * width]);
        whole.extend_from_slice(&qkv[segment.rows.start * width..segment.rows.end * width]);
        let alone = run_whole::<T>(&whole, &[0, whole.len() / width], case);
        let trunk_rows = cached_rows * keys..(cached_rows + trunk) * keys;
        assert!(same(&alone[trunk_rows.clone()], &got[..trunk * keys]), "{what}: the trunk");
        let leaf = &got[segment.rows.start * keys..segment.rows.end * keys];
        assert!(same(&alone[trunk_rows.end..], leaf), "{what}: {segment:?}");
    }
}

#[test]
fn shared_prefixes_give_the_bits_of_whole_sequences() {
    shares_prefixes::<bf16>(64);
    shares_prefixes::<bf16>(128);
    shares_prefixes::<f16>(72);
    shares_prefixes::<f32>(48);
}

/// Varies the spans of keys, the block boundaries, the order of threads, and the other sequences.
fn bits_do_not_depend_on_the_layout<T: AttentionType>(size: usize) {
    let heads = Heads { heads: 2, kv_heads: 1, size };
    let (width, keys, length) = (heads.row(), 2 * size, 150);
    let qkv = rounded::<T>(&random_values(length * width, 3));
    for mask in MASKS {
        let case = Case::new::<T>(heads, mask);
        let expected = run_whole::<T>(&qkv, &[0, length], case);
        for cuts in [vec![1, 2, 65], vec![63], vec![31, 64, 97, 149], (1..length).collect()] {
            // The batch also has other rows, followed by the pieces in reverse order.
            let mut batch = qkv.clone();
            batch.extend(random_values(7 * width, 4));
            let bounds: Vec<usize> = [0].into_iter().chain(cuts).chain([length]).collect();
            let first = batch.len() / width;
            for pair in bounds.windows(2).rev() {
                batch.extend_from_slice(&qkv[pair[0] * width..pair[1] * width]);
            }
            let buffer = stored::<T>(&batch);
            let span_of = |pair: &[usize]| {
                let start = first + length - pair[1];
                span(&buffer, width, keys, start..start + pair[1] - pair[0])
            };
            let spans = bounds.windows(2).map(span_of).collect();
            let sequences = [Sequence { rows: 0..length, position: 0, spans }];
            for (blocks, seed) in [([T::ROWS; 2], 2), ([5, T::ROWS - 3], 3)] {
                let case = Case { blocks, seed, ..case };
                let got = run::<T>(&buffer, length, case, &sequences);
                assert!(same(&got, &expected), "{} {size} {case:?} {bounds:?}", T::NAME);
            }
        }
        // Between sequences that contain NaN.
        let bad = vec![f32::NAN; 20 * width];
        let among = [bad.as_slice(), &qkv, &bad].concat();
        let got = run_whole::<T>(&among, &[0, 20, 20 + length, 40 + length], case);
        assert!(same(&got[20 * keys..(20 + length) * keys], &expected), "{mask:?}");
        assert!(got[..20 * keys].iter().all(|number| number.is_nan()));
    }
}

#[test]
fn bits_do_not_depend_on_segments_blocks_or_company() {
    bits_do_not_depend_on_the_layout::<bf16>(64);
    bits_do_not_depend_on_the_layout::<f16>(128);
    bits_do_not_depend_on_the_layout::<f32>(24);
}

#[test]
fn a_causal_row_has_the_same_bits_whatever_follows() {
    let heads = Heads { heads: 2, kv_heads: 1, size: 128 };
    let (qkv, keys) = (random_values(140 * heads.row(), 5), 256);
    let case = Case::new::<bf16>(heads, Mask::Causal);
    let long = run_whole::<bf16>(&qkv, &[0, 140], case);
    for length in [1, 15, 16, 33, 64, 65, 139] {
        let short = run_whole::<bf16>(&qkv[..length * heads.row()], &[0, length], case);
        assert!(same(&short, &long[..length * keys]), "{length}");
    }
}

#[test]
fn a_query_that_is_not_finite_is_seen_in_its_row_alone() {
    let heads = Heads { heads: 2, kv_heads: 1, size: 64 };
    let clean = random_values(70 * heads.row(), 6);
    let case = Case::new::<bf16>(heads, Mask::Causal);
    let expected = run_whole::<bf16>(&clean, &[0, 70], case);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut qkv = clean.clone();
        // The second head of row 20.
        qkv[20 * heads.row() + 64 + 3] = bad;
        let got = run_whole::<bf16>(&qkv, &[0, 70], case);
        let start = 20 * 128 + 64;
        assert!(got[start..start + 64].iter().all(|number| number.is_nan()), "{bad}");
        assert!(same(&got[..start], &expected[..start]), "{bad}");
        assert!(same(&got[start + 64..], &expected[start + 64..]), "{bad}");
    }
}

#[test]
fn a_key_or_value_that_is_not_finite_is_seen_in_its_sequence_alone() {
    let heads = Heads { heads: 2, kv_heads: 1, size: 64 };
    let clean = random_values(90 * heads.row(), 7);
    let offsets = [0, 30, 60, 90];
    let case = Case::new::<f16>(heads, Mask::Full);
    let expected = run_whole::<f16>(&clean, &offsets, case);
    for part in [2, 3] {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut qkv = clean.clone();
            qkv[45 * heads.row() + part * heads.size] = bad;
            let got = run_whole::<f16>(&qkv, &offsets, case);
            let third = got.len() / 3;
            assert!(same(&got[..third], &expected[..third]));
            assert!(same(&got[2 * third..], &expected[2 * third..]));
            let rows = got[third..2 * third].chunks_exact(128);
            let seen = rows.filter(|row| row.iter().any(|number| !number.is_finite())).count();
            // A key with infinity may have a score of -infinity, and so a weight of 0.
            let all = if bad.is_nan() || part == 3 { 30 } else { 1 };
            assert!(seen >= all, "{part} {bad}: {seen} rows");
        }
    }
}

#[test]
fn large_scores_do_not_overflow() {
    let heads = Heads { heads: 1, kv_heads: 1, size: 32 };
    let qkv: Vec<f32> =
        random_values(100 * heads.row(), 8).iter().map(|value| value * 100.0).collect();
    for mask in MASKS {
        let got = run_whole::<bf16>(&qkv, &[0, 100], Case::new::<bf16>(heads, mask));
        assert!(got.iter().all(|number| number.abs() <= 201.0));
        let got = run_whole::<f32>(&qkv, &[0, 100], Case::new::<f32>(heads, mask));
        assert!(got.iter().all(|number| number.abs() <= 200.1));
    }
}
