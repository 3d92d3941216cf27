//! Gemma 3, its text network: a decoder with norms before and after attention and MLP, and windows
//! in most layers; with full attention, the encoder of EmbeddingGemma (Gemma 3 technical report,
//! 2025; Vera et al., 2025; transformers `modeling_gemma3.py`).
//!
//! Must not know: templates, pooling, devices.

use proxima_kernels::ops::embedding::Embedding;
use proxima_kernels::ops::norm::rms_norm;
use proxima_kernels::ops::rotary::RotaryTables;
use proxima_kernels::ops::rows::Rows;
use proxima_kernels::spec::{Mask, Precision};
use proxima_kernels::{Device, KernelError, Tensor};
use serde::Deserialize;
use serde_json::Value;

use super::{Family, LanguageModel, Network, heads, llama};
use crate::batch::{Encoder, HiddenStates, InParts, PrefixCollector, RaggedBatch};
use crate::checkpoint::keys::Rule::{Fixed, NoEffect, Object, Refused, Used};
use crate::checkpoint::keys::config::{
    EPS, HEADS, LAYERS, MLP, POSITIONS, SCALED_ROTARY, THETA, VOCABULARY, WIDTH,
};
use crate::checkpoint::keys::{Is, Key};
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::conventions::Conventions;
use crate::layers::{
    AttentionInputs, Loader, Rotary, RotaryRule, Rotation, SandwichConfig, SandwichLayer,
    activation, decoder_heads, sandwich_norm,
};

/// Its entry in the list of families.
pub fn family() -> Family {
    Family {
        model_type: "gemma3_text",
        is: None,
        architectures: &[
            "Gemma3TextModel",
            "Gemma3ForCausalLM",
            "Gemma3TextForSequenceClassification",
        ],
        keys: KEYS,
        conventions: Conventions::of("Gemma"),
        files: &[],
        // Embedders pool the mean or the last token, so a checkpoint that sets neither is refused.
        pooling: |_| None,
        load,
        score: heads::last_token_score,
        language_model: Some(LanguageModel {
            tied: true,
            ..llama::language_model(&["Gemma3TextModel"])
        }),
        words: None,
    }
}

/// Rotary positions of each type of layer.
const BY_LAYER_TYPE: &[Key] =
    &[(FULL, Object(&[SCALED_ROTARY])), (SLIDING, Object(&[SCALED_ROTARY]))];
const FULL: &str = "full_attention";
const SLIDING: &str = "sliding_attention";
const CAPPED: &str = "scores that are capped are not supported";

const KEYS: &[Key] = &[
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
    ("query_pre_attn_scalar", Used),
    ("sliding_window", Used),
    ("sliding_window_pattern", Used),
    ("_sliding_window_pattern", NoEffect("layer_types says it, or else sliding_window_pattern")),
    ("layer_types", Used),
    ("use_bidirectional_attention", Used),
    ("is_causal", Fixed(&[Is::Bool(true)])),
    ("is_decoder", NoEffect("use_bidirectional_attention says what a token sees")),
    ("partial_rotary_factor", Fixed(&[Is::Number(1.0)])),
    ("rope_theta", THETA),
    ("rope_local_base_freq", THETA),
    ("rope_parameters", Object(&[BY_LAYER_TYPE])),
    ("rope_scaling", Object(&[SCALED_ROTARY])),
    ("attn_logit_softcapping", Refused(CAPPED)),
    ("final_logit_softcapping", NoEffect("for words that are generated")),
    ("hidden_act", NoEffect("transformers reads hidden_activation")),
    ("cache_implementation", NoEffect("for generating text")),
];

/// Defaults are those of transformers' `Gemma3TextConfig`.
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
    query_pre_attn_scalar: f64,
    sliding_window: usize,
    sliding_window_pattern: usize,
    layer_types: Option<Vec<String>>,
    use_bidirectional_attention: Option<bool>,
    rope_theta: f64,
    rope_local_base_freq: f64,
    rope_parameters: Value,
    rope_scaling: Value,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hidden_size: 2304,
            num_hidden_layers: 26,
            num_attention_heads: 8,
            num_key_value_heads: 4,
            head_dim: 256,
            intermediate_size: 9216,
            vocab_size: 262_208,
            max_position_embeddings: 131_072,
            rms_norm_eps: 1e-6,
            hidden_activation: "gelu_pytorch_tanh".into(),
            attention_bias: false,
            query_pre_attn_scalar: 256.0,
            sliding_window: 4096,
            sliding_window_pattern: 6,
            layer_types: None,
            use_bidirectional_attention: None,
            rope_theta: 1e6,
            rope_local_base_freq: 1e4,
            rope_parameters: Value::Null,
            rope_scaling: Value::Null,
        }
    }
}

