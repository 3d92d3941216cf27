//! mGTE: BERT with rotary positions and a gated MLP (Zhang et al., 2024; transformers
//! `modeling_gte.py`). Embedders such as gte-multilingual-base, gte-base-en-v1.5 and
//! snowflake-arctic-embed-m-v2.0, and gte-multilingual-reranker-base. Its authors call the network
//! `new`.
//!
//! Must not know: templates, pooling, devices.

use proxima_kernels::Device;
use proxima_kernels::spec::{Activation, Precision};
use serde::Deserialize;
use serde_json::Value;

use super::heads::{self, WordsNames};
use super::{Family, Network};
use crate::checkpoint::keys::Rule::{NoEffect, Object, Only, Refused, Used};
use crate::checkpoint::keys::config::{
    EPS, HEADS, LAYERS, MLP, POSITIONS, SCALED_ROTARY, THETA, VOCABULARY, WIDTH,
};
use crate::checkpoint::keys::{Is, Key};
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::layers::{
    Biases, Loader, PostNorm, PostNormConfig, PostNormNames, QkvNames, RotaryRule, Scaling,
    TableSizes, UpNames, activation,
};

/// Their entries in the list of families.
pub fn families() -> Vec<Family> {
    let family = |model_type, architectures| Family {
        model_type,
        architectures,
        keys: KEYS,
        files: &[],
        // Both CLS and mean pooling are common, so a checkpoint that sets neither is refused.
        pooling: |_| None,
        load,
        score: |checkpoint, width, device| heads::pooler_score(checkpoint, width, device, PREFIXES),
        language_model: None,
        words: Some(|checkpoint, network, device| {
            let config: Config = checkpoint.config()?;
            let sizes = config.sizes(Kind::of(checkpoint));
            let sizes = sizes.map_err(|problem| checkpoint.config_error(problem))?;
            let table = "embeddings.word_embeddings.weight";
            let words = format!("{}{table}", checkpoint.weights().prefix(PREFIXES, table)?);
            let names = WordsNames {
                dense: "lm_head.dense",
                norm: "lm_head.norm",
                bias: "lm_head.bias",
                decoder: "lm_head.decoder.weight",
                words: &words,
                activation: match Kind::of(checkpoint) {
                    Kind::New => sizes.activation,
                    // Whatever hidden_act says.
                    Kind::Gte => Activation::Gelu,
                },
                eps: sizes.eps,
            };
            heads::words(checkpoint, network, device, &names)
        }),
    };
    vec![
        family("new", &["NewModel", "NewForMaskedLM", "NewForSequenceClassification"]),
        family("gte", &["GteModel", "GteForMaskedLM", "GteForSequenceClassification"]),
    ]
}

/// Possible prefixes of tensor names.
const PREFIXES: &[&str] = &["", "new.", "gte."];

const FAST: &str = "says how the authors' code computes it";

/// The code that this network is written after.
macro_rules! own {
    ($class:literal) => {
        Only(&[
            Is::Text(concat!("modeling.", $class)),
            Is::Text(concat!("Alibaba-NLP/new-impl--modeling.", $class)),
        ])
    };
}
const AUTO_MAP: &[Key] = &[
    ("AutoConfig", NoEffect("config.json is read as its model_type says")),
    ("AutoModel", own!("NewModel")),
    ("AutoModelForMaskedLM", own!("NewForMaskedLM")),
    ("AutoModelForSequenceClassification", own!("NewForSequenceClassification")),
    ("AutoModelForMultipleChoice", NoEffect("another task's")),
    ("AutoModelForQuestionAnswering", NoEffect("another task's")),
    ("AutoModelForTokenClassification", NoEffect("another task's")),
];

const KEYS: &[Key] = &[
    ("auto_map", Object(&[AUTO_MAP])),
    ("vocab_size", VOCABULARY),
    ("type_vocab_size", Used),
    ("hidden_size", WIDTH),
    ("num_hidden_layers", LAYERS),
    ("num_attention_heads", HEADS),
    ("intermediate_size", MLP),
    ("max_position_embeddings", POSITIONS),
    ("layer_norm_eps", EPS),
    ("hidden_act", Used),
    ("position_embedding_type", Only(&[Is::Text("rope")])),
    ("layer_norm_type", Only(&[Is::Text("layer_norm")])),
    ("rope_theta", THETA),
    ("rope_parameters", Object(&[SCALED_ROTARY])),
    ("rope_scaling", Object(&[SCALED_ROTARY])),
    ("logn_attention_scale", Refused("scores that grow with the length are not served")),
    ("logn_attention_clip1", NoEffect("for logn_attention_scale, which is refused")),
    ("pack_qkv", Only(&[Is::Bool(true)])),
    ("unpad_inputs", NoEffect(FAST)),
    ("use_memory_efficient_attention", NoEffect(FAST)),
];

