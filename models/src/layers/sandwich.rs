//! The layer of Gemma 3 and its successors: attention and a gated MLP, each with a norm before it
//! and one after it, whose result is added to the hidden states (Gemma 3 technical report, 2025).
//!
//! Must not know: any one family, where its first hidden states come from.

use proxima_kernels::ops::attention::attention_for;
use proxima_kernels::ops::linear::{GatedLinear, Linear};
use proxima_kernels::ops::norm::{rms_norm, rms_norm_for};
use proxima_kernels::ops::rotary::rotary;
use proxima_kernels::ops::rows::Rows;
use proxima_kernels::spec::{Activation, HeadNorms, Heads, Mask, Sequences};
use proxima_kernels::{KernelError, Tensor};

use super::{LinearPart, Loader, Rotation};
use crate::batch::{BatchPart, PrefixCollector};
use crate::checkpoint::CheckpointError;

/// Sizes of a layer.
#[derive(Debug, Clone, Copy)]
pub struct SandwichConfig {
    /// Size of a hidden state.
    pub hidden: usize,
    /// Attention heads.
    pub heads: Heads,
    /// Size of the MLP's intermediate layer.
    pub mlp: usize,
    /// Epsilon of all norms.
    pub eps: f32,
    /// Activation of the gate.
    pub activation: Activation,
    /// Whether the linear layers of attention have a bias.
    pub bias: bool,
    /// Which tokens a token attends to.
    pub mask: Mask,
    /// The number whose square root divides scores, instead of the head size.
    pub score_scale: f64,
    /// Whether norms multiply by one more than the stored weights.
    pub norms_add_one: bool,
    /// Whether values are normalised, too, per head and without weights.
    pub value_norm: bool,
}

/// A layer.
#[derive(Debug)]
pub struct SandwichLayer {
    input_norm: Tensor,
    qkv: Linear,
    head_norms: HeadNorms,
    /// Ones, `[head size]`.
    value_norm: Option<Tensor>,
    output: Linear,
    attention_norm: Tensor,
    mlp_norm: Tensor,
    gated: GatedLinear,
    down: Linear,
    output_norm: Tensor,
    heads: Heads,
    mask: Mask,
    eps: f32,
}

/// Inputs of attention other than the hidden states.
#[derive(Clone, Copy)]
pub struct AttentionInputs<'a> {
    /// Cached keys and values of prefixes.
    pub cached: &'a [&'a Tensor],
    /// How the rows are rotated in this layer.
    pub rotation: Rotation<'a>,
}

