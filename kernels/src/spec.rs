//! Vocabulary shared by CPU kernels, GPU kernels and models: which operation is meant, and how rows
//! form sequences.
//!
//! Must not know: how anything is computed.

use std::ops::Range;

use candle_core::Tensor;

/// The precision of linear layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// Weights as stored, float32 inputs, float32 sums. With AMX, weights stored as float32 or IEEE
    /// half, and the inputs they meet, are each split into a sum of two bfloat16 values: the error
    /// is about 2^-16 of the products, not float32's 2^-24.
    Float32,
    /// Weights and inputs rounded to bfloat16, float32 sums. On CPUs that cannot multiply bfloat16,
    /// inputs stay float32.
    Bfloat16,
    /// Weights rounded to IEEE half, float32 inputs. With AMX it equals [`Self::Float32`] with
    /// float32 weights: no rounding to half, and 4 bytes per weight.
    Float16,
    /// Weights and inputs rounded to 8 bits, with a scale per weight column and per input row;
    /// exact sums.
    Int8,
}

impl Precision {
    /// Its name in configuration files and responses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Bfloat16 => "bfloat16",
            Self::Float16 => "float16",
            Self::Int8 => "int8",
        }
    }
}

/// An elementwise activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x/2 (1 + erf(x/sqrt 2))`
    Gelu,
    /// GELU's tanh form.
    GeluTanh,
    /// `x / (1 + e^-x)`
    Silu,
    /// `max(x, 0)`
    Relu,
    /// `tanh x`
    Tanh,
}

/// Which keys a query sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mask {
    /// Every key of its sequence.
    Full,
    /// Its own and all earlier ones.
    Causal,
    /// Those at most this many positions away, on either side.
    Window(usize),
    /// Its own key and at most this many before it.
    CausalWindow(usize),
}

impl Mask {
    /// Whether no query sees later keys, so that sequences may share a prefix.
    #[inline]
    pub fn is_causal(self) -> bool {
        matches!(self, Self::Causal | Self::CausalWindow(_))
    }

    /// The keys that the query at `position` sees in a sequence of `length`.
    #[inline]
    pub fn keys(self, position: usize, length: usize) -> Range<usize> {
        match self {
            Self::Full => 0..length,
            Self::Causal => 0..position + 1,
            Self::Window(reach) => {
                position.saturating_sub(reach)..length.min(position.saturating_add(reach + 1))
            }
            Self::CausalWindow(reach) => position.saturating_sub(reach)..position + 1,
        }
    }
}

/// A bias of attention's scores by the position of a key relative to the query,
/// such as a bucketed relative bias (T5, MPNet) or ALiBi (Press et al., 2022).
#[derive(Debug)]
pub struct PositionBias {
    /// `[heads, 2 * reach + 1]` in float32: the biases of keys from `reach` positions before the
    /// query to `reach` after it.
    pub table: Tensor,
    /// Sequences may be up to `reach + 1` long.
    pub reach: usize,
}

/// A point of a grid next to an interpolated one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Corner {
    /// Its row in the table of the grid's points.
    pub row: u32,
    /// Its weight in the interpolation.
    pub weight: f32,
}

/// Which bucket the position of one token relative to another falls into.
#[derive(Debug)]
pub struct OffsetBuckets {
    of_offsets: Vec<u32>,
    /// `consecutive[i]`: how many offsets from `i` on have buckets that increase by one.
    consecutive: Vec<u32>,
    count: usize,
    reach: usize,
}

impl OffsetBuckets {
    /// From the buckets of tokens from `reach` positions before another token to `reach` after it,
    /// for sequences of up to `reach + 1`.
    ///
    /// # Panics
    /// If their number is even, or a bucket is not below `count`.
    pub fn new(of_offsets: Vec<u32>, count: usize) -> Self {
        assert!(of_offsets.len() % 2 == 1, "as many before as after");
        assert!(of_offsets.iter().all(|bucket| (*bucket as usize) < count), "buckets in range");
        let mut consecutive = vec![1; of_offsets.len()];
        for index in (1..of_offsets.len()).rev() {
            if of_offsets[index] == of_offsets[index - 1] + 1 {
                consecutive[index - 1] = consecutive[index] + 1;
            }
        }
        let reach = of_offsets.len() / 2;
        Self { of_offsets, consecutive, count, reach }
    }

    /// `[2 * reach + 1]`: the bucket of each offset.
    pub fn of_offsets(&self) -> &[u32] {
        &self.of_offsets
    }

    /// For each offset, how many offsets from it on have buckets that increase by one.
    #[inline]
    pub(crate) fn consecutive(&self) -> &[u32] {
        &self.consecutive
    }

    /// Number of buckets.
    #[inline]
    pub fn count(&self) -> usize {
        self.count
    }

    /// The largest offset.
    #[inline]
    pub fn reach(&self) -> usize {
        self.reach
    }
}

