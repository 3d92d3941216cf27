//! The decoder of Llama and its relatives: pre-norm, causal unless configured otherwise, with
//! grouped-query attention, rotary positions and a gated MLP (Touvron et al., 2023); Qwen3 adds
//! norms of query and key heads (Qwen3 technical report, 2025).
//!
//! Must not know: where its first hidden states come from, what its positions mean.

use proxima_kernels::ops::attention::attention_for;
use proxima_kernels::ops::linear::{GatedLinear, Linear, NormAfter};
use proxima_kernels::ops::linear_input::{InputLayout, LinearInput};
use proxima_kernels::ops::norm::{rms_norm, rms_norm_for};
use proxima_kernels::ops::replay::{Recordings, next_layer};
use proxima_kernels::ops::rotary::rotary;
use proxima_kernels::ops::rows::Rows;
use proxima_kernels::spec::{Activation, HeadNorms, Heads, Mask, Sequences};
use proxima_kernels::{KernelError, Tensor};

use super::{LinearPart, Loader, Rotation};
use crate::batch::{BatchPart, HiddenStates, InParts, PrefixCollector, RaggedBatch};
use crate::checkpoint::CheckpointError;

/// Sizes of a decoder.
#[derive(Debug, Clone, Copy)]
pub struct DecoderConfig {
    /// Size of a hidden state.
    pub hidden: usize,
    /// Number of layers.
    pub layers: usize,
    /// Attention heads.
    pub heads: Heads,
    /// Size of the MLP's intermediate layer.
    pub mlp: usize,
    /// Epsilon of all norms.
    pub eps: f32,
    /// Whether queries, keys and values have a bias.
    pub qkv_bias: bool,
    /// Whether the output of attention has a bias.
    pub output_bias: bool,
    /// Whether each query and key head is normalised.
    pub head_norms: bool,
    /// Whether norms multiply by one more than the stored weights, as Gemma's.
    pub norms_add_one: bool,
    /// Which tokens a token attends to.
    pub mask: Mask,
    /// Activation of the gate.
    pub activation: Activation,
}

/// Attention heads of a decoder.
///
/// # Errors
/// Numbers that do not divide, or an odd size.
pub fn decoder_heads(heads: usize, kv_heads: usize, size: usize) -> Result<Heads, String> {
    if kv_heads == 0 || heads == 0 || !heads.is_multiple_of(kv_heads) {
        return Err(format!("{heads} heads cannot share {kv_heads} key and value heads evenly"));
    }
    if size == 0 || !size.is_multiple_of(2) {
        return Err(format!("heads of {size} components cannot be rotated; head_dim must be even"));
    }
    Ok(Heads { heads, kv_heads, size })
}

/// The weights of a norm of hidden states.
fn norm_weight(
    loader: &Loader<'_>,
    name: &str,
    config: &DecoderConfig,
) -> Result<Tensor, CheckpointError> {
    let name = format!("{name}.weight");
    match config.norms_add_one {
        true => loader.changed_vector(&name, config.hidden, |weight| 1.0 + weight),
        false => loader.vector(&name, config.hidden),
    }
}

/// A decoder without its embedding table.
#[derive(Debug)]
pub struct Decoder {
    layers: Vec<Layer>,
    norm: Tensor,
    heads: Heads,
    mask: Mask,
    eps: f32,
    /// CUDA graphs of short batches.
    recordings: Recordings,
}

#[derive(Debug)]
struct Layer {
    input_norm: Tensor,
    qkv: Linear,
    head_norms: Option<HeadNorms>,
    output: Linear,
    mlp_norm: Tensor,
    gated: GatedLinear,
    down: Linear,
}

/// Changes hidden states after a layer, given the layer's index.
pub type AfterLayer<'a> = dyn Fn(usize, &mut Rows) -> Result<(), KernelError> + Sync + 'a;

impl Decoder {
    /// Loads the decoder under the loader's prefix.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub fn load(loader: &Loader<'_>, config: &DecoderConfig) -> Result<Self, CheckpointError> {
        let layer = |layer| Layer::load(&loader.at(&format!("layers.{layer}.")), config);
        Ok(Self {
            layers: (0..config.layers).map(layer).collect::<Result<_, _>>()?,
            norm: norm_weight(loader, "norm", config)?,
            heads: config.heads,
            mask: config.mask,
            eps: config.eps,
            recordings: Recordings::default(),
        })
    }

    /// Whether a token attends only to itself and earlier ones.
    pub fn is_causal(&self) -> bool {
        self.mask.is_causal()
    }

    /// Runs the layers over `hidden`, whose rows are rotated by `rotation`. Calls `pause` between
    /// layers and between the parts of a layer, and `after_layer` after each layer.
    ///
    /// # Errors
    /// A failure of the device or an operation.
    pub fn run(
        &self,
        batch: &RaggedBatch,
        hidden: Rows,
        rotation: Rotation<'_>,
        after_layer: &AfterLayer<'_>,
        pause: &dyn Fn(),
    ) -> Result<HiddenStates, KernelError> {
        let (hidden, prefixes) = match batch.layout() {
            Some(layout) => {
                let run = |hidden, pause: &dyn Fn()| {
                    self.layers(batch, hidden, rotation, after_layer, pause)
                        .map(|(hidden, _)| hidden)
                };
                (self.recordings.run(&layout, hidden, pause, run)?, Vec::new())
            }
            None => self.layers(batch, hidden, rotation, after_layer, pause)?,
        };
        let states = HiddenStates::new(&hidden, batch)?;
        let rows = rms_norm(&states.rows, &self.norm, self.eps)?;
        Ok(HiddenStates { rows, prefixes: batch.new_prefixes(prefixes), ..states })
    }

    /// Runs the layers; returns the hidden states and what is to be cached.
    fn layers(
        &self,
        batch: &RaggedBatch,
        hidden: Rows,
        rotation: Rotation<'_>,
        after_layer: &AfterLayer<'_>,
        pause: &dyn Fn(),
    ) -> Result<(Rows, Vec<PrefixCollector>), KernelError> {
        let weight_bytes = self.layers.first().map_or(0, Layer::weight_bytes);
        let mut parts = InParts::new(batch, hidden, weight_bytes, |part, hidden| {
            Ok(LayerState { hidden, input: None, collector: batch.prefix_collector(part) })
        })?;
        let changed_between = !batch.visuals().is_empty();
        for (index, layer) in self.layers.iter().enumerate() {
            let cached = batch.cached(index);
            let next = self.layers.get(index + 1);
            next_layer();
            parts.step(pause, |part, state| {
                let rotation = rotation.of_rows(part.rows());
                let mut state = self.forward(part, state, layer, next, &cached, rotation)?;
                after_layer(index, &mut state.hidden)?;
                if changed_between {
                    // The norm has to be recomputed.
                    state.input = None;
                }
                Ok(state)
            })?;
        }
        let (hidden, collectors) =
            parts.finish().into_iter().map(|state| (state.hidden, state.collector)).unzip();
        Ok((Rows::joined(hidden)?, collectors))
    }
}

