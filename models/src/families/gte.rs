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
use crate::conventions::Conventions;
use crate::layers::{
    Biases, Loader, PostNorm, PostNormConfig, PostNormNames, QkvNames, RotaryRule, Scaling,
    TableSizes, UpNames, activation, rope_object,
};

/// Their entries in the list of families.
pub fn families() -> Vec<Family> {
    let family = |model_type, architectures, tokenizer| Family {
        model_type,
        is: None,
        architectures,
        keys: KEYS,
        conventions: Conventions::of(tokenizer),
        files: &[],
        // Both CLS and mean pooling are common, so a checkpoint that sets neither is refused.
        pooling: |_| None,
        load,
        score: |checkpoint, width, device| heads::pooler_score(checkpoint, width, device, PREFIXES),
        language_model: None,
        words: Some(|checkpoint, network, device| {
            let config: Config = checkpoint.config()?;
            let sizes = config.sizes(ConfigStyle::of(checkpoint));
            let sizes = sizes.map_err(|problem| checkpoint.config_error(problem))?;
            let words = heads::table_of_words(checkpoint, PREFIXES)?;
            let names = WordsNames {
                dense: "lm_head.dense",
                norm: "lm_head.norm",
                bias: "lm_head.bias",
                decoder: "lm_head.decoder.weight",
                words: &words,
                activation: match ConfigStyle::of(checkpoint) {
                    ConfigStyle::New => sizes.activation,
                    // Whatever hidden_act says.
                    ConfigStyle::Gte => Activation::Gelu,
                },
                eps: sizes.eps,
            };
            heads::words(checkpoint, network, device, &names)
        }),
    };
    vec![
        family(
            "new",
            &["NewModel", "NewForMaskedLM", "NewForSequenceClassification"],
            "PreTrained",
        ),
        family(
            "gte",
            &["GteModel", "GteForMaskedLM", "GteForSequenceClassification"],
            "XLMRoberta",
        ),
    ]
}

/// Possible prefixes of tensor names.
const PREFIXES: &[&str] = &["", "new.", "gte."];

const FAST: &str = "says how the authors' code computes it";

/// The authors' classes that compute this network.
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
    ("head_dim", Refused("heads are of the hidden size divided by their number")),
    ("partial_rotary_factor", Only(&[Is::Number(1.0)])),
    ("original_max_position_embeddings", Refused("it belongs in rope_parameters")),
    ("rope_parameters", Object(&[SCALED_ROTARY])),
    ("rope_scaling", Object(&[SCALED_ROTARY])),
    ("logn_attention_scale", Refused("scores that grow with the length are not supported")),
    ("logn_attention_clip1", NoEffect("for logn_attention_scale, which is refused")),
    ("pack_qkv", Only(&[Is::Bool(true)])),
    ("unpad_inputs", NoEffect(FAST)),
    ("use_memory_efficient_attention", NoEffect(FAST)),
];

/// Defaults are those of transformers' `GteConfig`, and for `new` those of the authors' code.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Config {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    vocab_size: Option<usize>,
    max_position_embeddings: Option<usize>,
    type_vocab_size: usize,
    layer_norm_eps: f32,
    hidden_act: String,
    rope_theta: Option<f64>,
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
            vocab_size: None,
            max_position_embeddings: None,
            type_vocab_size: 1,
            layer_norm_eps: 1e-12,
            hidden_act: "gelu".into(),
            rope_theta: None,
            rope_parameters: Value::Null,
            rope_scaling: Value::Null,
        }
    }
}

impl Config {
    fn sizes(&self, style: ConfigStyle) -> Result<PostNormConfig, String> {
        let heads = PostNormConfig::heads(self.hidden_size, self.num_attention_heads)?;
        if !heads.size.is_multiple_of(2) {
            return Err(format!("heads of {} components cannot be rotated", heads.size));
        }
        Ok(PostNormConfig {
            layers: self.num_hidden_layers,
            heads,
            mlp: self.intermediate_size,
            eps: self.layer_norm_eps,
            activation: activation(&self.hidden_act)
                .ok_or_else(|| format!("hidden_act {:?} is not supported", self.hidden_act))?,
            biases: Biases::ALL,
            rotary: Some(self.rotary(style)?),
            experts: None,
        })
    }

    fn rotary(&self, style: ConfigStyle) -> Result<RotaryRule, String> {
        let (scaling, parameters) = (&self.rope_scaling, &self.rope_parameters);
        let theta = self.rope_theta.unwrap_or(style.theta());
        if style == ConfigStyle::New {
            if parameters.as_object().is_some_and(|keys| !keys.is_empty()) {
                return Err("rope_parameters is not read for new; its key is rope_scaling".into());
            }
            let mut keys = scaling.as_object().into_iter().flatten();
            let known = ["type", "factor", "mixed_b"];
            if let Some((key, _)) = keys.find(|(key, _)| !known.contains(&key.as_str())) {
                return Err(format!("rope_scaling has {key}, which is not a key of new"));
            }
            let factor = match scaling {
                Value::Null => return Ok(RotaryRule { theta, scaling: Scaling::None }),
                scaling if scaling["type"] == "ntk" => scaling["factor"].as_f64(),
                _ => return Err("rope_scaling is not of type ntk, the only one for new".into()),
            };
            let factor = factor.filter(|factor| (1.0..1e6).contains(factor));
            let factor = factor.ok_or("rope_scaling needs a factor of at least 1")?;
            // The authors' code does not scale by 1.
            let scaling = if factor > 1.0 { Scaling::Ntk { factor } } else { Scaling::None };
            return Ok(RotaryRule { theta, scaling });
        }
        RotaryRule::of(rope_object(scaling, parameters).1, theta, self.positions(style))
    }

    fn positions(&self, style: ConfigStyle) -> usize {
        self.max_position_embeddings.unwrap_or(match style {
            ConfigStyle::New => 2048,
            ConfigStyle::Gte => 8192,
        })
    }

    fn vocabulary(&self, style: ConfigStyle) -> usize {
        self.vocab_size.unwrap_or(match style {
            ConfigStyle::New => 30_528,
            ConfigStyle::Gte => 250_048,
        })
    }
}

/// Whose keys a configuration has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ConfigStyle {
    /// The authors'.
    New,
    /// transformers'.
    Gte,
}

impl ConfigStyle {
    fn of(checkpoint: &Checkpoint) -> Self {
        if checkpoint.model_type() == "new" { Self::New } else { Self::Gte }
    }

    /// The default base of rotary frequencies.
    fn theta(self) -> f64 {
        match self {
            Self::New => 10_000.0,
            Self::Gte => 160_000.0,
        }
    }
}

const NAMES: PostNormNames = PostNormNames {
    embedding_norm: "embeddings.LayerNorm",
    layers: "encoder.layer",
    qkv: QkvNames::Stacked("attention.qkv_proj"),
    output: "attention.o_proj",
    query_key_norms: None,
    inner_norm: None,
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
    let style = ConfigStyle::of(checkpoint);
    let sizes = config.sizes(style).map_err(|problem| checkpoint.config_error(problem))?;
    let tables = TableSizes {
        width: config.hidden_size,
        vocabulary: config.vocabulary(style),
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
        positions: config.positions(style),
        rotary_positions: true,
        vocabulary: tables.vocabulary,
        token_types: tables.token_types,
    })
}
