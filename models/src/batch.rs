//! The only model interface: sequences laid end to end go in, hidden states come out. Nothing is
//! ever padded, and causal sequences with a common prefix may share its rows.
//!
//! Must not know: tokenizers, requests, readouts.

mod parts;
mod prefix;
mod trie;
mod visual;

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use proxima_kernels::ops::rows::Rows;
use proxima_kernels::spec::{Ancestor, Segment, segments_of};
use proxima_kernels::{Device, KernelError, Tensor};

pub use parts::{BatchPart, InParts};
pub use prefix::{Prefix, PrefixCollector};
pub use visual::Visual;

/// Token ids of one input, template applied and within limits, with its images.
///
/// Two are equal if their ids and the way they are read are equal; images are compared by their
/// ids.
#[derive(Debug, Clone, Default)]
pub struct Sequence {
    /// Ids, special tokens included; never empty. Ids of [`visuals`](Self::visuals) lie outside the
    /// vocabulary and stand for pixels.
    pub tokens: Vec<u32>,
    /// Leading tokens that mean-like pooling leaves out (a prompt, if the checkpoint is configured
    /// so).
    pub pooling_skip: usize,
    /// Where the second of two texts begins, for networks with token types (it gets type 1).
    pub second_text: Option<usize>,
    /// Images and frames, in order of position.
    pub visuals: Vec<Visual>,
    /// Indices of the tokens whose hidden states are read, ascending; empty for all.
    pub marks: Vec<usize>,
    /// Whether the input exceeded its limit and was cut. Ignored by equality.
    pub is_cut: bool,
}

impl Sequence {
    /// Number of rows that images and frames occupy.
    pub fn visual_rows(&self) -> usize {
        self.visuals.iter().map(|visual| visual.rows().len()).sum()
    }

    /// Cost, in text rows. An image row counts twice: it also goes through the vision tower, which
    /// costs about as much as the decoder.
    pub fn work(&self) -> usize {
        self.tokens.len() + self.visual_rows()
    }

    /// Cost of the prefix it shares with another sequence.
    pub fn work_in_common(&self, other: &Self) -> usize {
        let shared = trie::common(&self.tokens, &other.tokens);
        let visual = self.tokens[..shared].iter().filter(|id| Visual::stands_for(**id)).count();
        shared + visual
    }

    /// An equal sequence that holds no pixels.
    pub fn key(&self) -> Self {
        let tokens = self.tokens.clone();
        let Self { pooling_skip, second_text, .. } = *self;
        let marks = self.marks.clone();
        Self { tokens, pooling_skip, second_text, marks, ..Self::default() }
    }

    fn parts(&self) -> (&[u32], usize, Option<usize>, &[usize]) {
        (&self.tokens, self.pooling_skip, self.second_text, &self.marks)
    }
}

