//! EmbeddingGemma 2, its text network: an encoder with the layers of Gemma 3, in which each layer
//! also mixes in a projection of the first hidden states (transformers
//! `modeling_embedding_gemma2.py`). The towers of images and sound are not served.
//!
//! Must not know: templates, pooling, devices.

use std::collections::BTreeMap;

use proxima_kernels::ops::embedding::Embedding;
use proxima_kernels::ops::linear::Linear;
use proxima_kernels::ops::norm::rms_norm;
use proxima_kernels::ops::rotary::RotaryTables;
use proxima_kernels::ops::rows::Rows;
use proxima_kernels::spec::{Activation, Mask, Precision};
use proxima_kernels::{Device, KernelError, Tensor};
use serde::Deserialize;
use serde_json::Value;

use super::{Family, Network, heads};
use crate::batch::{BatchPart, Encoder, HiddenStates, InParts, PrefixCollector, RaggedBatch};
use crate::checkpoint::keys::Key;
use crate::checkpoint::keys::Rule::{NoEffect, Object, Refused, Used};
use crate::checkpoint::keys::config::{
    COMMON, EPS, GENERATING, HEADS, LAYERS, MLP, POSITIONS, SCALED_ROTARY, VOCABULARY, WIDTH,
};
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::conventions::Conventions;
use crate::layers::{
    AttentionInputs, LinearPart, Loader, Rotary, RotaryRule, Rotation, SandwichConfig,
    SandwichLayer, activation, decoder_heads, sandwich_norm,
};
use crate::readout::Pooling;

/// Its entries in the list of families: the whole model, of which texts are served, and the text
/// network alone.
pub fn families() -> Vec<Family> {
    let family = |model_type, architectures, keys, load| Family {
        model_type,
        is: None,
        architectures,
        keys,
        conventions: Conventions::of("PreTrained"),
        files: &[],
        pooling: |_| Some(Pooling::Mean),
        load,
        score: heads::last_token_score,
        language_model: None,
        words: None,
    };
    vec![
        family(
            "embedding_gemma2",
            &["EmbeddingGemma2Model"],
            KEYS,
            |checkpoint, precision, device| {
                let whole: Whole = checkpoint.config()?;
                load(checkpoint, precision, device, &whole.text_config)
            },
        ),
        family(
            "embedding_gemma2_text",
            &["EmbeddingGemma2TextModel"],
            TEXT,
            |checkpoint, precision, device| {
                load(checkpoint, precision, device, &checkpoint.config()?)
            },
        ),
    ]
}

/// Possible prefixes of tensor names.
const PREFIXES: &[&str] = &["", "language_model.", "model.language_model."];

const FULL: &str = "full_attention";
const SLIDING: &str = "sliding_attention";
const TOWER: &str = "images and sound are not supported for this model, texts are";
const BUILDER: &str = "per_layer_config has it";

const KEYS: &[Key] = &[
    ("text_config", Object(&[TEXT, COMMON, GENERATING])),
    ("vision_config", NoEffect(TOWER)),
    ("audio_config", NoEffect(TOWER)),
    ("boi_token_id", NoEffect(TOWER)),
    ("eoi_token_id", NoEffect(TOWER)),
    ("image_token_id", NoEffect(TOWER)),
    ("video_token_id", NoEffect(TOWER)),
    ("boa_token_id", NoEffect(TOWER)),
    ("eoa_token_index", NoEffect(TOWER)),
    ("eoa_token_id", NoEffect(TOWER)),
    ("audio_token_id", NoEffect(TOWER)),
];

const BY_LAYER_TYPE: &[Key] =
    &[(FULL, Object(&[SCALED_ROTARY])), (SLIDING, Object(&[SCALED_ROTARY]))];

const TEXT: &[Key] = &[
    ("vocab_size", VOCABULARY),
    ("hidden_size", WIDTH),
    ("num_hidden_layers", LAYERS),
    ("num_attention_heads", HEADS),
    ("num_key_value_heads", HEADS),
    ("head_dim", WIDTH),
    ("intermediate_size", MLP),
    ("max_position_embeddings", POSITIONS),
    ("rms_norm_eps", EPS),
    ("hidden_activation", Used),
    ("attention_bias", Used),
    ("sliding_window", POSITIONS),
    ("layer_types", Used),
    ("per_layer_config", Used),
    ("global_head_dim", Refused(BUILDER)),
    ("num_global_key_value_heads", Refused(BUILDER)),
    ("sliding_window_pattern", Refused("layer_types has it")),
    ("rope_parameters", Object(&[BY_LAYER_TYPE])),
    ("hidden_size_per_layer_input", WIDTH),
    ("embedding_dim", WIDTH),
];

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Whole {
    text_config: Config,
}

