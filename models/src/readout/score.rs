//! Hidden states to scores: a head over one pooled row per sequence.
//!
//! Must not know: what was scored.

use proxima_kernels::ops::linear::Linear;
use proxima_kernels::ops::pool::pool;
use proxima_kernels::spec::{Activation, Pooling};
use proxima_kernels::{Device, KernelError, Tensor};

use crate::batch::HiddenStates;
use crate::checkpoint::{CheckpointError, torch_class};
use crate::layers::{LayerNorm, LinearPart, Loader};

/// One layer of a head: linear, activation, norm. Heads are small, so they are always float32.
#[derive(Debug)]
pub struct HeadLayer {
    linear: Linear,
    activation: Option<Activation>,
    norm: Option<LayerNorm>,
}

impl HeadLayer {
    /// The linear layer called `name`, from `inputs` to `outputs` elements.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub fn load(
        loader: &Loader<'_>,
        name: &str,
        inputs: usize,
        outputs: usize,
        bias: bool,
    ) -> Result<Self, CheckpointError> {
        Ok(Self::new(loader.linear(&[LinearPart::new(name, outputs)], inputs, bias)?))
    }

    /// Just a linear layer.
    pub fn new(linear: Linear) -> Self {
        Self { linear, activation: None, norm: None }
    }

    /// Applies the layer to each row.
    ///
    /// # Errors
    /// A device failure.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, KernelError> {
        let x = x.to_device(self.linear.device())?;
        let x = self.linear.forward_with(&x, self.activation, None)?;
        self.norm.as_ref().map_or(Ok(x.clone()), |norm| norm.forward(&x))
    }

    /// Adds an activation after the linear layer.
    pub fn with_activation(mut self, activation: Activation) -> Self {
        self.activation = Some(activation);
        self
    }

    /// Adds a norm after the activation.
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
    /// Whether there are two outputs, no and yes, whose difference is the logit.
    yes_or_no: bool,
    /// Whether the head is applied to each token, and its outputs are pooled.
    is_late: bool,
    /// What logits are divided by.
    divisor: f32,
}

impl ScoreReadout {
    /// A head with one output per label.
    pub fn new(pooling: Pooling, layers: Vec<HeadLayer>, labels: Vec<String>) -> Self {
        Self { pooling, layers, labels, yes_or_no: false, is_late: false, divisor: 1.0 }
    }

    /// A head applied to each token; the logits are the means of its outputs.
    pub fn late(layers: Vec<HeadLayer>, labels: Vec<String>) -> Self {
        Self { is_late: true, ..Self::new(Pooling::Mean, layers, labels) }
    }

    /// A head made of the language head's rows for `no` and `yes`, in this order, at the last
    /// token.
    pub fn yes_or_no(rows: Linear) -> Self {
        let (layers, labels) = (vec![HeadLayer::new(rows)], vec!["yes".to_owned()]);
        Self { yes_or_no: true, ..Self::new(Pooling::Last, layers, labels) }
    }

    /// The head with logits divided by a number.
    #[must_use]
    pub fn divided_by(self, divisor: f32) -> Self {
        Self { divisor, ..self }
    }

    /// Names of the logits.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// How tokens are pooled before the head.
    pub fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// The logits of every sequence, one per label, without sigmoid or softmax.
    ///
    /// # Errors
    /// A device failure.
    pub fn logits(&self, hidden: &HiddenStates) -> Result<Vec<Vec<f32>>, KernelError> {
        let no_skips = vec![0; hidden.pooling_skips.len()];
        let pooled = |x: &Tensor| pool(x, &hidden.offsets, &no_skips, self.pooling);
        let mut x = if self.is_late { hidden.rows.clone() } else { pooled(&hidden.rows)? };
        for layer in &self.layers {
            x = layer.forward(&x)?;
        }
        if self.is_late {
            x = pooled(&x)?;
        }
        let mut outputs: Vec<Vec<f32>> = x.to_device(&Device::Cpu)?.to_vec2()?;
        if self.yes_or_no {
            outputs.iter_mut().for_each(|both| *both = vec![both[1] - both[0]]);
        }
        if self.divisor != 1.0 {
            outputs.iter_mut().flatten().for_each(|logit| *logit /= self.divisor);
        }
        Ok(outputs)
    }
}

/// How logits become scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ScoreFunction {
    /// The logits themselves.
    Identity,
    /// An independent probability for each.
    Sigmoid,
    /// Probabilities of mutually exclusive classes.
    Softmax,
    /// The hyperbolic tangent of each.
    Tanh,
}

impl ScoreFunction {
    /// Its name in responses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Sigmoid => "sigmoid",
            Self::Softmax => "softmax",
            Self::Tanh => "tanh",
        }
    }

    /// The PyTorch function at a path such as `torch.nn.modules.activation.Sigmoid`.
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

/// The score functions that a checkpoint's files ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScoreFunctions {
    /// For classes, as in transformers' `TextClassificationPipeline`: by `problem_type`, else by
    /// the number of labels.
    pub classes: ScoreFunction,
    /// For pairs, as in sentence-transformers' `CrossEncoder`: its `activation_fn`, else by the
    /// number of labels.
    pub pairs: ScoreFunction,
}

/// The probability of a logit.
pub fn sigmoid(logit: f32) -> f32 {
    // In double precision, so that different logits give different scores wherever float32 allows.
    (1.0 / (1.0 + (-f64::from(logit)).exp())) as f32
}

/// Probabilities of mutually exclusive classes.
pub fn softmax(logits: &[f32]) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> = logits.iter().map(|logit| f64::from(logit - largest).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.iter().map(|weight| (weight / total) as f32).collect()
}
