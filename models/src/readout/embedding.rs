//! Hidden states to one vector per sequence: the module chain of sentence-transformers, run in
//! order.
//!
//! Must not know: files, requests.

use proxima_kernels::{Device, KernelError, Tensor, l2_normalize};

use proxima_kernels::ops::linear::Linear;
use proxima_kernels::ops::pool::pool;
use proxima_kernels::ops::rows::Rows;
use proxima_kernels::spec::Activation;

use super::Pooling;
use crate::batch::HiddenStates;
use crate::layers::LayerNorm;

/// A projection (`Dense` of sentence-transformers): `activation(x W^T + b) + residual`.
#[derive(Debug)]
pub struct Dense {
    /// `[inputs] -> [width]`
    pub linear: Linear,
    /// Applied after the linear layer; `None` is the identity.
    pub activation: Option<Activation>,
    /// What is added from the input.
    pub residual: Residual,
    /// Number of output components.
    pub width: usize,
}

/// What a projection adds from its input.
#[derive(Debug)]
pub enum Residual {
    /// Nothing.
    None,
    /// The input.
    Input,
    /// The input times a matrix, `[inputs] -> [width]`.
    Projected(Linear),
}

impl Dense {
    /// Projects each row: `[n, inputs] -> [n, width]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor, KernelError> {
        // Earlier steps may have run on another device.
        let x = x.to_device(self.linear.device())?;
        let residual = match &self.residual {
            Residual::None => None,
            Residual::Input => Some(Rows::of(&x)?),
            Residual::Projected(linear) => Some(Rows::of(&linear.forward(&x)?)?),
        };
        self.linear.forward_with(&x, self.activation, residual.as_ref())
    }
}

/// One step from hidden states to a vector.
#[derive(Debug)]
pub enum EmbeddingStep {
    /// A projection.
    Dense(Box<Dense>),
    /// Scaling to unit length; a zero row stays zero.
    Normalize,
    /// A layer norm, on the CPU.
    LayerNorm(LayerNorm),
    /// Hyperbolic tangents, times 127 and rounded, halves to even, on the CPU.
    TanhInt8,
}

/// Hidden states to one vector per sequence.
#[derive(Debug)]
pub struct EmbeddingReadout {
    /// Steps on each token, before pooling.
    tokens: Vec<EmbeddingStep>,
    /// Pooling methods, whose vectors are concatenated; at least one.
    pooling: Vec<Pooling>,
    /// Steps on the vector, after pooling.
    sentence: Vec<EmbeddingStep>,
    /// Components per token before pooling.
    token_width: usize,
    width: usize,
    /// Number of leading components kept at the end.
    cut: Option<usize>,
}

impl EmbeddingReadout {
    /// A readout with one pooling method; `width` is that of the hidden states.
    pub fn new(pooling: Pooling, width: usize) -> Self {
        Self {
            tokens: Vec::new(),
            pooling: vec![pooling],
            sentence: Vec::new(),
            token_width: width,
            width,
            cut: None,
        }
    }

    /// Appends a step on each token.
    pub fn with_token_step(mut self, step: EmbeddingStep) -> Self {
        if let EmbeddingStep::Dense(dense) = &step {
            self.token_width = dense.width;
        }
        self.tokens.push(step);
        self.with_poolings(Vec::new())
    }

    /// Pools by these methods and concatenates their vectors; if empty, keeps the current methods.
    /// To be called before steps on the vector are added.
    pub fn with_poolings(mut self, poolings: Vec<Pooling>) -> Self {
        if !poolings.is_empty() {
            self.pooling = poolings;
        }
        self.width = self.pooling.len() * self.token_width;
        self
    }

    /// Appends a step on the vector.
    pub fn with_step(mut self, step: EmbeddingStep) -> Self {
        if let EmbeddingStep::Dense(dense) = &step {
            self.width = dense.width;
        }
        self.sentence.push(step);
        self
    }

    /// Keeps only the first components, as the last step.
    pub fn cut_to(mut self, width: usize) -> Self {
        self.cut = (width < self.width).then_some(width);
        self
    }

    /// The pooling methods, whose vectors are concatenated.
    pub fn pooling(&self) -> &[Pooling] {
        &self.pooling
    }

    /// Components per token before pooling.
    pub fn token_width(&self) -> usize {
        self.token_width
    }

    /// Components of a vector, before any cut that a request asks for.
    pub fn width(&self) -> usize {
        self.cut.unwrap_or(self.width)
    }