/// The state of a part of a batch between two layers.
struct LayerState {
    hidden: Rows,
    /// The hidden states, normalised, in the next layer's input layout, if already computed.
    input: Option<LinearInput>,
    collector: PrefixCollector,
}

impl Decoder {
    /// Takes a part of a batch through a layer, given the rotation of its rows and what is cached
    /// for this layer. If there is a next layer, also normalises the hidden states for it.
    fn forward(
        &self,
        part: &BatchPart,
        LayerState { hidden, input, mut collector }: LayerState,
        layer: &Layer,
        next: Option<&Layer>,
        cached: &[&Tensor],
        rotation: Rotation<'_>,
    ) -> Result<LayerState, KernelError> {
        let input = match input {
            Some(input) => input,
            None => rms_norm_for(&hidden, &layer.input_norm, self.eps, layer.qkv.input_layout())?,
        };
        let qkv = layer.qkv.of(&input, None, None)?;
        let Rotation { positions, tables } = rotation;
        let qkv = rotary(qkv, self.heads, layer.head_norms.as_ref(), positions, tables)?;
        collector.take(&qkv, self.heads.heads * self.heads.size)?;
        let rows = Sequences { segments: part.segments(), cached };
        let mixed = attention_for(&qkv, self.heads, rows, self.mask, &layer.output)?;
        let norm = self.norm_for(&layer.mlp_norm, layer.gated.input_layout());
        let (hidden, normed) = layer.output.add_and_norm(&mixed, &hidden, norm)?;
        let gated = layer.gated.apply_for(&normed, layer.down.input_layout())?;
        let Some(next) = next else {
            let hidden = layer.down.of(&gated, None, Some(&hidden))?;
            return Ok(LayerState { hidden, input: None, collector });
        };
        let norm = self.norm_for(&next.input_norm, next.qkv.input_layout());
        let (hidden, input) = layer.down.add_and_norm(&gated, &hidden, norm)?;
        Ok(LayerState { hidden, input: Some(input), collector })
    }

    fn norm_for<'a>(&self, weight: &'a Tensor, layout: InputLayout) -> NormAfter<'a> {
        NormAfter { weight, eps: self.eps, layout }
    }
}

impl Layer {
    fn weight_bytes(&self) -> usize {
        let linear = [&self.qkv, &self.output, &self.down].map(Linear::weight_bytes);
        self.gated.weight_bytes() + linear.iter().sum::<usize>()
    }

    fn load(loader: &Loader<'_>, config: &DecoderConfig) -> Result<Self, CheckpointError> {
        let &DecoderConfig { hidden, heads, mlp, eps, activation, .. } = config;
        let (queries, keys) = (heads.heads * heads.size, heads.kv_heads * heads.size);
        let attention = loader.at("self_attn.");
        let parts = [
            LinearPart::new("q_proj", queries),
            LinearPart::new("k_proj", keys),
            LinearPart::new("v_proj", keys),
        ];
        let padded = GatedLinear::padded(mlp);
        Ok(Self {
            input_norm: norm_weight(loader, "input_layernorm", config)?,
            qkv: attention.linear(&parts, hidden, config.qkv_bias)?,
            head_norms: match config.head_norms {
                true => Some(HeadNorms {
                    queries: attention.vector("q_norm.weight", heads.size)?,
                    keys: attention.vector("k_norm.weight", heads.size)?,
                    eps,
                }),
                false => None,
            },
            output: attention.linear(
                &[LinearPart::new("o_proj", hidden)],
                queries,
                config.output_bias,
            )?,
            mlp_norm: norm_weight(loader, "post_attention_layernorm", config)?,
            gated: loader.gated("mlp.gate_proj", "mlp.up_proj", hidden, mlp, activation)?,
            down: loader.linear_padded(
                &[LinearPart::new("mlp.down_proj", hidden)],
                mlp,
                padded,
                false,
            )?,
        })
    }
}
