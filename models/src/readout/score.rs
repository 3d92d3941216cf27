//! Hidden states to scores: a head over one pooled row a sequence.
//!
//! Must not know: what was scored.

use proxima_kernels::ops::linear::Linear;
use proxima_kernels::ops::pool::pool;
use proxima_kernels::spec::Activation;
use proxima_kernels::spec::Pooling;
use proxima_kernels::{Device, KernelError, Tensor};

use crate::batch::HiddenStates;
use crate::checkpoint::{CheckpointError, torch_class};
use crate::layers::{LayerNorm, Loader};

/// One layer of a head: linear, activation, norm. Heads are small, so always in float32.
#[derive(Debug)]
pub struct HeadLayer {
    linear: Linear,
    activation: Option<Activation>,
    norm: Option<LayerNorm>,
}

impl HeadLayer {
    /// The linear layer called `name`, of (inputs, outputs).
    ///
    /// # Errors
    /// If a tensor is missing or of another shape.
    pub fn load(
        loader: &Loader<'_>,
        name: &str,
        (inputs, outputs): (usize, usize),
        bias: bool,
    ) -> Result<Self, CheckpointError> {
        Ok(Self::new(loader.linear(&[(name, outputs)], inputs, bias)?))
    }

    /// A linear layer alone.
    pub fn new(linear: Linear) -> Self {
        Self { linear, activation: None, norm: None }
    }

    /// Applies the layer to each row.
    ///
    /// # Errors
    /// A failure of the device.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, KernelError> {
        let x = x.to_device(self.linear.device())?;
        let x = self.linear.forward_with(&x, self.activation, None)?;
        self.norm.as_ref().map_or(Ok(x.clone()), |norm| norm.forward(&x))
    }

    /// With an activation after it.
    pub fn with_activation(mut self, activation: Activation) -> Self {
        self.activation = Some(activation);
        self
    }

    /// With a norm after that.
    pub fn with_norm(mut self, norm: LayerNorm) -> Self {
        self.norm = Some(norm);
        self
    }
}

/// Hidden states to logits.
#[derive(Debug)]
pub struct ScoreReadout {
    pooling: Pooling,
    layers: Vec<HeadLayer>,
    labels: Vec<String>,
    /// Two outputs, no and yes, of which the difference is the logit.
    yes_or_no: bool,
}

impl ScoreReadout {
    /// A head with an output for each of `labels`.
    pub fn new(pooling: Pooling, layers: Vec<HeadLayer>, labels: Vec<String>) -> Self {
        Self { pooling, layers, labels, yes_or_no: false }
    }

    /// The rows of a language head for `no` and `yes`, in this order, at the last token.
    pub fn yes_or_no(rows: Linear) -> Self {
        let (layers, labels) = (vec![HeadLayer::new(rows)], vec!["yes".to_owned()]);
        Self { pooling: Pooling::Last, layers, labels, yes_or_no: true }
    }

    /// Names of the logits.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// How tokens are pooled before the head.
    pub fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// The logits of every sequence, one for each label; sigmoid or softmax not applied.
    ///
    /// # Errors
    /// A failure of the device.
    pub fn logits(&self, hidden: &HiddenStates) -> Result<Vec<Vec<f32>>, KernelError> {
        let no_skips = vec![0; hidden.pooling_skips.len()];
        let mut x = pool(&hidden.rows, &hidden.offsets, &no_skips, self.pooling)?;
        for layer in &self.layers {
            x = layer.forward(&x)?;
        }
        let outputs: Vec<Vec<f32>> = x.to_device(&Device::Cpu)?.to_vec2()?;
        if self.yes_or_no {
            return Ok(outputs.into_iter().map(|both| vec![both[1] - both[0]]).collect());
        }
        Ok(outputs)
    }
}

/// What logits go through to be scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ScoreFunction {
    /// Nothing: the logits.
    Identity,
    /// A probability of its own for each.
    Sigmoid,
    /// Probabilities that exclude each other.
    Softmax,
    /// The hyperbolic tangent of each.
    Tanh,
}

impl ScoreFunction {
    /// Its name in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Sigmoid => "sigmoid",
            Self::Softmax => "softmax",
            Self::Tanh => "tanh",
        }
    }

    /// The function of PyTorch at a path such as `torch.nn.modules.activation.Sigmoid`.
    pub fn of_path(path: &str) -> Option<Self> {
        match torch_class(path)? {
            "Identity" => Some(Self::Identity),
            "Sigmoid" => Some(Self::Sigmoid),
            "Softmax" => Some(Self::Softmax),
            "Tanh" => Some(Self::Tanh),
            _ => None,
        }
    }

    /// The scores of one input's logits.
    pub fn apply(self, logits: &[f32]) -> Vec<f32> {
        match self {
            Self::Identity => logits.to_vec(),
            Self::Sigmoid => logits.iter().map(|logit| sigmoid(*logit)).collect(),
            Self::Softmax => softmax(logits),
            Self::Tanh => logits.iter().map(|logit| f64::from(*logit).tanh() as f32).collect(),
        }
    }
}

/// The functions that a checkpoint's files ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scores {
    /// For classes, as transformers' `TextClassificationPipeline` has it: `problem_type`, else the
    /// number of labels.
    pub classes: ScoreFunction,
    /// For pairs, as sentence-transformers' `CrossEncoder` has it: its `activation_fn`, else the
    /// number of labels.
    pub pairs: ScoreFunction,
}

/// The probability of a logit.
pub fn sigmoid(logit: f32) -> f32 {
    // In double precision, so that scores that differ stay apart as long as float32 can tell.
    (1.0 / (1.0 + (-f64::from(logit)).exp())) as f32
}

/// Probabilities of logits that exclude each other.
pub fn softmax(logits: &[f32]) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> = logits.iter().map(|logit| f64::from(logit - largest).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.iter().map(|weight| (weight / total) as f32).collect()
}
