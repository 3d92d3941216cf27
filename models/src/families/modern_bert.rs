//! ModernBERT: a pre-norm bidirectional encoder with rotary positions, gated MLPs, and a sliding
//! window in all but every third layer (Warner et al., 2024; transformers
//! `modeling_modernbert.py`). Embedders such as gte-modernbert, cross-encoders such as
//! gte-reranker-modernbert.
//!
//! Must not know: templates, devices.

use proxima_kernels::ops::attention::attention_for;
use proxima_kernels::ops::embedding::Embedding;
use proxima_kernels::ops::linear::{GatedLinear, Linear};
use proxima_kernels::ops::linear_input::LinearInput;
use proxima_kernels::ops::rotary::{RotaryTables, rotary};
use proxima_kernels::ops::rows::Rows;
use proxima_kernels::spec::{Activation, Heads, Mask, Precision};
use proxima_kernels::{Device, KernelError};
use serde::Deserialize;
use serde_json::Value;

use super::{Family, Network};
use crate::batch::{BatchPart, Encoder, HiddenStates, InParts, RaggedBatch};
use crate::checkpoint::keys::Rule::{NoEffect, Object, Only, Refused, Size, Used};
use crate::checkpoint::keys::config::{
    EPS, HEADS, LAYERS, MLP, POSITIONS, ROTARY, THETA, VOCABULARY, WIDTH,
};
use crate::checkpoint::keys::{Is, Key};
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::conventions::Conventions;
use crate::layers::{LayerNorm, LinearPart, Loader, Rotary, Rotation, activation};
use crate::readout::{HeadLayer, Pooling, ScoreReadout, WordsHead};

/// Its entry in the list of families.
pub fn family() -> Family {
    Family {
        model_type: "modernbert",
        is: None,
        architectures: &[
            "ModernBertModel",
            "ModernBertForMaskedLM",
            "ModernBertForSequenceClassification",
        ],
        keys: KEYS,
        conventions: Conventions::fixed("PreTrained"),
        files: &[],
        // Both CLS and mean pooling are common, so a checkpoint that sets neither is refused.
        pooling: |_| None,
        load,
        score,
        language_model: None,
        words: Some(words),
    }
}

const TRAINING: &str = "for training";
const NOT_READ: &str = "published files have it; transformers does not read it for this type";

/// Its own keys of `config.json`.
const KEYS: &[Key] = &[
    ("vocab_size", VOCABULARY),
    ("hidden_size", WIDTH),
    ("num_hidden_layers", LAYERS),
    ("num_attention_heads", HEADS),
    ("intermediate_size", MLP),
    ("max_position_embeddings", POSITIONS),
    ("norm_eps", EPS),
    ("norm_bias", Used),
    ("attention_bias", Used),
    ("mlp_bias", Used),
    ("decoder_bias", Only(&[Is::Bool(true)])),
    ("hidden_activation", Used),
    ("global_rope_theta", THETA),
    ("local_rope_theta", THETA),
    ("global_attn_every_n_layers", LAYERS),
    ("local_attention", POSITIONS),
    ("sliding_window", Size(0, 1 << 24)),
    ("layer_types", Used),
    ("rope_scaling", Object(&[ROTARY])),
    ("rope_parameters", Object(&[BY_LAYER_TYPE, ROTARY])),
    ("classifier_pooling", Used),
    ("classifier_bias", Used),
    ("classifier_activation", Used),
    ("initializer_cutoff_factor", NoEffect(TRAINING)),
    ("embedding_dropout", NoEffect(TRAINING)),
    ("mlp_dropout", NoEffect(TRAINING)),
    ("sparse_prediction", NoEffect(TRAINING)),
    ("sparse_pred_ignore_index", NoEffect(TRAINING)),
    ("repad_logits_with_grad", NoEffect(TRAINING)),
    ("deterministic_flash_attn", NoEffect("the answers are the same")),
    ("unpad_embeddings", NoEffect("nothing is padded, and the answers are the same")),
    ("unpad_no_grad", NoEffect(TRAINING)),
    ("pad_logits", NoEffect("nothing is padded, and the answers are the same")),
    ("causal_mask", Refused("this network is supported with full attention only")),
    ("reference_compile", NoEffect("the answers are the same")),
    ("hidden_act", NoEffect(NOT_READ)),
    ("layer_norm_eps", NoEffect(NOT_READ)),
    ("position_embedding_type", NoEffect(NOT_READ)),
    ("type_vocab_size", NoEffect(NOT_READ)),
];

