//! The only model interface: sequences laid end to end go in, hidden states come out. Nothing is
//! ever padded, and causal sequences that begin alike may share those rows.
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

pub use parts::{InParts, Part};
pub use prefix::{Keeping, Prefix};
pub use visual::{Visual, VisualRows};

/// Token ids of one input, template applied, within limits, and its images.
///
/// Two are equal if their ids are (and how they are read): ids of images tell these apart.
#[derive(Debug, Clone, Default)]
pub struct Sequence {
    /// Ids, special tokens included; never empty. Those of [`visuals`](Self::visuals) are none of
    /// the vocabulary's: they stand for pixels.
    pub tokens: Vec<u32>,
    /// Tokens at the beginning that mean-like pooling leaves out (a prompt, where the checkpoint
    /// says so).
    pub pooling_skip: usize,
    /// Where the second of two texts begins, in networks that tell them apart (token type 1).
    pub second_text: Option<usize>,
    /// Images and frames, by ascending place.
    pub visuals: Vec<Visual>,
    /// Whether the input had more than its limit, and lost the rest. Two that are equal may differ
    /// in this.
    pub is_cut: bool,
}

impl Sequence {
    /// Rows that images and frames have.
    pub fn visual_rows(&self) -> usize {
        self.visuals.iter().map(Visual::rows).sum()
    }

    /// Work it is, in rows of texts: an image's rows go through a tower too, which costs about as
    /// much as the decoder.
    pub fn work(&self) -> usize {
        self.tokens.len() + self.visual_rows()
    }

    /// Work of what another begins with too.
    pub fn work_in_common(&self, other: &Self) -> usize {
        let shared = trie::common(&self.tokens, &other.tokens);
        let visual = self.tokens[..shared].iter().filter(|id| Visual::stands_for(**id)).count();
        shared + visual
    }

    /// What it is equal to, without holding pixels.
    pub fn key(&self) -> Self {
        let tokens = self.tokens.clone();
        let Self { pooling_skip, second_text, .. } = *self;
        Self { tokens, pooling_skip, second_text, ..Self::default() }
    }

    fn parts(&self) -> (&[u32], usize, Option<usize>) {
        (&self.tokens, self.pooling_skip, self.second_text)
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

/// Sequences as rows of tokens, each row computed once.
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
    keep: Vec<Keep>,
    visuals: Vec<VisualRows>,
    /// Positions of each row in time, height and width; empty if all are those of texts.
    places: Vec<[u32; 3]>,
}

/// A segment whose keys and values later batches may begin with.
#[derive(Debug, Clone)]
struct Keep {
    segment: usize,
    /// All tokens from the sequence's start to the segment's end.
    tokens: Vec<u32>,
    parent: Option<Parent>,
}

/// What a segment goes on from.
#[derive(Debug, Clone)]
enum Parent {
    /// A segment of the same batch.
    Segment(usize),
    /// Rows of an earlier batch.
    Cached(Arc<Prefix>),
}

impl RaggedBatch {
    /// Lays sequences end to end, in order, sharing nothing.
    ///
    /// # Panics
    /// If there is no sequence or one is empty: recipes never make such.
    pub fn new<'a>(sequences: impl IntoIterator<Item = &'a Sequence>) -> Self {
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
        let (visuals, places) = images.finish();
        Self {
            tokens,
            segments: segments_of(&offsets),
            ends: offsets[1..].iter().map(|end| end - 1).collect(),
            second_texts,
            pooling_skips,
            shares: false,
            cached: Vec::new(),
            keep: Vec::new(),
            visuals,
            places,
        }
    }

    /// Lays out sequences of a causal network that is read at last tokens: rows that several begin
    /// with are there once, and rows that `find` has kept from earlier batches not at all.
    ///
    /// `recent` are sequences of earlier batches; what a sequence has in common with one of them is
    /// kept for later ones, as is what sequences share ([`HiddenStates::prefixes`]). `find` gives
    /// the longest prefix it has of some tokens.
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

    /// All token ids, a row each.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// How rows belong together.
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