/// Defaults are those of transformers' `EmbeddingGemma2TextConfig`.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Config {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: usize,
    head_dim: usize,
    intermediate_size: usize,
    vocab_size: usize,
    max_position_embeddings: usize,
    rms_norm_eps: f32,
    hidden_activation: String,
    attention_bias: bool,
    sliding_window: usize,
    layer_types: Option<Vec<String>>,
    per_layer_config: Option<BTreeMap<String, LayerConfig>>,
    rope_parameters: Value,
    hidden_size_per_layer_input: usize,
    embedding_dim: usize,
}

/// Sizes of one layer that differ from those of the others.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LayerConfig {
    head_dim: Option<usize>,
    num_key_value_heads: Option<usize>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hidden_size: 512,
            num_hidden_layers: 24,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: 256,
            intermediate_size: 2048,
            vocab_size: 262_144,
            max_position_embeddings: 262_144,
            rms_norm_eps: 1e-6,
            hidden_activation: "gelu_pytorch_tanh".into(),
            attention_bias: false,
            sliding_window: 512,
            layer_types: None,
            per_layer_config: None,
            rope_parameters: Value::Null,
            hidden_size_per_layer_input: 512,
            embedding_dim: 768,
        }
    }
}

impl Config {
    /// Whether a layer sees a window only. As in transformers, the last one never does.
    fn is_local(&self, layer: usize) -> Result<bool, String> {
        let layers = self.num_hidden_layers;
        if layer + 1 == layers {
            return Ok(false);
        }
        let Some(types) = &self.layer_types else { return Ok(!(layer + 1).is_multiple_of(6)) };
        if types.len() != layers {
            return Err(format!("layer_types are {} for {layers} layers", types.len()));
        }
        match types[layer].as_str() {
            FULL => Ok(false),
            SLIDING => Ok(true),
            other => Err(format!("layer_types has {other:?}; supported: {FULL}, {SLIDING}")),
        }
    }

    /// Sizes of a layer.
    fn layer(&self, layer: usize, activation: Activation) -> Result<SandwichConfig, String> {
        let is_local = self.is_local(layer)?;
        let own = match &self.per_layer_config {
            Some(all) => all.get(&layer.to_string()).copied().unwrap_or_default(),
            // As transformers builds it.
            None if is_local => LayerConfig::default(),
            None => LayerConfig { head_dim: Some(512), num_key_value_heads: Some(1) },
        };
        let size = own.head_dim.unwrap_or(self.head_dim);
        let kv_heads = own.num_key_value_heads.unwrap_or(self.num_key_value_heads);
        Ok(SandwichConfig {
            hidden: self.hidden_size,
            heads: decoder_heads(self.num_attention_heads, kv_heads, size)?,
            mlp: self.intermediate_size,
            eps: self.rms_norm_eps,
            activation,
            bias: self.attention_bias,
            mask: if is_local { Mask::Window(self.sliding_window) } else { Mask::Full },
            score_scale: 1.0,
            norms_add_one: false,
            value_norm: true,
        })
    }

    /// Rotary positions of layers of a type.
    fn rule(&self, is_local: bool) -> Result<RotaryRule, String> {
        let (kind, theta) = if is_local { (SLIDING, 1e4) } else { (FULL, 1e6) };
        let object = &self.rope_parameters[kind];
        if self.rope_parameters.is_object() && object.is_null() {
            return Err(format!("rope_parameters has no {kind}"));
        }
        if object.is_object() && (object["rope_type"].is_null() || object["rope_theta"].is_null()) {
            return Err(format!("rope_parameters.{kind} needs rope_type and rope_theta"));
        }
        RotaryRule::of(object, theta, self.max_position_embeddings)
    }
}

