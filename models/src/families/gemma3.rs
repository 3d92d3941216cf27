//! Gemma 3, its text network: a decoder with norms before and after attention and MLP, and windows
//! in most layers; with full attention, the encoder of EmbeddingGemma (Gemma 3 technical report,
//! 2025; Vera et al., 2025; transformers `modeling_gemma3.py`).
//!
//! Must not know: templates, pooling, devices.

use proxima_kernels::ops::attention::attention_for;
use proxima_kernels::ops::embedding::Embedding;
use proxima_kernels::ops::linear::{GatedLinear, Linear};
use proxima_kernels::ops::norm::{rms_norm, rms_norm_for};
use proxima_kernels::ops::rotary::{RotaryTables, rotary};
use proxima_kernels::ops::rows::Rows;
use proxima_kernels::spec::{Activation, HeadNorms, Heads, Mask, Precision};
use proxima_kernels::{Device, KernelError, Tensor};
use serde::Deserialize;
use serde_json::Value;

use super::{Family, LanguageModel, Network, heads, llama};
use crate::batch::{Encoder, HiddenStates, InParts, Keeping, Part, RaggedBatch};
use crate::checkpoint::keys::Rule::{Fixed, NoEffect, Object, Refused, Used};
use crate::checkpoint::keys::config::{
    EPS, HEADS, LAYERS, MLP, POSITIONS, SCALED_ROTARY, THETA, VOCABULARY, WIDTH,
};
use crate::checkpoint::keys::{Is, Key};
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::layers::{Loader, Rotary, RotaryRule, activation, decoder_heads};

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
const CAPPED: &str = "scores that are capped are not served";

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
            other => Err(format!("layer_types has {other:?}; served: {FULL}, {SLIDING}")),
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
        // For layers with full attention only, whose settings it adds to.
        if let (false, Some(scaling)) = (is_local, self.rope_scaling.as_object()) {
            if object.is_null() {
                object = Value::Object(serde_json::Map::new());
            }
            scaling.iter().for_each(|(key, value)| object[key] = value.clone());
        }
        if object.get("truncate").is_some() {
            // transformers looks for it in another object.
            return Err("truncate of rotary positions is not served for gemma3_text".into());
        }
        RotaryRule::of(&object, theta, self.max_position_embeddings)
    }
}

struct Gemma3 {
    embedding: Embedding,
    /// Of embeddings.
    scale: f64,
    layers: Vec<Layer>,
    norm: Tensor,
    heads: Heads,
    eps: f32,
    full: Rotary,
    local: Rotary,
}

struct Layer {
    input_norm: Tensor,
    qkv: Linear,
    head_norms: HeadNorms,
    output: Linear,
    attention_norm: Tensor,
    mlp_norm: Tensor,
    gated: GatedLinear,
    down: Linear,
    output_norm: Tensor,
    mask: Mask,
    is_local: bool,
}

impl Layer {
    fn load(
        loader: &Loader<'_>,
        config: &Config,
        (heads, activation): (Heads, Activation),
        (mask, is_local): (Mask, bool),
    ) -> Result<Self, CheckpointError> {
        let &Config { hidden_size: hidden, intermediate_size: mlp, rms_norm_eps: eps, .. } = config;
        let (queries, keys) = (heads.heads * heads.size, heads.kv_heads * heads.size);
        let attention = loader.at("self_attn.");
        let parts = [("q_proj", queries), ("k_proj", keys), ("v_proj", keys)];
        let norm = |name: &str| loader.vector_and_one(&format!("{name}.weight"), hidden, 1.0);
        // Attention divides scores by the root of the size of heads; this makes it that of
        // query_pre_attn_scalar.
        let factor = (heads.size as f64 / config.query_pre_attn_scalar).sqrt() as f32;
        let widths = (mlp, GatedLinear::padded(mlp));
        Ok(Self {
            input_norm: norm("input_layernorm")?,
            qkv: attention.linear(&parts, hidden, config.attention_bias)?,
            head_norms: HeadNorms {
                queries: attention.vector_and_one("q_norm.weight", heads.size, factor)?,
                keys: attention.vector_and_one("k_norm.weight", heads.size, 1.0)?,
                eps,
            },
            output: attention.linear(&[("o_proj", hidden)], queries, config.attention_bias)?,
            attention_norm: norm("post_attention_layernorm")?,
            mlp_norm: norm("pre_feedforward_layernorm")?,
            gated: loader.gated(("mlp.gate_proj", "mlp.up_proj"), (hidden, mlp), activation)?,
            down: loader.linear_padded(&[("mlp.down_proj", hidden)], widths, false)?,
            output_norm: norm("post_feedforward_layernorm")?,
            mask,
            is_local,
        })
    }

