//! Building blocks shared by families: loading of layers, networks of a kind, names of activations.
//!
//! Must not know: any one family.

mod decoder;
mod embeddings;
mod experts;
mod post_norm;
mod relative_bias;
mod rotary;
mod sandwich;
mod text_decoder;
mod token_bias;

use proxima_kernels::ops::linear::{GatedLinear, Linear};
use proxima_kernels::ops::linear_input::{InputLayout, LinearInput};
use proxima_kernels::ops::norm::{layer_norm, layer_norm_for};
use proxima_kernels::ops::rows::Rows;
use proxima_kernels::spec::{Activation, Precision};
use proxima_kernels::stored::StoredTensor;
use proxima_kernels::{Device, KernelError, Tensor};

use crate::checkpoint::{CheckpointError, Weights};

pub use decoder::{AfterLayer, Decoder, DecoderConfig, decoder_heads};
pub use embeddings::{TableSizes, TokenEmbeddings};
pub use experts::{Experts, ExpertsConfig, ExpertsNames};
pub use post_norm::{Biases, PostNorm, PostNormConfig, PostNormNames, QkvNames, UpNames};
pub use relative_bias::{BiasRule, Buckets, RelativeBias};
pub use rotary::{Rotary, RotaryRule, Rotation, Scaling, rope_object};
pub use sandwich::{AttentionInputs, SandwichConfig, SandwichLayer, sandwich_norm};
pub use text_decoder::TextDecoder;
pub use token_bias::{LogBuckets, TokenBiasConfig, TokenBiases};

/// A linear layer as stored, which is all or a part of one that is computed.
#[derive(Debug, Clone, Copy)]
pub struct LinearPart<'a> {
    name: &'a str,
    outputs: usize,
}

impl<'a> LinearPart<'a> {
    /// The layer of `name.weight` (and `name.bias`).
    pub fn new(name: &'a str, outputs: usize) -> Self {
        Self { name, outputs }
    }
}

/// Builds layers from a checkpoint's tensors under a prefix.
pub struct Loader<'a> {
    weights: &'a Weights,
    prefix: String,
    precision: Precision,
    device: &'a Device,
}

impl<'a> Loader<'a> {
    /// A loader for tensors whose names begin with `prefix`; its linear layers use this precision.
    pub fn new(
        weights: &'a Weights,
        prefix: &str,
        precision: Precision,
        device: &'a Device,
    ) -> Self {
        Self { weights, prefix: prefix.to_owned(), precision, device }
    }

    /// A loader whose prefix is extended by `name`.
    pub fn at(&self, name: &str) -> Self {
        Self { prefix: format!("{}{name}", self.prefix), ..*self }
    }

    /// A loader whose linear layers use another precision.
    pub fn with(&self, precision: Precision) -> Self {
        Self { prefix: self.prefix.clone(), precision, ..*self }
    }

    /// A linear layer without bias of these weights, `[outputs, inputs]`.
    ///
    /// # Errors
    /// A device failure.
    pub fn layer(&self, weights: &StoredTensor) -> Result<Linear, CheckpointError> {
        let inputs = weights.shape().last().copied().unwrap_or(0);
        self.packed(Linear::new(&[weights], &[], inputs, self.precision, self.device))
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.weights.contains(&format!("{}{name}", self.prefix))
    }

    /// A tensor as stored.
    ///
    /// # Errors
    /// If it is missing or has another shape.
    pub fn stored(&self, name: &str, shape: &[usize]) -> Result<StoredTensor, CheckpointError> {
        self.weights.tensor(&format!("{}{name}", self.prefix), shape)
    }

    /// A float32 vector on the device.
    ///
    /// # Errors
    /// If it is missing or has another length.
    pub fn vector(&self, name: &str, length: usize) -> Result<Tensor, CheckpointError> {
        let stored = self.stored(name, &[length])?;
        Tensor::from_vec(stored.to_f32(), length, self.device).map_err(|error| self.failed(error))
    }

    /// As [`vector`](Self::vector), with `change` applied to each element.
    ///
    /// # Errors
    /// If it is missing or has another length.
    pub fn changed_vector(
        &self,
        name: &str,
        length: usize,
        change: impl Fn(f32) -> f32,
    ) -> Result<Tensor, CheckpointError> {
        let values = self.stored(name, &[length])?.to_f32().into_iter().map(change).collect();
        let values: Vec<f32> = values;
        Tensor::from_vec(values, length, self.device).map_err(|error| self.failed(error))
    }

    /// One linear layer from several, concatenated along the outputs, all with or all without
    /// bias.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub fn linear(
        &self,
        parts: &[LinearPart<'_>],
        inputs: usize,
        bias: bool,
    ) -> Result<Linear, CheckpointError> {
        self.linear_padded(parts, inputs, inputs, bias)
    }

    /// As [`linear`](Self::linear), for inputs zero-padded from `inputs` to `padded`.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub fn linear_padded(
        &self,
        parts: &[LinearPart<'_>],
        inputs: usize,
        padded: usize,
        bias: bool,
    ) -> Result<Linear, CheckpointError> {
        let stored = |suffix: &str, wide: bool| -> Result<Vec<StoredTensor>, CheckpointError> {
            let tensors = parts.iter().map(|LinearPart { name, outputs }| {
                let shape = [*outputs, inputs];
                self.stored(&format!("{name}.{suffix}"), if wide { &shape } else { &shape[..1] })
            });
            tensors.collect()
        };
        let weights = stored("weight", true)?;
        let biases = if bias { stored("bias", false)? } else { Vec::new() };
        let (weights, biases) =
            (weights.iter().collect::<Vec<_>>(), biases.iter().collect::<Vec<_>>());
        let layer = Linear::new(&weights, &biases, padded, self.precision, self.device);
        self.packed(layer)
    }

