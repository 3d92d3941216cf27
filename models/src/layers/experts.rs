//! A mixture of experts: each token goes through the MLPs that a router chooses for it (Nussbaum
//! and Duderstadt, 2025; MegaBlocks).
//!
//! A row's result does not depend on the other rows: an expert computes rows independently, and a
//! row's experts are added in the order of their index.
//! Must not know: any one family.

use proxima_kernels::ops::linear::Linear;
use proxima_kernels::ops::linear_input::{InputLayout, LinearInput};
use proxima_kernels::ops::rows::Rows;
use proxima_kernels::spec::{Activation, Precision};
use proxima_kernels::stored::StoredTensor;
use proxima_kernels::{DType, KernelError, Tensor};

use super::Loader;
use crate::checkpoint::CheckpointError;

/// Sizes of a mixture.
#[derive(Debug, Clone, Copy)]
pub struct ExpertsConfig {
    /// Number of experts.
    pub count: usize,
    /// Experts of a token: those with the largest weights.
    pub chosen: usize,
    /// Layers whose index is 1 modulo this have experts; at least 2.
    pub every: usize,
}

/// Names of a mixture's tensors.
#[derive(Debug, Clone, Copy)]
pub struct ExpertsNames {
    /// `[experts, width]`
    pub router: &'static str,
    /// First layers of all experts, `[experts * mlp, width]`.
    pub up: &'static str,
    /// Second layers of all experts, transposed, `[experts * mlp, width]`.
    pub down: &'static str,
    /// Added to the sum of experts, `[width]`.
    pub bias: &'static str,
}

/// The experts of a layer.
#[derive(Debug)]
pub struct Experts {
    router: Linear,
    experts: Vec<Expert>,
    bias: Tensor,
    activation: Activation,
    chosen: usize,
}

#[derive(Debug)]
struct Expert {
    up: Linear,
    down: Linear,
}

/// The rows of an expert, and its weight in each.
#[derive(Debug, Default)]
struct Share {
    rows: Vec<usize>,
    weights: Vec<f32>,
}

impl Experts {
    /// Loads the experts under the loader's prefix. Each takes rows of `width` elements, and has
    /// `mlp` elements between its two layers.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub fn load(
        loader: &Loader<'_>,
        names: &ExpertsNames,
        config: ExpertsConfig,
        width: usize,
        mlp: usize,
        activation: Activation,
    ) -> Result<Self, CheckpointError> {
        let shape = [config.count * mlp, width];
        let (up, down) = (loader.stored(names.up, &shape)?, loader.stored(names.down, &shape)?);
        let experts = (0..config.count).map(|index| {
            let rows = index * mlp..(index + 1) * mlp;
            let down = transposed(&down.rows(rows.clone()));
            Ok(Expert { up: loader.layer(&up.rows(rows))?, down: loader.layer(&down)? })
        });
        Ok(Self {
            router: loader
                .with(Precision::Float32)
                .layer(&loader.stored(names.router, &[config.count, width])?)?,
            experts: experts.collect::<Result<_, CheckpointError>>()?,
            bias: loader.vector(names.bias, width)?,
            activation,
            chosen: config.chosen,
        })
    }

    /// The layout in which [`forward`](Self::forward) takes its input.
    pub fn input_layout(&self) -> InputLayout {
        self.router.input_layout()
    }

    /// The rows plus the weighted sum of each row's experts, `[n_rows, width]`; `input` are the
    /// rows in the layout of the router.
    ///
    /// # Errors
    /// A failure of the device or an operation.
    pub fn forward(&self, hidden: &Rows, input: &LinearInput) -> Result<Rows, KernelError> {
        let logits = self.router.of(input, None, None)?.tensor()?.to_dtype(DType::F32)?;
        let logits = logits.to_vec2::<f32>()?;
        let x = hidden.tensor()?.to_dtype(DType::F32)?;
        let mut sum = x.broadcast_add(&self.bias)?;
        for (expert, share) in self.experts.iter().zip(self.shares(&logits)) {
            let Share { rows, weights } = share;
            if rows.is_empty() {
                continue;
            }
            let input = LinearInput::of(&hidden.select(&rows)?, expert.up.input_layout())?;
            let layout = expert.down.input_layout();
            let wide = expert.up.apply_for(&input, Some(self.activation), layout)?;
            let found = expert.down.of(&wide, None, None)?.tensor()?.to_dtype(DType::F32)?;
            let weights = Tensor::from_vec(weights, (rows.len(), 1), x.device())?;
            let indices: Vec<u32> = rows.iter().map(|row| *row as u32).collect();
            let indices = Tensor::from_vec(indices, rows.len(), x.device())?;
            sum = sum.index_add(&indices, &found.broadcast_mul(&weights)?, 0)?;
        }
        Rows::of(&sum)
    }

    /// The rows of each expert, with its weights: the largest of the softmax over all experts, not
    /// renormalised.
    fn shares(&self, logits: &[Vec<f32>]) -> Vec<Share> {
        let mut shares: Vec<Share> = self.experts.iter().map(|_| Share::default()).collect();
        for (row, logits) in logits.iter().enumerate() {
            let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let exponentials: Vec<f32> =
                logits.iter().map(|logit| (logit - largest).exp()).collect();
            let total: f32 = exponentials.iter().sum();
            let mut order: Vec<usize> = (0..logits.len()).collect();
            // A stable sort: of equal logits, the lower index comes first.
            order.sort_by(|one, other| logits[*other].total_cmp(&logits[*one]));
            for index in order.into_iter().take(self.chosen) {
                shares[index].rows.push(row);
                shares[index].weights.push(exponentials[index] / total);
            }
        }
        shares
    }

    /// Bytes of the weights of all experts.
    pub fn weight_bytes(&self) -> usize {
        self.experts
            .iter()
            .map(|expert| expert.up.weight_bytes() + expert.down.weight_bytes())
            .sum()
    }
}

/// `[columns, rows]` of `[rows, columns]`.
fn transposed(matrix: &StoredTensor) -> StoredTensor {
    let (values, shape) = (matrix.to_f32(), matrix.shape().to_vec());
    let (rows, columns) = (shape[0], shape[1]);
    let turned: Vec<f32> =
        (0..rows * columns).map(|index| values[index % rows * columns + index / rows]).collect();
    StoredTensor::of_values(&turned, vec![columns, rows]).expect("as many values as before")
}
