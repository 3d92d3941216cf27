//! What CPU, GPUs and models say alike: which operation is meant, and how rows belong together.
//!
//! Must not know: how anything is computed.

use std::ops::Range;

use candle_core::Tensor;

/// How exactly linear layers multiply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// Weights as they are stored, float32 inputs, float32 sums. Where the CPU multiplies tiles
    /// (AMX), weights that are stored in float32 or IEEE half, and inputs with them, are each the
    /// sum of two bfloat16 numbers: errors of about 2^-16 of the products, not float32's 2^-24.
    Float32,
    /// Weights and inputs rounded to bfloat16, float32 sums. Where the CPU cannot multiply
    /// bfloat16 numbers, inputs stay float32.
    Bfloat16,
    /// Weights rounded to IEEE half, float32 inputs. Where the CPU multiplies tiles (AMX), it is
    /// [`Self::Float32`] of weights in float32: no rounding to half, and 4 bytes a weight.
    Float16,
    /// Weights and inputs rounded to 8 bits, weights with a scale a column and inputs with a
    /// scale a row; exact sums.
    Int8,
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

/// Norms of the heads of queries and keys, weights `[size]` each.
#[derive(Debug)]
pub struct HeadNorms {
    /// Of queries.
    pub queries: Tensor,
    /// Of keys.
    pub keys: Tensor,
    /// Epsilon of both.
    pub eps: f32,
}

/// Rows that follow each other in one sequence or, if several begin with them, in each of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its rows in the batch; never empty.
    pub rows: Range<usize>,
    /// Position of its first row in its sequence: the number of rows `before`.
    pub start: usize,
    /// What lies before it in its sequence, in order. Empty where the mask is not causal.
    pub ancestors: Vec<Ancestor>,
}

/// Where rows before a segment are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ancestor {
    /// In the same batch.
    Batch(Range<usize>),
    /// All rows of a part cached from an earlier batch, by its place in [`Layout::cached`].
    Cached(usize),
}

/// One segment a sequence, laid end to end at `offsets`.
pub fn segments_of(offsets: &[usize]) -> Vec<Segment> {
    let segment =
        |pair: &[usize]| Segment { rows: pair[0]..pair[1], start: 0, ancestors: Vec::new() };
    offsets.windows(2).map(segment).collect()
}

/// Which rows of a sequence make its vector.
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

    /// Its name in outside formats (`cls`, `mean`, `last_token`, ...).
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