impl Config {
    /// Whether a layer sees a window only.
    fn is_local(&self, layer: usize) -> Result<bool, String> {
        let Some(types) = &self.layer_types else {
            let pattern = self.sliding_window_pattern;
            return match pattern {
                0 => Err("sliding_window_pattern must be at least 1".into()),
                _ => Ok(!(layer + 1).is_multiple_of(pattern)),
            };
        };
        if types.len() != self.num_hidden_layers {
            let (types, layers) = (types.len(), self.num_hidden_layers);
            return Err(format!("layer_types are {types} for {layers} layers"));
        }
        match types[layer].as_str() {
            FULL => Ok(false),
            SLIDING => Ok(true),
            other => Err(format!("layer_types has {other:?}; supported: {FULL}, {SLIDING}")),
        }
    }

    fn is_bidirectional(&self) -> bool {
        self.use_bidirectional_attention == Some(true)
    }

    fn mask(&self, is_local: bool) -> Result<Mask, String> {
        if is_local && self.sliding_window == 0 {
            return Err("sliding_window must be at least 1".into());
        }
        Ok(match (self.is_bidirectional(), is_local) {
            (true, false) => Mask::Full,
            // transformers turns the configured window into one on either side.
            (true, true) => Mask::Window(self.sliding_window / 2),
            (false, false) => Mask::Causal,
            (false, true) => Mask::CausalWindow(self.sliding_window - 1),
        })
    }

    /// Rotary positions of layers of a type.
    fn rule(&self, is_local: bool) -> Result<RotaryRule, String> {
        let (kind, theta) = match is_local {
            true => (SLIDING, self.rope_local_base_freq),
            false => (FULL, self.rope_theta),
        };
        let mut keys = self.rope_parameters.as_object().into_iter().flatten();
        if let Some((key, _)) = keys.find(|(key, _)| ![FULL, SLIDING].contains(&key.as_str())) {
            return Err(format!("rope_parameters has {key}; it needs {FULL} and {SLIDING}"));
        }
        if self.rope_scaling.get("type").is_some() && self.rope_scaling.get("rope_type").is_none()
            || self.rope_scaling.get("rope_theta").is_some()
        {
            // transformers merges the object into another and does not read these there.
            return Err("rope_scaling needs rope_type, not type, and no rope_theta".into());
        }
        let mut object = self.rope_parameters[kind].clone();
        // rope_scaling is merged into the settings of full-attention layers only.
        if let (false, Some(scaling)) = (is_local, self.rope_scaling.as_object()) {
            if object.is_null() {
                object = Value::Object(serde_json::Map::new());
            }
            scaling.iter().for_each(|(key, value)| object[key] = value.clone());
        }
        if object.get("truncate").is_some() {
            // transformers looks for it in another object.
            return Err("truncate of rotary positions is not supported for gemma3_text".into());
        }
        RotaryRule::of(&object, theta, self.max_position_embeddings)
    }
}

struct Gemma3 {
    embedding: Embedding,
    /// Factor of the embeddings.
    scale: f64,
    layers: Vec<(SandwichLayer, Attends)>,
    norm: Tensor,
    eps: f32,
    full: Rotary,
    local: Rotary,
}

/// What a layer sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attends {
    Full,
    Local,
}