    /// Rows that stand for images and frames.
    pub fn visuals(&self) -> &[VisualRows] {
        &self.visuals
    }

    /// Positions of each row in time, height and width, as multimodal rotary positions have them;
    /// `None` if no sequence has an image, and all three are [`positions`](Self::positions).
    pub fn places(&self) -> Option<&[[u32; 3]]> {
        (!self.places.is_empty()).then_some(&self.places[..])
    }

    /// What tells its layout from others': two batches that have the same one differ in the numbers
    /// of their rows alone. `None` if it has images, or rows from or for other batches.
    pub fn layout(&self) -> Option<Vec<u32>> {
        if !(self.cached.is_empty() && self.keep.is_empty() && self.visuals.is_empty()) {
            return None;
        }
        let mut layout = Vec::with_capacity(3 * self.segments.len());
        for segment in &self.segments {
            layout.extend(
                [segment.start, segment.rows.len(), segment.ancestors.len()].map(|it| it as u32),
            );
            for source in &segment.ancestors {
                let Ancestor::Batch(rows) = source else { return None };
                layout.extend([rows.start, rows.len()].map(|it| it as u32));
            }
        }
        Some(layout)
    }

    /// Whether each row is of the second of two texts (token type 1).
    pub fn token_types(&self) -> Vec<u32> {
        let sequences = self.segments.iter().zip(&self.second_texts);
        let types = sequences.flat_map(|(segment, second)| {
            let second = second.unwrap_or(segment.rows.len());
            (0..segment.rows.len()).map(move |place| u32::from(place >= second))
        });
        types.collect()
    }

    /// Keys and values of a layer that rows of this batch see from earlier batches.
    pub fn cached(&self, layer: usize) -> Vec<&Tensor> {
        self.cached.iter().map(|prefix| prefix.layer(layer)).collect()
    }
}

/// The network's last hidden states, `[n_rows, width]` float32, final norm applied.
#[derive(Debug, Clone)]
pub struct HiddenStates {
    /// `[n_rows, width]`, float32, contiguous: a row a token, or the last token's row alone of each
    /// sequence of a batch that shares.
    pub rows: Tensor,
    /// Where each sequence begins in `rows`, and at the end their number.
    pub offsets: Vec<usize>,
    /// Rows left out of mean-like pooling, per sequence.
    pub pooling_skips: Vec<usize>,
    /// What later batches may begin with.
    pub prefixes: Vec<Arc<Prefix>>,
}

impl HiddenStates {
    /// Hidden states on the CPU from plain numbers (row-major `[n_rows, width]`), laid out as
    /// `batch`.
    ///
    /// # Errors
    /// If the length does not agree with the batch.
    pub fn from_rows(
        rows: Vec<f32>,
        width: usize,
        batch: &RaggedBatch,
    ) -> Result<Self, KernelError> {
        let rows = Tensor::from_vec(rows, (batch.tokens.len(), width), &Device::Cpu)?;
        Self::new(&Rows::of(&rows)?, batch)
    }

    /// Hidden states of every row of `batch`; one that shares keeps those of last tokens alone.
    ///
    /// # Errors
    /// A failure of the device.
    pub fn new(rows: &Rows, batch: &RaggedBatch) -> Result<Self, KernelError> {
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

/// A network: hidden states of every token of a batch.
///
/// Implementations are batch invariant: the rows of a sequence have the same bits whatever else is
/// in the batch.
pub trait Encoder: Send + Sync {
    /// Runs the network. Between layers and between the parts of one it calls `pause`, in which
    /// the caller may run another batch.
    ///
    /// # Errors
    /// A failure of the device or of an operation; the caller fails the batch and goes on.
    fn run(&self, batch: &RaggedBatch, pause: &dyn Fn()) -> Result<HiddenStates, KernelError>;

    /// Runs the network without a pause.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    fn encode(&self, batch: &RaggedBatch) -> Result<HiddenStates, KernelError> {
        self.run(batch, &|| {})
    }

    /// Whether a token sees only those before it, so that sequences that begin alike can share
    /// rows.
    fn is_causal(&self) -> bool {
        false
    }
}