/// Layer types, global and local, as named in `rope_parameters`.
const KINDS: [&str; 2] = ["full_attention", "sliding_attention"];

/// Rotary positions of each layer type.
const BY_LAYER_TYPE: &[Key] =
    &[("full_attention", Object(&[ROTARY])), ("sliding_attention", Object(&[ROTARY]))];

/// Defaults are those of transformers' `ModernBertConfig`.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Config {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    vocab_size: usize,
    max_position_embeddings: usize,
    norm_eps: f32,
    norm_bias: bool,
    attention_bias: bool,
    mlp_bias: bool,
    hidden_activation: String,
    global_rope_theta: f64,
    local_rope_theta: f64,
    global_attn_every_n_layers: usize,
    local_attention: usize,
    /// Half of `local_attention`, over which it takes precedence.
    sliding_window: Option<usize>,
    /// The type of each layer; newer files have it instead of `global_attn_every_n_layers`.
    layer_types: Option<Vec<LayerType>>,
    rope_scaling: Value,
    rope_parameters: Value,
    classifier_pooling: ClassifierPooling,
    classifier_bias: bool,
    classifier_activation: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            num_hidden_layers: 22,
            num_attention_heads: 12,
            intermediate_size: 1152,
            vocab_size: 50_368,
            max_position_embeddings: 8192,
            norm_eps: 1e-5,
            norm_bias: false,
            attention_bias: false,
            mlp_bias: false,
            hidden_activation: "gelu".into(),
            global_rope_theta: 160_000.0,
            local_rope_theta: 10_000.0,
            global_attn_every_n_layers: 3,
            local_attention: 128,
            sliding_window: None,
            layer_types: None,
            rope_scaling: Value::Null,
            rope_parameters: Value::Null,
            classifier_pooling: ClassifierPooling::Cls,
            classifier_bias: false,
            classifier_activation: "gelu".into(),
        }
    }
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ClassifierPooling {
    #[default]
    Cls,
    Mean,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LayerType {
    FullAttention,
    SlidingAttention,
}

impl Config {
    fn check(&self) -> Result<(Heads, Activation), String> {
        let (hidden, heads) = (self.hidden_size, self.num_attention_heads);
        if heads == 0 || hidden == 0 || !hidden.is_multiple_of(2 * heads) {
            return Err(format!("hidden_size {hidden} does not divide into {heads} even heads"));
        }
        if self.global_attn_every_n_layers == 0 || self.intermediate_size == 0 {
            return Err("sizes must be at least 1".into());
        }
        let layers = self.num_hidden_layers;
        if let Some(types) = self.layer_types.as_ref().filter(|types| types.len() != layers) {
            return Err(format!("{} layer_types for {layers} layers", types.len()));
        }
        if self.mlp_bias {
            return Err("an MLP with biases (mlp_bias) is not supported for modernbert".into());
        }
        self.check_rotary()?;
        let activation = activation(&self.hidden_activation).ok_or_else(|| {
            format!("hidden_activation {:?} is not supported", self.hidden_activation)
        })?;
        Ok((Heads { heads, kv_heads: heads, size: hidden / heads }, activation))
    }

    fn classifier_activation(
        &self,
        checkpoint: &Checkpoint,
    ) -> Result<Activation, CheckpointError> {
        let name = &self.classifier_activation;
        activation(name).ok_or_else(|| {
            checkpoint.config_error(format!("classifier_activation {name:?} is not supported"))
        })
    }

    /// Refuses scaled rotary positions, and those for an unknown layer type.
    fn check_rotary(&self) -> Result<(), String> {
        let by_kind = self.rope_parameters.as_object().into_iter().flatten();
        for (key, parameters) in by_kind.clone() {
            if !KINDS.contains(&key.as_str()) || !parameters.is_object() {
                return Err(format!(
                    "rope_parameters.{key} is {parameters}: rotary positions of modernbert are \
                     objects, one for full_attention and one for sliding_attention"
                ));
            }
        }
        let all = by_kind.map(|(_, parameters)| parameters).chain([&self.rope_scaling]);
        let kinds = all.filter_map(|parameters| {
            parameters.get("rope_type").or_else(|| parameters.get("type"))
        });
        match kinds.into_iter().find(|kind| *kind != "default") {
            None => Ok(()),
            Some(kind) => Err(format!(
                "rope_scaling or rope_parameters has rope_type {kind}; scaled rotary positions are \
                 not supported"
            )),
        }
    }

    /// Whether a layer has sliding-window attention.
    fn is_local(&self, layer: usize) -> bool {
        match self.layer_types.as_ref().and_then(|types| types.get(layer)) {
            Some(kind) => *kind == LayerType::SlidingAttention,
            None => !layer.is_multiple_of(self.global_attn_every_n_layers),
        }
    }

    /// How many positions to either side a local layer attends to.
    fn window(&self) -> usize {
        self.sliding_window.unwrap_or(self.local_attention / 2)
    }

    /// Rotary thetas of global and local layers. Newer files set them by layer type; an older
    /// object sets both and takes precedence.
    fn thetas(&self) -> (f64, f64) {
        let of = |parameters: Option<&Value>| parameters?.get("rope_theta")?.as_f64();
        let newer = |kind: &str| of(self.rope_parameters.get(kind));
        let both = of(Some(&self.rope_scaling));
        let global = both.or(newer(KINDS[0])).unwrap_or(self.global_rope_theta);
        (global, both.or(newer(KINDS[1])).unwrap_or(self.local_rope_theta))
    }
}

struct ModernBert {
    words: Embedding,
    norm: LayerNorm,
    layers: Vec<Layer>,
    final_norm: LayerNorm,
    heads: Heads,
    global: Rotary,
    local: Rotary,
}

struct Layer {
    /// `None` in the first layer, whose input is already normalised.
    attention_norm: Option<LayerNorm>,
    qkv: Linear,
    output: Linear,
    mlp_norm: LayerNorm,
    gated: GatedLinear,
    down: Linear,
    mask: Mask,
}

fn load(
    checkpoint: &Checkpoint,
    precision: Precision,
    device: &Device,
) -> Result<Network, CheckpointError> {
    let config: Config = checkpoint.config()?;
    let (heads, activation) = config.check().map_err(|problem| checkpoint.config_error(problem))?;
    let weights = checkpoint.weights();
    let prefix = weights.prefix(&["", "model."], "embeddings.tok_embeddings.weight")?;
    let loader = Loader::new(weights, prefix, precision, device);
    let (width, eps, bias) = (config.hidden_size, config.norm_eps, config.norm_bias);
    let norm = |name: &str| LayerNorm::load(&loader, name, width, eps, bias);
    let table = loader.stored("embeddings.tok_embeddings.weight", &[config.vocab_size, width])?;
    let failed = |error| loader.failed(error);
    let layers = (0..config.num_hidden_layers).map(|layer| {
        Layer::load(&loader.at(&format!("layers.{layer}.")), &config, layer, activation)
    });
    let (global, local) = config.thetas();
    let network = ModernBert {
        layers: layers.collect::<Result<_, _>>()?,
        words: Embedding::new(table, device).map_err(failed)?,
        norm: norm("embeddings.norm")?,
        final_norm: norm("final_norm")?,
        heads,
        global: Rotary::new(global, heads.size, device).map_err(failed)?,
        local: Rotary::new(local, heads.size, device).map_err(failed)?,
    };
    Ok(Network {
        encoder: Box::new(network),
        width,
        positions: config.max_position_embeddings,
        vocabulary: config.vocab_size,
        token_types: 0,
        rotary_positions: true,
    })
}

impl Layer {
    fn weight_bytes(&self) -> usize {
        let linear = [&self.qkv, &self.output, &self.down].map(Linear::weight_bytes);
        self.gated.weight_bytes() + linear.iter().sum::<usize>()
    }

    fn load(
        loader: &Loader<'_>,
        config: &Config,
        layer: usize,
        activation: Activation,
    ) -> Result<Self, CheckpointError> {
        let (hidden, mlp, bias) =
            (config.hidden_size, config.intermediate_size, config.attention_bias);
        let norm =
            |name: &str| LayerNorm::load(loader, name, hidden, config.norm_eps, config.norm_bias);
        let local = config.is_local(layer);
        let padded = GatedLinear::padded(mlp);
        Ok(Self {
            attention_norm: (layer > 0).then(|| norm("attn_norm")).transpose()?,
            qkv: loader.linear(&[LinearPart::new("attn.Wqkv", 3 * hidden)], hidden, bias)?,
            output: loader.linear(&[LinearPart::new("attn.Wo", hidden)], hidden, bias)?,
            mlp_norm: norm("mlp_norm")?,
            gated: loader.gated_of_one("mlp.Wi", hidden, mlp, activation, true)?,
            down: loader.linear_padded(&[LinearPart::new("mlp.Wo", hidden)], mlp, padded, false)?,
            mask: if local { Mask::Window(config.window()) } else { Mask::Full },
        })
    }
}

/// Dense layer, activation and norm over the pooled vector, then the output layer.
fn score(
    checkpoint: &Checkpoint,
    width: usize,
    device: &Device,
) -> Result<ScoreReadout, CheckpointError> {
    let config: Config = checkpoint.config()?;
    let activation = config.classifier_activation(checkpoint)?;
    let loader = Loader::new(checkpoint.weights(), "", Precision::Float32, device);
    let norm = LayerNorm::load(&loader, "head.norm", width, config.norm_eps, config.norm_bias)?;
    let labels = checkpoint.labels()?;
    let layers = vec![
        HeadLayer::load(&loader, "head.dense", width, width, config.classifier_bias)?
            .with_activation(activation)
            .with_norm(norm),
        HeadLayer::load(&loader, "classifier", width, labels.len(), true)?,
    ];
    let pooling = match config.classifier_pooling {
        ClassifierPooling::Cls => Pooling::Cls,
        ClassifierPooling::Mean => Pooling::Mean,
    };
    Ok(ScoreReadout::new(pooling, layers, labels))
}

/// Dense layer, activation and norm, then one logit per word.
fn words(
    checkpoint: &Checkpoint,
    network: &Network,
    device: &Device,
) -> Result<WordsHead, CheckpointError> {
    let config: Config = checkpoint.config()?;
    let width = network.width;
    let loader = Loader::new(checkpoint.weights(), "", Precision::Float32, device);
    let norm = LayerNorm::load(&loader, "head.norm", width, config.norm_eps, config.norm_bias)?;
    let dense = HeadLayer::load(&loader, "head.dense", width, width, config.classifier_bias)?
        .with_activation(config.classifier_activation(checkpoint)?)
        .with_norm(norm);
    let (decoder, tied) = ("decoder.weight", "model.embeddings.tok_embeddings.weight");
    let decoder = super::heads::decoder_or_words(checkpoint, &loader, decoder, tied)?;
    let last = loader.linear_of(decoder, "decoder.bias", width, network.vocabulary)?;
    Ok(WordsHead { layers: vec![dense], last })
}

impl Layer {
    /// Takes the hidden states of a part of a batch through the layer, given the rotation of its
    /// rows.
    fn forward(
        &self,
        part: &BatchPart,
        hidden: Rows,
        heads: Heads,
        rotation: Rotation<'_>,
    ) -> Result<Rows, KernelError> {
        let normed = match &self.attention_norm {
            Some(norm) => norm.forward_for(&hidden, self.qkv.input_layout())?.1,
            None => LinearInput::of_rows(&hidden, self.qkv.input_layout())?,
        };
        let qkv = self.qkv.of(&normed, None, None)?;
        let qkv = rotary(qkv, heads, None, rotation.positions, rotation.tables)?;
        let rows = part.segments().into();
        let mixed = attention_for(&qkv, heads, rows, self.mask, &self.output)?;
        let hidden = self.output.of(&mixed, None, Some(&hidden))?;
        let normed = self.mlp_norm.forward_for(&hidden, self.gated.input_layout())?.1;
        let gated = self.gated.apply_for(&normed, self.down.input_layout())?;
        self.down.of(&gated, None, Some(&hidden))
    }
}

impl Encoder for ModernBert {
    fn run(&self, batch: &RaggedBatch, pause: &dyn Fn()) -> Result<HiddenStates, KernelError> {
        let positions = batch.positions();
        let longest = positions.iter().max().map_or(0, |position| *position as usize + 1);
        let (global, local) = (self.global.tables(longest)?, self.local.tables(longest)?);
        let embedded = self.words.rows_of(batch.tokens())?.tensor()?;
        let hidden = Rows::of(&self.norm.forward(&embedded)?)?;
        let weight_bytes = self.layers.first().map_or(0, Layer::weight_bytes);
        let mut parts = InParts::new(batch, hidden, weight_bytes, |_, hidden| Ok(hidden))?;
        for layer in &self.layers {
            let tables: &RotaryTables = if layer.mask == Mask::Full { &global } else { &local };
            let rotation = Rotation { positions: &positions, tables };
            parts.step(pause, |part, hidden| {
                layer.forward(part, hidden, self.heads, rotation.of_rows(part.rows()))
            })?;
        }
        let hidden = Rows::joined(parts.finish())?;
        let states = HiddenStates::new(&hidden, batch)?;
        Ok(HiddenStates { rows: self.final_norm.forward(&states.rows)?, ..states })
    }
}