    /// A gated layer from `gate` and `value` weights, `[outputs, inputs]` each.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub fn gated(
        &self,
        gate: &str,
        value: &str,
        inputs: usize,
        outputs: usize,
        activation: Activation,
    ) -> Result<GatedLinear, CheckpointError> {
        let stored = |name: &str| self.stored(&format!("{name}.weight"), &[outputs, inputs]);
        let (gate, value) = (stored(gate)?, stored(value)?);
        self.packed(GatedLinear::new(&gate, &value, activation, self.precision, self.device))
    }

    /// Returns a layer, which has its own copy of its weights, and releases the file's pages, so
    /// that loading never holds the weights twice.
    fn packed<T>(&self, layer: Result<T, KernelError>) -> Result<T, CheckpointError> {
        self.weights.release_pages();
        layer.map_err(|error| self.failed(error))
    }

    /// A gated layer whose gate and value weights are one tensor, in this order or the other.
    ///
    /// # Errors
    /// If it is missing or has another shape.
    pub fn gated_of_one(
        &self,
        name: &str,
        inputs: usize,
        outputs: usize,
        activation: Activation,
        gate_first: bool,
    ) -> Result<GatedLinear, CheckpointError> {
        let both = self.stored(&format!("{name}.weight"), &[2 * outputs, inputs])?;
        let (first, second) = (both.rows(0..outputs), both.rows(outputs..2 * outputs));
        let (gate, value) = if gate_first { (first, second) } else { (second, first) };
        self.packed(GatedLinear::new(&gate, &value, activation, self.precision, self.device))
    }

    /// A linear layer, given the full names of its weights, `[outputs, inputs]`, and bias.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub fn linear_of(
        &self,
        weight: &str,
        bias: &str,
        inputs: usize,
        outputs: usize,
    ) -> Result<Linear, CheckpointError> {
        let weight = self.stored(weight, &[outputs, inputs])?;
        let bias = self.stored(bias, &[outputs])?;
        self.packed(Linear::new(&[&weight], &[&bias], inputs, self.precision, self.device))
    }

    /// A linear layer with bias whose weights are stored as a convolution, `[outputs, ..kernel]`.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub fn convolution(
        &self,
        name: &str,
        kernel: &[usize],
        outputs: usize,
    ) -> Result<Linear, CheckpointError> {
        let inputs = kernel.iter().product();
        let shape = [&[outputs], kernel].concat();
        let weight = self.stored(&format!("{name}.weight"), &shape)?.reshaped(&[outputs, inputs]);
        let bias = self.stored(&format!("{name}.bias"), &[outputs])?;
        self.packed(Linear::new(&[&weight], &[&bias], inputs, self.precision, self.device))
    }

    /// A linear layer without bias from some rows of a table, `[table_rows, width]`, in float32.
    ///
    /// # Errors
    /// If the table is missing or has another shape.
    pub fn rows_of(
        &self,
        name: &str,
        table_rows: usize,
        width: usize,
        rows: &[usize],
    ) -> Result<Linear, CheckpointError> {
        let table = self.stored(name, &[table_rows, width])?;
        let rows: Vec<StoredTensor> = rows.iter().map(|row| table.rows(*row..row + 1)).collect();
        let rows: Vec<&StoredTensor> = rows.iter().collect();
        self.packed(Linear::new(&rows, &[], width, Precision::Float32, self.device))
    }

    /// The device that its layers run on.
    pub fn device(&self) -> &Device {
        self.device
    }

    /// The error of a layer that cannot be built.
    pub fn failed(&self, error: KernelError) -> CheckpointError {
        let reason = proxima_kernels::sentence(&error);
        CheckpointError::new(&self.prefix, format!("the layer cannot be made: {reason}"))
    }
}

/// A layer norm.
#[derive(Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Option<Tensor>,
    eps: f32,
}

impl LayerNorm {
    /// The norm called `name`, with or without bias. In checkpoints converted from TensorFlow, its
    /// tensors are called gamma and beta.
    ///
    /// # Errors
    /// If a tensor is missing or has another length.
    pub fn load(
        loader: &Loader<'_>,
        name: &str,
        width: usize,
        eps: f32,
        bias: bool,
    ) -> Result<Self, CheckpointError> {
        let old = loader.has(&format!("{name}.gamma"));
        let (weight, shift) = if old { ("gamma", "beta") } else { ("weight", "bias") };
        let shift = bias.then(|| loader.vector(&format!("{name}.{shift}"), width));
        let weight = loader.vector(&format!("{name}.{weight}"), width)?;
        Ok(Self { weight, bias: shift.transpose()?, eps })
    }

    /// Normalises each row.
    ///
    /// # Errors
    /// Mismatched shapes, or a device failure.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, KernelError> {
        layer_norm(x, &self.weight, self.bias.as_ref(), self.eps)
    }

    /// Normalises each row; also returns the result in a linear layer's input layout.
    ///
    /// # Errors
    /// Mismatched shapes, or a device failure.
    pub fn forward_for(
        &self,
        x: &Rows,
        layout: InputLayout,
    ) -> Result<(Rows, LinearInput), KernelError> {
        layer_norm_for(x, &self.weight, self.bias.as_ref(), self.eps, layout)
    }
}

/// The activation called `name` in a `config.json`, if it is served.
pub fn activation(name: &str) -> Option<Activation> {
    Some(match name {
        "gelu" | "gelu_python" => Activation::Gelu,
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Activation::GeluTanh,
        "silu" | "swish" => Activation::Silu,
        "relu" => Activation::Relu,
        "tanh" => Activation::Tanh,
        _ => return None,
    })
}