    fn weight_bytes(&self) -> usize {
        let linear = [&self.qkv, &self.output, &self.down].map(Linear::weight_bytes);
        self.gated.weight_bytes() + linear.iter().sum::<usize>()
    }
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
        .ok_or_else(|| error(format!("hidden_activation {name:?} is not served")))?;
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
        let mask = config.mask(is_local).map_err(error)?;
        let loader = loader.at(&format!("layers.{index}."));
        Layer::load(&loader, &config, (heads, activation), (mask, is_local))
    };
    let table = loader.stored("embed_tokens.weight", &[config.vocab_size, config.hidden_size])?;
    let network = Gemma3 {
        embedding: Embedding::new(table, device).map_err(failed)?,
        scale: f64::from((config.hidden_size as f64).sqrt() as f32),
        layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_, _>>()?,
        norm: loader.vector_and_one("norm.weight", config.hidden_size, 1.0)?,
        heads,
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
struct State {
    hidden: Rows,
    keeping: Keeping,
}

impl Gemma3 {
    /// Takes a part of a batch through a layer, given its rows' positions and the rotary tables.
    fn forward(
        &self,
        part: &Part,
        State { mut hidden, mut keeping }: State,
        (layer, kept): (&Layer, &[&Tensor]),
        (positions, tables): (&[u32], &RotaryTables),
    ) -> Result<State, KernelError> {
        let normed = rms_norm_for(&hidden, &layer.input_norm, self.eps, layer.qkv.input_layout())?;
        let qkv = layer.qkv.of(&normed, None, None)?;
        let qkv = rotary(qkv, self.heads, Some(&layer.head_norms), positions, tables)?;
        keeping.take(&qkv, self.heads.heads * self.heads.size)?;
        let rows = (part.segments(), kept);
        let mixed = attention_for(&qkv, self.heads, rows, layer.mask, &layer.output)?;
        self.add(&mut hidden, &layer.output.of(&mixed, None, None)?, &layer.attention_norm)?;
        let normed = rms_norm_for(&hidden, &layer.mlp_norm, self.eps, layer.gated.input_layout())?;
        let gated = layer.gated.apply_for(&normed, layer.down.input_layout())?;
        self.add(&mut hidden, &layer.down.of(&gated, None, None)?, &layer.output_norm)?;
        Ok(State { hidden, keeping })
    }

    /// Normalises what a layer gives and adds it to the hidden states.
    fn add(&self, hidden: &mut Rows, given: &Rows, norm: &Tensor) -> Result<(), KernelError> {
        let [rows, _] = given.shape()?;
        let normed = Rows::of(&rms_norm(&given.tensor()?, norm, self.eps)?)?;
        hidden.put(0, &normed, 0..rows, true)
    }
}

impl Encoder for Gemma3 {
    fn run(&self, batch: &RaggedBatch, pause: &dyn Fn()) -> Result<HiddenStates, KernelError> {
        let positions = batch.positions();
        let longest = positions.iter().max().map_or(0, |position| *position as usize + 1);
        let (full, local) = (self.full.tables(longest)?, self.local.tables(longest)?);
        let embedded = self.embedding.rows_of(batch.tokens())?.tensor()?;
        let hidden = Rows::of(&(embedded * self.scale)?)?;
        let weight_bytes = self.layers.first().map_or(0, Layer::weight_bytes);
        let mut parts = InParts::new(batch, hidden, weight_bytes, |part, hidden| {
            Ok(State { hidden, keeping: batch.keeping(part) })
        })?;
        for (place, layer) in self.layers.iter().enumerate() {
            let kept = batch.cached(place);
            let tables: &RotaryTables = if layer.is_local { &local } else { &full };
            parts.step(pause, |part, state| {
                let turn = (&positions[part.rows()], tables);
                self.forward(part, state, (layer, &kept), turn)
            })?;
        }
        let (hidden, keeping) =
            parts.finish().into_iter().map(|state| (state.hidden, state.keeping)).unzip();
        let states = HiddenStates::new(&Rows::joined(hidden)?, batch)?;
        let rows = rms_norm(&states.rows, &self.norm, self.eps)?;
        Ok(HiddenStates { rows, prefixes: batch.new_prefixes(keeping), ..states })
    }

    fn is_causal(&self) -> bool {
        self.layers.iter().all(|layer| layer.mask.is_causal())
    }
}