impl PartialEq for Sequence {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Sequence {}

impl Hash for Sequence {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

/// Sequences laid out as rows, one per token; they may share the rows of a prefix.
#[derive(Debug, Clone)]
pub struct RaggedBatch {
    tokens: Vec<u32>,
    segments: Vec<Segment>,
    /// Row of each sequence's last token.
    ends: Vec<usize>,
    /// As [`Sequence::second_text`], per sequence; empty if sequences share rows.
    second_texts: Vec<Option<usize>>,
    pooling_skips: Vec<usize>,
    shares: bool,
    cached: Vec<Arc<Prefix>>,
    to_cache: Vec<SegmentToCache>,
    visuals: Vec<Visual>,
    /// M-RoPE positions (time, height, width) of each row; empty if no sequence has an image.
    mrope_positions: Vec<[u32; 3]>,
    /// The rows that are read, if not all are.
    marked: Option<MarkedRows>,
}

/// The rows of a batch whose hidden states are read.
#[derive(Debug, Clone)]
struct MarkedRows {
    rows: Vec<usize>,
    /// Start of each sequence in `rows`, then their number.
    offsets: Vec<usize>,
}

impl MarkedRows {
    /// `None` if no sequence has marks.
    fn of(sequences: &[&Sequence]) -> Option<Self> {
        if sequences.iter().all(|sequence| sequence.marks.is_empty()) {
            return None;
        }
        let (mut start, mut rows, mut offsets) = (0, Vec::new(), vec![0]);
        for sequence in sequences {
            match &sequence.marks[..] {
                [] => rows.extend(start..start + sequence.tokens.len()),
                marks => rows.extend(marks.iter().map(|mark| start + mark)),
            }
            offsets.push(rows.len());
            start += sequence.tokens.len();
        }
        Some(Self { rows, offsets })
    }
}

/// A segment whose KV is cached for reuse as a prefix.
#[derive(Debug, Clone)]
struct SegmentToCache {
    segment: usize,
    /// All tokens from the sequence's start to the segment's end.
    tokens: Vec<u32>,
    parent: Option<Parent>,
}

/// What a segment continues.
#[derive(Debug, Clone)]
enum Parent {
    /// A segment of the same batch.
    Segment(usize),
    /// A prefix cached from an earlier batch.
    Cached(Arc<Prefix>),
}

impl RaggedBatch {
    /// Lays sequences end to end, in order, sharing nothing.
    ///
    /// # Panics
    /// If there is no sequence or one is empty; recipes never produce such input.
    pub fn new<'a>(sequences: impl IntoIterator<Item = &'a Sequence>) -> Self {
        let sequences: Vec<&Sequence> = sequences.into_iter().collect();
        let marked = MarkedRows::of(&sequences);
        let (mut tokens, mut offsets) = (Vec::new(), vec![0]);
        let (mut pooling_skips, mut second_texts) = (Vec::new(), Vec::new());
        let mut images = visual::Gathered::default();
        for sequence in sequences {
            assert!(!sequence.tokens.is_empty(), "a sequence has at least one token");
            images.add(sequence, 0..sequence.tokens.len());
            tokens.extend_from_slice(&sequence.tokens);
            offsets.push(tokens.len());
            pooling_skips.push(sequence.pooling_skip);
            second_texts.push(sequence.second_text);
        }
        assert!(offsets.len() > 1, "a batch has at least one sequence");
        let (visuals, mrope_positions) = images.finish();
        Self {
            tokens,
            segments: segments_of(&offsets),
            ends: offsets[1..].iter().map(|end| end - 1).collect(),
            second_texts,
            pooling_skips,
            shares: false,
            cached: Vec::new(),
            to_cache: Vec::new(),
            visuals,
            mrope_positions,
            marked,
        }
    }

    /// Lays out sequences of a causal network with last-token pooling: shared prefixes are laid out
    /// once, and prefixes that `find` has cached from earlier batches not at all.
    ///
    /// `recent` holds sequences of earlier batches. Prefixes shared with one of them, or among the
    /// sequences, are cached for later batches ([`HiddenStates::prefixes`]). `find` returns the
    /// longest cached prefix of the given tokens.
    ///
    /// # Panics
    /// If there is no sequence or one is empty.
    pub fn sharing(
        sequences: &[&Sequence],
        recent: &[Arc<[u32]>],
        find: impl FnMut(&[u32]) -> Option<Arc<Prefix>>,
    ) -> Self {
        trie::lay_out(sequences, recent, find)
    }

    /// All token ids, one per row.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// How rows form sequences.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Number of sequences.
    pub fn n_sequences(&self) -> usize {
        self.ends.len()
    }

    /// Position of each row within its sequence.
    pub fn positions(&self) -> Vec<u32> {
        let segments = self.segments.iter();
        segments
            .flat_map(|segment| segment.start as u32..(segment.start + segment.rows.len()) as u32)
            .collect()
    }

    /// Its images and groups of frames.
    pub fn visuals(&self) -> &[Visual] {
        &self.visuals
    }

    /// M-RoPE positions of each row (time, height, width); `None` if no sequence has an image, so
    /// that all three equal [`positions`](Self::positions).
    pub fn mrope_positions(&self) -> Option<&[[u32; 3]]> {
        (!self.mrope_positions.is_empty()).then_some(&self.mrope_positions[..])
    }

    /// A key for its layout: batches with equal keys differ only in the inputs of their rows (ids,
    /// token types). `None` if it has images or marks, or reads or fills the prefix cache.
    pub fn layout(&self) -> Option<Vec<u32>> {
        let plain = self.visuals.is_empty() && self.marked.is_none();
        if !(plain && self.cached.is_empty() && self.to_cache.is_empty()) {
            return None;
        }
        let mut layout = Vec::with_capacity(3 * self.segments.len());
        for segment in &self.segments {
            layout.extend(
                [segment.start, segment.rows.len(), segment.ancestors.len()]
                    .map(|value| value as u32),
            );
            for source in &segment.ancestors {
                let Ancestor::Batch(rows) = source else { return None };
                layout.extend([rows.start, rows.len()].map(|value| value as u32));
            }
        }
        Some(layout)
    }