impl SandwichLayer {
    /// Loads the layer under the loader's prefix.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub fn load(loader: &Loader<'_>, config: &SandwichConfig) -> Result<Self, CheckpointError> {
        let &SandwichConfig { hidden, heads, mlp, eps, activation, bias, .. } = config;
        let (queries, keys) = (heads.heads * heads.size, heads.kv_heads * heads.size);
        let attention = loader.at("self_attn.");
        let parts = [
            LinearPart::new("q_proj", queries),
            LinearPart::new("k_proj", keys),
            LinearPart::new("v_proj", keys),
        ];
        let norm = |name: &str| sandwich_norm(loader, name, hidden, config.norms_add_one, 1.0);
        let head_norm = |name: &str, factor: f32| {
            sandwich_norm(&attention, name, heads.size, config.norms_add_one, factor)
        };
        // Attention divides scores by the root of the size of heads; this changes it.
        let factor = (heads.size as f64 / config.score_scale).sqrt() as f32;
        let padded = GatedLinear::padded(mlp);
        let ones = || Tensor::from_vec(vec![1.0f32; heads.size], heads.size, loader.device());
        let ones = config.value_norm.then(ones).transpose();
        Ok(Self {
            input_norm: norm("input_layernorm")?,
            qkv: attention.linear(&parts, hidden, bias)?,
            head_norms: HeadNorms {
                queries: head_norm("q_norm", factor)?,
                keys: head_norm("k_norm", 1.0)?,
                eps,
            },
            value_norm: ones.map_err(|error| loader.failed(error))?,
            output: attention.linear(&[LinearPart::new("o_proj", hidden)], queries, bias)?,
            attention_norm: norm("post_attention_layernorm")?,
            mlp_norm: norm("pre_feedforward_layernorm")?,
            gated: loader.gated("mlp.gate_proj", "mlp.up_proj", hidden, mlp, activation)?,
            down: loader.linear_padded(
                &[LinearPart::new("mlp.down_proj", hidden)],
                mlp,
                padded,
                false,
            )?,
            output_norm: norm("post_feedforward_layernorm")?,
            heads,
            mask: config.mask,
            eps,
        })
    }

    /// Bytes of its weights.
    pub fn weight_bytes(&self) -> usize {
        let linear = [&self.qkv, &self.output, &self.down].map(Linear::weight_bytes);
        self.gated.weight_bytes() + linear.iter().sum::<usize>()
    }

    /// Whether a token attends only to itself and earlier ones.
    pub fn is_causal(&self) -> bool {
        self.mask.is_causal()
    }

    /// Takes the hidden states of a part of a batch through the layer.
    ///
    /// # Errors
    /// A failure of the device or an operation.
    pub fn forward(
        &self,
        part: &BatchPart,
        hidden: &mut Rows,
        collector: &mut PrefixCollector,
        inputs: AttentionInputs<'_>,
    ) -> Result<(), KernelError> {
        let normed = rms_norm_for(hidden, &self.input_norm, self.eps, self.qkv.input_layout())?;
        let mut qkv = self.qkv.of(&normed, None, None)?;
        if let Some(ones) = &self.value_norm {
            qkv = self.with_normed_values(&qkv, ones)?;
        }
        let Rotation { positions, tables } = inputs.rotation;
        let qkv = rotary(qkv, self.heads, Some(&self.head_norms), positions, tables)?;
        collector.take(&qkv, self.heads.heads * self.heads.size)?;
        let rows = Sequences { segments: part.segments(), cached: inputs.cached };
        let mixed = attention_for(&qkv, self.heads, rows, self.mask, &self.output)?;
        self.add(hidden, &self.output.of(&mixed, None, None)?, &self.attention_norm)?;
        let normed = rms_norm_for(hidden, &self.mlp_norm, self.eps, self.gated.input_layout())?;
        let gated = self.gated.apply_for(&normed, self.down.input_layout())?;
        self.add(hidden, &self.down.of(&gated, None, None)?, &self.output_norm)
    }

    /// Queries, keys and values, with the values of each head normalised.
    fn with_normed_values(&self, qkv: &Rows, ones: &Tensor) -> Result<Rows, KernelError> {
        let qkv = qkv.tensor()?;
        let (rows, Heads { heads, kv_heads, size }) = (qkv.dim(0)?, self.heads);
        let (before, width) = ((heads + kv_heads) * size, kv_heads * size);
        let values =
            qkv.narrow(1, before, width)?.contiguous()?.reshape((rows * kv_heads, size))?;
        let values = rms_norm(&values, ones, self.eps)?.reshape((rows, width))?;
        Rows::of(&Tensor::cat(&[&qkv.narrow(1, 0, before)?.contiguous()?, &values], 1)?)
    }

    /// Normalises the output of attention or the MLP and adds it to the hidden states.
    fn add(&self, hidden: &mut Rows, given: &Rows, norm: &Tensor) -> Result<(), KernelError> {
        let [rows, _] = given.shape()?;
        let normed = Rows::of(&rms_norm(&given.tensor()?, norm, self.eps)?)?;
        hidden.put(0, &normed, 0..rows, true)
    }
}

/// The weights of a norm, `name.weight`, times `factor`.
///
/// # Errors
/// If the tensor is missing or has another length.
pub fn sandwich_norm(
    loader: &Loader<'_>,
    name: &str,
    width: usize,
    adds_one: bool,
    factor: f32,
) -> Result<Tensor, CheckpointError> {
    let added = if adds_one { 1.0 } else { 0.0 };
    loader.changed_vector(&format!("{name}.weight"), width, |weight| (added + weight) * factor)
}