    /// Runs the chain for every sequence: one vector of [`width`](Self::width) components each,
    /// before the cut and normalisation that a request may ask for.
    ///
    /// # Errors
    /// A device failure.
    pub fn embed(&self, hidden: &HiddenStates) -> Result<Vec<Vec<f32>>, KernelError> {
        let mut rows = hidden.rows.clone();
        for step in &self.tokens {
            rows = step.forward(&rows)?;
        }
        let pooled = PooledRows { offsets: &hidden.offsets, skips: &hidden.pooling_skips };
        let mut parts = Vec::with_capacity(self.pooling.len());
        for pooling in &self.pooling {
            parts.push(pooled.pool(&rows, *pooling)?);
        }
        let mut vectors = match &parts[..] {
            [one] => one.clone(),
            parts => Tensor::cat(parts, 1)?,
        };
        for step in &self.sentence {
            vectors = step.forward(&vectors)?;
        }
        let mut vectors: Vec<Vec<f32>> = vectors.to_device(&Device::Cpu)?.to_vec2()?;
        if let Some(width) = self.cut {
            vectors.iter_mut().for_each(|vector| vector.truncate(width));
        }
        Ok(vectors)
    }
}

impl EmbeddingStep {
    /// Applies the step to each row.
    fn forward(&self, x: &Tensor) -> Result<Tensor, KernelError> {
        match self {
            Self::Dense(dense) => dense.forward(x),
            Self::LayerNorm(norm) => norm.forward(&x.to_device(&Device::Cpu)?),
            Self::Normalize => of_rows(x, l2_normalize),
            Self::TanhInt8 => of_rows(x, |row| {
                row.iter_mut().for_each(|x| *x = (x.tanh() * 127.0).round_ties_even());
            }),
        }
    }
}

/// Each row, changed on the CPU.
fn of_rows(x: &Tensor, change: impl Fn(&mut [f32])) -> Result<Tensor, KernelError> {
    let mut rows: Vec<Vec<f32>> = x.to_device(&Device::Cpu)?.to_vec2()?;
    rows.iter_mut().for_each(|row| change(row));
    let shape = x.dims2()?;
    Tensor::from_vec(rows.concat(), shape, &Device::Cpu)
}

/// Where sequences are in the rows of tokens, and how many rows at the start of each are a prompt
/// that is left out.
struct PooledRows<'a> {
    offsets: &'a [usize],
    skips: &'a [usize],
}

impl PooledRows<'_> {
    /// One vector per sequence. As in sentence-transformers, CLS is the first token after the
    /// prompt, position weights count from the start of the sequence, and a mean of nothing is
    /// zero.
    fn pool(&self, rows: &Tensor, pooling: Pooling) -> Result<Tensor, KernelError> {
        if self.skips.iter().all(|skip| *skip == 0) {
            return pool(rows, self.offsets, self.skips, pooling);
        }
        match pooling {
            Pooling::Cls => self.first(rows),
            Pooling::WeightedMean => self.weighted_mean(rows),
            _ => pool(rows, self.offsets, self.skips, pooling),
        }
    }

    /// The rows of each sequence that are pooled; possibly none.
    fn counted(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let sequences = self.offsets.windows(2).zip(self.skips);
        sequences.map(|(bounds, skip)| bounds[1].min(bounds[0] + skip)..bounds[1])
    }

    fn first(&self, rows: &Tensor) -> Result<Tensor, KernelError> {
        let (rows, width) = (rows.to_device(&Device::Cpu)?, rows.dim(1)?);
        let mut out: Vec<f32> = Vec::with_capacity(self.skips.len() * width);
        for (range, start) in self.counted().zip(self.offsets) {
            let first = if range.is_empty() { *start } else { range.start };
            out.extend(rows.get(first)?.to_vec1::<f32>()?);
        }
        Tensor::from_vec(out, (self.skips.len(), width), &Device::Cpu)
    }

    fn weighted_mean(&self, rows: &Tensor) -> Result<Tensor, KernelError> {
        let (rows, width) = (rows.to_device(&Device::Cpu)?, rows.dim(1)?);
        let mut out = vec![0.0f32; self.skips.len() * width];
        let sequences = self.counted().zip(self.offsets).zip(out.chunks_exact_mut(width));
        for ((range, start), out) in sequences {
            let mut total = 0.0;
            for row in range {
                let weight = (row - start + 1) as f32;
                total += weight;
                let values: Vec<f32> = rows.get(row)?.to_vec1()?;
                out.iter_mut().zip(values).for_each(|(out, value)| *out += weight * value);
            }
            if total > 0.0 {
                out.iter_mut().for_each(|out| *out /= total);
            }
        }
        Tensor::from_vec(out, (self.skips.len(), width), &Device::Cpu)
    }
}