#[derive(Debug)]
struct EmbeddingGemma2 {
    embedding: Embedding,
    /// Factor of the embeddings.
    scale: f64,
    layers: Vec<Layer>,
    /// Rotary positions of layers with full attention, and of those with a window.
    rotary: [Rotary; 2],
    /// Norm of what each layer mixes in.
    mixed_norm: Tensor,
    norm: Tensor,
    /// Applied to each token's last hidden state.
    projection: Linear,
    eps: f32,
}

#[derive(Debug)]
struct Layer {
    main: SandwichLayer,
    is_local: bool,
    /// From the first hidden states to what is mixed in.
    first: Linear,
    gate: Linear,
    activation: Activation,
    back: Linear,
    norm: Tensor,
    /// Factor of the hidden states after the layer.
    scale: f64,
}

impl Layer {
    fn load(
        loader: &Loader<'_>,
        config: &Config,
        index: usize,
        sizes: &SandwichConfig,
    ) -> Result<Self, CheckpointError> {
        let (hidden, mixed) = (config.hidden_size, config.hidden_size_per_layer_input);
        let own = loader.at(&format!("layers.{index}."));
        let block = own.at("ple_block.");
        let all = loader.stored(
            "ple.per_layer_model_projection.weight",
            &[config.num_hidden_layers * mixed, hidden],
        )?;
        Ok(Self {
            main: SandwichLayer::load(&own, sizes)?,
            is_local: sizes.mask != Mask::Full,
            first: loader.layer(&all.rows(index * mixed..(index + 1) * mixed))?,
            gate: block.linear(&[LinearPart::new("per_layer_input_gate", mixed)], hidden, false)?,
            activation: sizes.activation,
            back: block.linear(&[LinearPart::new("per_layer_projection", hidden)], mixed, false)?,
            norm: sandwich_norm(&block, "post_per_layer_input_norm", hidden, false, 1.0)?,
            scale: f64::from(own.stored("layer_scalar", &[1])?.to_f32()[0]),
        })
    }

    fn weight_bytes(&self) -> usize {
        let linear = [&self.first, &self.gate, &self.back].map(Linear::weight_bytes);
        self.main.weight_bytes() + linear.iter().sum::<usize>()
    }
}

/// Sizes of all layers, and of the heads of those with full attention and of those with a window.
fn sizes(config: &Config) -> Result<(Vec<SandwichConfig>, [usize; 2]), String> {
    let name = &config.hidden_activation;
    let activation =
        activation(name).ok_or_else(|| format!("hidden_activation {name:?} is not supported"))?;
    for key in config.per_layer_config.iter().flat_map(BTreeMap::keys) {
        let index = key.parse::<usize>().ok().filter(|index| *index < config.num_hidden_layers);
        if index.is_none_or(|index| index.to_string() != *key) {
            return Err(format!("per_layer_config has {key:?}, which is not the index of a layer"));
        }
    }
    let layers = (0..config.num_hidden_layers).map(|index| config.layer(index, activation));
    let layers: Vec<SandwichConfig> = layers.collect::<Result<_, _>>()?;
    let size = |is_local: bool| {
        let mut of_type = layers.iter().filter(|layer| (layer.mask != Mask::Full) == is_local);
        let first = of_type.next().map_or(config.head_dim, |layer| layer.heads.size);
        match of_type.all(|layer| layer.heads.size == first) {
            true => Ok(first),
            false => Err("per_layer_config gives layers of one type heads of several sizes"),
        }
    };
    let heads = [size(false)?, size(true)?];
    Ok((layers, heads))
}

