//! The decoder of Qwen3: pre-norm, causal unless its configuration says otherwise, with grouped
//! queries, norms of queries and keys per head, rotary positions and a gated MLP (Qwen3 technical
//! report, 2025; transformers `modeling_qwen3.py`).
//!
//! Must not know: where its first hidden states come from, what its positions mean.

use proxima_kernels::cpu::Activation;
use proxima_kernels::ops::attention::{Heads, Mask, attention_for};
use proxima_kernels::ops::linear::{GatedLinear, Linear};
use proxima_kernels::ops::norm::{rms_norm, rms_norm_for};
use proxima_kernels::ops::rotary::{HeadNorms, RotaryTables, rotary};
use proxima_kernels::ops::rows::Rows;
use proxima_kernels::{KernelError, Tensor};

use super::Loader;
use crate::batch::{HiddenStates, InParts, Keeping, Part, RaggedBatch};
use crate::checkpoint::CheckpointError;

/// Sizes of a decoder.
#[derive(Debug, Clone, Copy)]
pub struct DecoderConfig {
    /// Numbers in a hidden state.
    pub hidden: usize,
    /// Layers.
    pub layers: usize,
    /// Heads of the attention.
    pub heads: Heads,
    /// Numbers between the two layers of the MLP.
    pub mlp: usize,
    /// Epsilon of all norms.
    pub eps: f32,
    /// Whether the projections of the attention have a bias.
    pub bias: bool,
    /// Whether a token sees only those before it; else all of its sequence.
    pub causal: bool,
    /// Of the gate.
    pub activation: Activation,
}

/// A decoder without its embedding table.
#[derive(Debug)]
pub struct Decoder {
    layers: Vec<Layer>,
    norm: Tensor,
    heads: Heads,
    mask: Mask,
    eps: f32,
}

#[derive(Debug)]
struct Layer {
    input_norm: Tensor,
    qkv: Linear,
    head_norms: HeadNorms,
    output: Linear,
    mlp_norm: Tensor,
    gated: GatedLinear,
    down: Linear,
}

/// Changes hidden states behind a layer, whose place it gets.
pub type BehindLayer<'a> = dyn Fn(usize, &mut Rows) -> Result<(), KernelError> + Sync + 'a;

impl Decoder {
    /// The decoder under a prefix.
    ///
    /// # Errors
    /// If a tensor is missing or of another shape.
    pub fn load(loader: &Loader<'_>, config: &DecoderConfig) -> Result<Self, CheckpointError> {
        let layer = |layer| Layer::load(&loader.at(&format!("layers.{layer}.")), config);
        Ok(Self {
            layers: (0..config.layers).map(layer).collect::<Result<_, _>>()?,
            norm: loader.vector("norm.weight", config.hidden)?,
            heads: config.heads,
            mask: if config.causal { Mask::Causal } else { Mask::Full },
            eps: config.eps,
        })
    }

    /// Whether a token sees only those before it.
    pub fn is_causal(&self) -> bool {
        self.mask == Mask::Causal
    }

    /// Runs the layers over `hidden`, whose rows have these positions in the tables. `pause` is
    /// called between layers and between the parts of one, `behind` after each.
    ///
    /// # Errors
    /// A failure of the device or of an operation.
    pub fn run(
        &self,
        batch: &RaggedBatch,
        hidden: Rows,
        (positions, tables): (&[u32], &RotaryTables),
        behind: &BehindLayer<'_>,
        pause: &dyn Fn(),
    ) -> Result<HiddenStates, KernelError> {
        let weight_bytes = self.layers.first().map_or(0, Layer::weight_bytes);
        let mut parts = InParts::new(batch, hidden, weight_bytes, |part, hidden| {
            Ok(State { hidden, keeping: batch.keeping(part) })
        })?;
        for (place, layer) in self.layers.iter().enumerate() {
            let kept = batch.kept(place);
            parts.step(pause, |part, state| {
                let turn = (&positions[part.rows()], tables);
                let mut state = self.forward(part, state, (layer, &kept), turn)?;
                behind(place, &mut state.hidden)?;
                Ok(state)
            })?;
        }
        let (mut hidden, mut keeping) = (Vec::new(), Vec::new());
        for state in parts.finish() {
            hidden.push(state.hidden);
            keeping.push(state.keeping);
        }
        let hidden = Rows::joined(hidden)?;
        let states = HiddenStates::new(&hidden, batch)?;
        let rows = rms_norm(&states.rows, &self.norm, self.eps)?;
        Ok(HiddenStates { rows, kept: batch.all_kept(keeping), ..states })
    }
}

/// What a part of a batch is between two layers.
struct State {
    hidden: Rows,
    keeping: Keeping,
}

impl Decoder {
    /// Takes a part of a batch through a layer; its rows have these positions in the tables.
    fn forward(
        &self,
        part: &Part,
        State { hidden, mut keeping }: State,
        (layer, kept): (&Layer, &[&Tensor]),
        (positions, tables): (&[u32], &RotaryTables),
    ) -> Result<State, KernelError> {
        let normed = rms_norm_for(&hidden, &layer.input_norm, self.eps, layer.qkv.takes())?;
        let qkv = layer.qkv.of(&normed, None, None)?;
        let qkv = rotary(qkv, self.heads, Some(&layer.head_norms), positions, tables)?;
        keeping.take(&qkv, self.heads.heads * self.heads.size)?;
        let rows = (part.runs(), kept);
        let mixed = attention_for(&qkv, self.heads, rows, self.mask, &layer.output)?;
        let hidden = layer.output.of(&mixed, None, Some(&hidden))?;
        let normed = rms_norm_for(&hidden, &layer.mlp_norm, self.eps, layer.gated.takes())?;
        let gated = layer.gated.of_for(&normed, layer.down.takes())?;
        let hidden = layer.down.of(&gated, None, Some(&hidden))?;
        Ok(State { hidden, keeping })
    }
}

impl Layer {
    fn weight_bytes(&self) -> usize {
        let linear = [&self.qkv, &self.output, &self.down].map(Linear::weight_bytes);
        self.gated.weight_bytes() + linear.iter().sum::<usize>()
    }

    fn load(loader: &Loader<'_>, config: &DecoderConfig) -> Result<Self, CheckpointError> {
        let &DecoderConfig { hidden, heads, mlp, eps, bias, activation, .. } = config;
        let (queries, keys) = (heads.heads * heads.size, heads.kv_heads * heads.size);
        let attention = loader.at("self_attn.");
        let parts = [("q_proj", queries), ("k_proj", keys), ("v_proj", keys)];
        let widths = (mlp, GatedLinear::padded(mlp));
        Ok(Self {
            input_norm: loader.vector("input_layernorm.weight", hidden)?,
            qkv: attention.linear(&parts, hidden, bias)?,
            head_norms: HeadNorms {
                queries: attention.vector("q_norm.weight", heads.size)?,
                keys: attention.vector("k_norm.weight", heads.size)?,
                eps,
            },
            output: attention.linear(&[("o_proj", hidden)], queries, bias)?,
            mlp_norm: loader.vector("post_attention_layernorm.weight", hidden)?,
            gated: loader.gated(("mlp.gate_proj", "mlp.up_proj"), (hidden, mlp), activation)?,
            down: loader.linear_padded(&[("mlp.down_proj", hidden)], widths, false)?,
        })
    }
}