/// Defaults are those of transformers' `GteConfig`.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Config {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    vocab_size: usize,
    max_position_embeddings: usize,
    type_vocab_size: usize,
    layer_norm_eps: f32,
    hidden_act: String,
    rope_theta: f64,
    rope_parameters: Value,
    rope_scaling: Value,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            vocab_size: 250_048,
            max_position_embeddings: 8192,
            type_vocab_size: 1,
            layer_norm_eps: 1e-12,
            hidden_act: "gelu".into(),
            rope_theta: 160_000.0,
            rope_parameters: Value::Null,
            rope_scaling: Value::Null,
        }
    }
}

impl Config {
    fn sizes(&self, kind: Kind) -> Result<PostNormConfig, String> {
        let heads = PostNormConfig::heads(self.hidden_size, self.num_attention_heads)?;
        if !heads.size.is_multiple_of(2) {
            return Err(format!("heads of {} numbers cannot be turned", heads.size));
        }
        let unknown = || format!("hidden_act {:?} is not served", self.hidden_act);
        Ok(PostNormConfig {
            layers: self.num_hidden_layers,
            heads,
            mlp: self.intermediate_size,
            eps: self.layer_norm_eps,
            activation: activation(&self.hidden_act).ok_or_else(unknown)?,
            biases: Biases::ALL,
            rotary: Some(self.rotary(kind)?),
            experts: None,
        })
    }

    fn rotary(&self, kind: Kind) -> Result<RotaryRule, String> {
        let (scaling, parameters) = (&self.rope_scaling, &self.rope_parameters);
        if kind == Kind::New && scaling["type"] == "ntk" {
            // A type of the authors' code alone.
            let factor = scaling["factor"].as_f64().filter(|factor| *factor > 0.0);
            let factor = factor.ok_or("rope_scaling needs a factor above 0")?;
            return Ok(RotaryRule { theta: self.rope_theta, scaling: Scaling::Ntk { factor } });
        }
        // As in transformers, the older object takes precedence over the newer one.
        let is_set = scaling.as_object().is_some_and(|keys| !keys.is_empty());
        let object = if is_set { scaling } else { parameters };
        RotaryRule::of(object, self.rope_theta, self.max_position_embeddings)
    }
}

/// Whose keys a configuration has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The authors'.
    New,
    /// transformers'.
    Gte,
}

impl Kind {
    fn of(checkpoint: &Checkpoint) -> Self {
        if checkpoint.model_type() == "new" { Self::New } else { Self::Gte }
    }
}

const NAMES: PostNormNames = PostNormNames {
    embedding_norm: "embeddings.LayerNorm",
    layers: "encoder.layer",
    qkv: QkvNames::Stacked("attention.qkv_proj"),
    output: "attention.o_proj",
    attention_norm: "attn_ln",
    up: UpNames::ValueAndGate("mlp.up_gate_proj"),
    down: "mlp.down_proj",
    mlp_norm: "mlp_ln",
    experts: None,
};

fn load(
    checkpoint: &Checkpoint,
    precision: Precision,
    device: &Device,
) -> Result<Network, CheckpointError> {
    let config: Config = checkpoint.config()?;
    let sizes = config.sizes(Kind::of(checkpoint));
    let sizes = sizes.map_err(|problem| checkpoint.config_error(problem))?;
    let tables = TableSizes {
        width: config.hidden_size,
        vocabulary: config.vocab_size,
        positions: 0,
        token_types: config.type_vocab_size,
        padding: None,
    };
    let weights = checkpoint.weights();
    let prefix = weights.prefix(PREFIXES, "embeddings.word_embeddings.weight")?;
    let loader = Loader::new(weights, prefix, precision, device);
    Ok(Network {
        encoder: Box::new(PostNorm::load(&loader, &tables, &sizes, &NAMES)?),
        width: tables.width,
        positions: config.max_position_embeddings,
        rotary_positions: true,
        vocabulary: tables.vocabulary,
        token_types: tables.token_types,
    })
}