fn load(
    checkpoint: &Checkpoint,
    precision: Precision,
    device: &Device,
    config: &Config,
) -> Result<Network, CheckpointError> {
    let error = |problem: String| checkpoint.config_error(problem);
    let (sizes, heads) = sizes(config).map_err(error)?;
    let weights = checkpoint.weights();
    let prefix = weights.prefix(PREFIXES, "embed_tokens.weight")?;
    let loader = Loader::new(weights, prefix, precision, device);
    let failed = |error| loader.failed(error);
    let rotary = |is_local: bool| -> Result<Rotary, CheckpointError> {
        let rule = config.rule(is_local).map_err(error)?;
        Rotary::by(rule, heads[usize::from(is_local)], device).map_err(failed)
    };
    let layers = sizes.iter().enumerate();
    let layers = layers.map(|(index, sizes)| Layer::load(&loader, config, index, sizes));
    let &Config { hidden_size: hidden, vocab_size: vocabulary, embedding_dim: width, .. } = config;
    let mixed = config.hidden_size_per_layer_input;
    let table = loader.stored("embed_tokens.weight", &[vocabulary, hidden])?;
    // The projection of first hidden states is scaled, which the norm after it undoes but for its
    // epsilon.
    let network = EmbeddingGemma2 {
        embedding: Embedding::new(table, device).map_err(failed)?,
        scale: f64::from((hidden as f64).sqrt() as f32),
        layers: layers.collect::<Result<_, _>>()?,
        rotary: [rotary(false)?, rotary(true)?],
        mixed_norm: sandwich_norm(&loader, "ple.per_layer_projection_norm", mixed, false, 1.0)?,
        norm: sandwich_norm(&loader, "norm", hidden, false, 1.0)?,
        projection: loader.linear(
            &[LinearPart::new("embedding_projection", width)],
            hidden,
            false,
        )?,
        eps: config.rms_norm_eps,
    };
    Ok(Network {
        encoder: Box::new(network),
        width,
        positions: config.max_position_embeddings,
        rotary_positions: true,
        vocabulary,
        token_types: 0,
    })
}

/// A part of a batch between two layers.
struct LayerState {
    hidden: Rows,
    /// The first hidden states.
    embedded: Tensor,
    collector: PrefixCollector,
}

impl EmbeddingGemma2 {
    /// Takes a part of a batch through a layer.
    fn forward(
        &self,
        part: &BatchPart,
        LayerState { mut hidden, embedded, mut collector }: LayerState,
        layer: &Layer,
        inputs: AttentionInputs<'_>,
    ) -> Result<LayerState, KernelError> {
        layer.main.forward(part, &mut hidden, &mut collector, inputs)?;
        let first = layer.first.forward(&embedded)?;
        let scaled = (first / self.scale)?;
        let mixed = rms_norm(&scaled, &self.mixed_norm, self.eps)?;
        let x = hidden.tensor()?;
        let gate = layer.gate.forward_with(&x, Some(layer.activation), None)?;
        let back = layer.back.forward(&(gate * mixed)?)?;
        let added = (x + rms_norm(&back, &layer.norm, self.eps)?)?;
        let hidden = Rows::of(&(added * layer.scale)?)?;
        Ok(LayerState { hidden, embedded, collector })
    }
}

impl Encoder for EmbeddingGemma2 {
    fn run(&self, batch: &RaggedBatch, pause: &dyn Fn()) -> Result<HiddenStates, KernelError> {
        let positions = batch.positions();
        let longest = positions.iter().max().map_or(0, |position| *position as usize + 1);
        let [full, local] = &self.rotary;
        let (full, local) = (full.tables(longest)?, local.tables(longest)?);
        let embedded = self.embedding.rows_of(batch.tokens())?.tensor()?;
        let hidden = Rows::of(&(embedded * self.scale)?)?;
        let weight_bytes = self.layers.first().map_or(0, Layer::weight_bytes);
        let mut parts = InParts::new(batch, hidden, weight_bytes, |part, hidden| {
            let embedded = hidden.tensor()?.copy()?;
            Ok(LayerState { hidden, embedded, collector: batch.prefix_collector(part) })
        })?;
        for (index, layer) in self.layers.iter().enumerate() {
            let cached = batch.cached(index);
            let tables: &RotaryTables = if layer.is_local { &local } else { &full };
            let rotation = Rotation { positions: &positions, tables };
            parts.step(pause, |part, state| {
                let inputs =
                    AttentionInputs { cached: &cached, rotation: rotation.of_rows(part.rows()) };
                self.forward(part, state, layer, inputs)
            })?;
        }
        let hidden = parts.finish().into_iter().map(|state| state.hidden).collect();
        let states = HiddenStates::new(&Rows::joined(hidden)?, batch)?;
        let normed = rms_norm(&states.rows, &self.norm, self.eps)?;
        Ok(HiddenStates { rows: self.projection.forward(&normed)?, ..states })
    }
}