    /// Each row's token type: 1 in the second of two texts, else 0.
    pub fn token_types(&self) -> Vec<u32> {
        let sequences = self.segments.iter().zip(&self.second_texts);
        let types = sequences.flat_map(|(segment, second)| {
            let second = second.unwrap_or(segment.rows.len());
            (0..segment.rows.len()).map(move |row| u32::from(row >= second))
        });
        types.collect()
    }

    /// Cached keys and values of a layer that rows of this batch attend to.
    pub fn cached(&self, layer: usize) -> Vec<&Tensor> {
        self.cached.iter().map(|prefix| prefix.layer(layer)).collect()
    }
}

/// The network's last hidden states, final norm applied.
#[derive(Debug, Clone)]
pub struct HiddenStates {
    /// `[n_rows, width]`, float32, contiguous: one row per token; of a sequence with marks, one per
    /// mark; for a batch that shares rows, only the last token of each sequence.
    pub rows: Tensor,
    /// Start of each sequence in `rows`, then the total number of rows.
    pub offsets: Vec<usize>,
    /// Rows that mean-like pooling leaves out, per sequence.
    pub pooling_skips: Vec<usize>,
    /// Prefixes that later batches may continue.
    pub prefixes: Vec<Arc<Prefix>>,
}

impl HiddenStates {
    /// Hidden states on the CPU from a plain vector (row-major `[n_rows, width]`), laid out as
    /// `batch`.
    ///
    /// # Errors
    /// If the length does not match the batch.
    pub fn from_rows(
        rows: Vec<f32>,
        width: usize,
        batch: &RaggedBatch,
    ) -> Result<Self, KernelError> {
        let rows = Tensor::from_vec(rows, (batch.tokens.len(), width), &Device::Cpu)?;
        Self::new(&Rows::of(&rows)?, batch)
    }

    /// Hidden states of `batch` from all of its rows; if it shares rows, only those of last tokens
    /// are kept.
    ///
    /// # Errors
    /// A device failure.
    pub fn new(rows: &Rows, batch: &RaggedBatch) -> Result<Self, KernelError> {
        if let Some(MarkedRows { rows: marked, offsets }) = &batch.marked {
            let (offsets, pooling_skips) = (offsets.clone(), batch.pooling_skips.clone());
            let rows = rows.select(marked)?;
            return Ok(Self { rows, offsets, pooling_skips, prefixes: Vec::new() });
        }
        if !batch.shares {
            let ends = batch.segments.iter().map(|segment| segment.rows.end);
            let offsets = std::iter::once(0).chain(ends).collect();
            let pooling_skips = batch.pooling_skips.clone();
            return Ok(Self { rows: rows.tensor()?, offsets, pooling_skips, prefixes: Vec::new() });
        }
        let (rows, count) = (rows.select(&batch.ends)?, batch.ends.len());
        let (offsets, pooling_skips) = ((0..=count).collect(), vec![0; count]);
        Ok(Self { rows, offsets, pooling_skips, prefixes: Vec::new() })
    }
}

/// A network: computes the hidden states of every token of a batch.
///
/// Implementations are batch invariant: the rows of a sequence are bit-identical whatever else is
/// in the batch.
pub trait Encoder: Send + Sync {
    /// Runs the network. Calls `pause` between layers and between the parts of a layer; in it the
    /// caller may run another batch.
    ///
    /// # Errors
    /// A failure of the device or an operation; the caller fails the batch and carries on.
    fn run(&self, batch: &RaggedBatch, pause: &dyn Fn()) -> Result<HiddenStates, KernelError>;

    /// Runs the network without a pause.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    fn encode(&self, batch: &RaggedBatch) -> Result<HiddenStates, KernelError> {
        self.run(batch, &|| {})
    }

    /// Whether a token attends only to itself and earlier ones, so that sequences can share the
    /// rows of a common prefix.
    fn is_causal(&self) -> bool {
        false
    }
}