/// A bias of attention's scores by token and relative position (DeBERTa's disentangled attention,
/// He et al., 2021): for the query `i` and the key `j` of a sequence, `queries[i]` at the bucket of
/// `j - i` plus `keys[j]` at the bucket of `i - j`. The product of query and key is one term of
/// three, so it is scaled by `1/sqrt(3 * size)`.
#[derive(Debug)]
pub struct TokenBias<'a> {
    /// For each head, `[n_rows, buckets]` in float32: the terms of queries, scaled.
    pub queries: Vec<Tensor>,
    /// The same for keys.
    pub keys: Vec<Tensor>,
    /// The buckets of relative positions.
    pub buckets: &'a OffsetBuckets,
}

/// What is added to attention's scores.
#[derive(Debug, Clone, Copy)]
pub enum ScoreBias<'a> {
    /// By relative position alone.
    Table(&'a PositionBias),
    /// By token and relative position; not for sequences that share rows.
    Tokens(&'a TokenBias<'a>),
}

impl ScoreBias<'_> {
    /// Number of terms of a score that share its scale.
    pub(crate) fn terms(self) -> usize {
        match self {
            Self::Table(_) => 1,
            Self::Tokens(_) => 3,
        }
    }
}

/// What attention does with scores before the softmax, after scaling them.
#[derive(Debug, Clone, Copy)]
pub struct Scoring<'a> {
    /// Which keys a query sees.
    pub mask: Mask,
    /// What is added to the scores.
    pub bias: Option<ScoreBias<'a>>,
}

impl From<Mask> for Scoring<'_> {
    fn from(mask: Mask) -> Self {
        Self { mask, bias: None }
    }
}

/// Layout of a row of queries, keys and values: `heads * size` elements of queries, then
/// `kv_heads * size` of keys, then `kv_heads * size` of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Query heads; a multiple of `kv_heads`.
    pub heads: usize,
    /// Key and value heads; each is shared by `heads / kv_heads` consecutive query heads.
    pub kv_heads: usize,
    /// Elements in a head.
    pub size: usize,
}

impl Heads {
    /// Elements in a row of queries, keys and values.
    #[inline]
    pub fn row(self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.size
    }
}

/// RMS norms of each query head and each key head; weights are `[size]`.
#[derive(Debug)]
pub struct HeadNorms {
    /// Weights for query heads.
    pub queries: Tensor,
    /// Weights for key heads.
    pub keys: Tensor,
    /// Epsilon for both.
    pub eps: f32,
}

/// Consecutive rows of a sequence. Sequences that share a prefix share its segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its rows in the batch; never empty.
    pub rows: Range<usize>,
    /// Position of its first row in its sequence: the number of rows in `ancestors`.
    pub start: usize,
    /// The rows before it in its sequence, in order. Empty unless the mask is causal.
    pub ancestors: Vec<Ancestor>,
}

/// Where the rows that precede a segment are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ancestor {
    /// In the same batch.
    Batch(Range<usize>),
    /// All rows of a part cached from an earlier batch, by index into the list of cached tensors.
    Cached(usize),
}

/// The sequences of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Sequences<'a> {
    /// How the batch's rows form sequences.
    pub segments: &'a [Segment],
    /// Keys and values of earlier batches, `[n, 2 * kv_heads * size]` each.
    pub cached: &'a [&'a Tensor],
}

impl<'a> From<&'a [Segment]> for Sequences<'a> {
    /// Sequences without cached parts.
    fn from(segments: &'a [Segment]) -> Self {
        Self { segments, cached: &[] }
    }
}

/// One segment per sequence; sequences lie end to end, bounded by `offsets`.
pub fn segments_of(offsets: &[usize]) -> Vec<Segment> {
    let segment =
        |pair: &[usize]| Segment { rows: pair[0]..pair[1], start: 0, ancestors: Vec::new() };
    offsets.windows(2).map(segment).collect()
}

/// How a sequence's rows become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The first token.
    Cls,
    /// The mean of all tokens.
    Mean,
    /// The last token.
    Last,
    /// The componentwise maximum.
    Max,
    /// The mean weighted by position (1, 2, 3, ...), Muennighoff, SGPT, 2022.
    WeightedMean,
    /// The sum divided by the square root of the number of tokens.
    MeanSqrtLength,
}

impl Pooling {
    /// Every method.
    pub const ALL: [Self; 6] =
        [Self::Cls, Self::Mean, Self::Last, Self::Max, Self::WeightedMean, Self::MeanSqrtLength];

    /// Its name in external formats (`cls`, `mean`, `last_token`, ...).
    pub fn name(self) -> &'static str {
        match self {
            Self::Cls => "cls",
            Self::Mean => "mean",
            Self::Last => "last_token",
            Self::Max => "max",
            Self::WeightedMean => "weighted_mean",
            Self::MeanSqrtLength => "mean_sqrt_len",
        }
    }
}