fn load(
    checkpoint: &Checkpoint,
    precision: Precision,
    device: &Device,
) -> Result<Network, CheckpointError> {
    let config: Config = checkpoint.config()?;
    let error = |problem: String| checkpoint.config_error(problem);
    let scalar = config.query_pre_attn_scalar;
    if !(1e-3..=1e6).contains(&scalar) {
        return Err(error("query_pre_attn_scalar must be from 0.001 to 1000000".into()));
    }
    let heads =
        decoder_heads(config.num_attention_heads, config.num_key_value_heads, config.head_dim);
    let heads = heads.map_err(error)?;
    let name = &config.hidden_activation;
    let activation = activation(name)
        .ok_or_else(|| error(format!("hidden_activation {name:?} is not supported")))?;
    let weights = checkpoint.weights();
    let prefix = weights.prefix(&["", "model."], "embed_tokens.weight")?;
    let loader = Loader::new(weights, prefix, precision, device);
    let failed = |error| loader.failed(error);
    let rotary = |is_local: bool| -> Result<Rotary, CheckpointError> {
        let rule = config.rule(is_local).map_err(error)?;
        Rotary::by(rule, heads.size, device).map_err(failed)
    };
    let layer = |index: usize| {
        let is_local = config.is_local(index).map_err(error)?;
        let sizes = SandwichConfig {
            hidden: config.hidden_size,
            heads,
            mlp: config.intermediate_size,
            eps: config.rms_norm_eps,
            activation,
            bias: config.attention_bias,
            mask: config.mask(is_local).map_err(error)?,
            score_scale: scalar,
            norms_add_one: true,
            value_norm: false,
        };
        let layer = SandwichLayer::load(&loader.at(&format!("layers.{index}.")), &sizes)?;
        Ok((layer, if is_local { Attends::Local } else { Attends::Full }))
    };
    let table = loader.stored("embed_tokens.weight", &[config.vocab_size, config.hidden_size])?;
    let network = Gemma3 {
        embedding: Embedding::new(table, device).map_err(failed)?,
        scale: f64::from((config.hidden_size as f64).sqrt() as f32),
        layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_, _>>()?,
        norm: sandwich_norm(&loader, "norm", config.hidden_size, true, 1.0)?,
        eps: config.rms_norm_eps,
        full: rotary(false)?,
        local: rotary(true)?,
    };
    Ok(Network {
        encoder: Box::new(network),
        width: config.hidden_size,
        positions: config.max_position_embeddings,
        rotary_positions: true,
        vocabulary: config.vocab_size,
        token_types: 0,
    })
}

/// A part of a batch between two layers.
struct LayerState {
    hidden: Rows,
    collector: PrefixCollector,
}

impl Encoder for Gemma3 {
    fn run(&self, batch: &RaggedBatch, pause: &dyn Fn()) -> Result<HiddenStates, KernelError> {
        let positions = batch.positions();
        let longest = positions.iter().max().map_or(0, |position| *position as usize + 1);
        let (full, local) = (self.full.tables(longest)?, self.local.tables(longest)?);
        let embedded = self.embedding.rows_of(batch.tokens())?.tensor()?;
        let hidden = Rows::of(&(embedded * self.scale)?)?;
        let weight_bytes = self.layers.first().map_or(0, |(layer, _)| layer.weight_bytes());
        let mut parts = InParts::new(batch, hidden, weight_bytes, |part, hidden| {
            Ok(LayerState { hidden, collector: batch.prefix_collector(part) })
        })?;
        for (index, (layer, attends)) in self.layers.iter().enumerate() {
            let cached = batch.cached(index);
            let tables: &RotaryTables = if *attends == Attends::Local { &local } else { &full };
            let rotation = Rotation { positions: &positions, tables };
            parts.step(pause, |part, mut state| {
                let inputs =
                    AttentionInputs { cached: &cached, rotation: rotation.of_rows(part.rows()) };
                layer.forward(part, &mut state.hidden, &mut state.collector, inputs)?;
                Ok(state)
            })?;
        }
        let (hidden, collectors) =
            parts.finish().into_iter().map(|state| (state.hidden, state.collector)).unzip();
        let states = HiddenStates::new(&Rows::joined(hidden)?, batch)?;
        let rows = rms_norm(&states.rows, &self.norm, self.eps)?;
        Ok(HiddenStates { rows, prefixes: batch.new_prefixes(collectors), ..states })
    }

    fn is_causal(&self) -> bool {
        self.layers.iter().all(|(layer, _)| layer.is_causal())
    }
}
