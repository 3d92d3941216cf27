//! Qwen3: an embedding table and a causal decoder (Qwen3 technical report, 2025; transformers
//! `modeling_qwen3.py`). With full attention and code of their own, voyage-4-nano, which projects
//! each token (`modeling_qwen3_bidirectional.py`; text-embeddings-inference and vLLM compute the
//! same), and pplx-embed-v1 (`PPLXQwen3Model`).
//!
//! Must not know: templates, pooling, devices.

use proxima_kernels::Device;
use proxima_kernels::spec::{Mask, Precision};
use serde::Deserialize;
use serde_json::Value;

use super::{Family, LanguageModel, Network, heads};
use crate::checkpoint::keys::Rule::{NoEffect, Object, Only, Refused, Used};
use crate::checkpoint::keys::config::{
    EPS, HEADS, LAYERS, MLP, OTHER_TASKS, POSITIONS, ROTARY, SCALED_ROTARY, THETA, VOCABULARY,
    WIDTH,
};
use crate::checkpoint::keys::{Is, Key};
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::conventions::Conventions;
use crate::layers::{
    DecoderConfig, LinearPart, Loader, RotaryRule, TextDecoder, activation, decoder_heads,
    rope_object,
};
use crate::readout::Pooling;

/// Their entries in the list of families.
pub fn families() -> Vec<Family> {
    let qwen3 = Family {
        model_type: "qwen3",
        is: None,
        architectures: &[
            "Qwen3Model",
            "Qwen3ForCausalLM",
            "Qwen3ForSequenceClassification",
            "Qwen3BidirectionalModel",
            "JinaForRanking",
        ],
        keys: QWEN3_KEYS,
        conventions: Conventions {
            instruction: ["Instruct: ", "\nQuery:"],
            ..Conventions::of("Qwen2")
        },
        files: &[],
        pooling: |checkpoint| {
            // A bare decoder uses last-token pooling; one with a language head may be anything.
            let bare = checkpoint.architectures().iter().all(|name| *name == "Qwen3Model");
            bare.then_some(Pooling::Last)
        },
        load: |checkpoint, precision, device| {
            load(checkpoint, precision, device, Variant::of(checkpoint)?)
        },
        score: heads::last_token_score,
        words: None,
        language_model: Some(LanguageModel {
            embedders: &["Qwen3Model", "Qwen3BidirectionalModel"],
            list_rankers: &["JinaForRanking"],
            tables: TABLES,
            heads: &["lm_head.weight"],
            tied: false,
        }),
    };
    let pplx = Family {
        model_type: "bidirectional_pplx_qwen3",
        is: None,
        architectures: &["PPLXQwen3Model"],
        keys: PPLX_KEYS,
        conventions: Conventions::of("PreTrained"),
        files: &[],
        pooling: |_| Some(Pooling::Mean),
        load: |checkpoint, precision, device| load(checkpoint, precision, device, Variant::Full),
        score: heads::last_token_score,
        words: None,
        language_model: None,
    };
    vec![qwen3, pplx]
}

/// Which tokens a token attends to, and what follows the last layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variant {
    /// As `is_causal` says.
    Own,
    /// All, whatever the configuration says.
    Full,
    /// As `Full`, with a projection of each token, `linear.weight` (voyage-4-nano).
    Projected,
}

impl Variant {
    fn of(checkpoint: &Checkpoint) -> Result<Self, CheckpointError> {
        let names = checkpoint.architectures();
        let code = checkpoint.text(&["auto_map", "AutoModel"]);
        if code.is_some_and(|code| code.ends_with("JinaForRanking")) {
            return match names[..] {
                ["JinaForRanking"] => Ok(Self::Own),
                _ => Err(checkpoint.config_error(
                    "auto_map names the code of jina-reranker-v3, and architectures does not",
                )),
            };
        }
        if code.is_some() || names.contains(&"Qwen3BidirectionalModel") {
            return Ok(Self::Projected);
        }
        let problem = if checkpoint.flag("use_bidirectional_attention") {
            "transformers ignores use_bidirectional_attention for qwen3, and a checkpoint that sets \
             it wants full attention; is_causal: false asks for it"
        } else if checkpoint.weights().contains("linear.weight") {
            "its tensor linear.weight projects each token, as voyage-4-nano does, and its auto_map \
             does not name the code of that model"
        } else {
            return Ok(Self::Own);
        };
        Err(checkpoint.config_error(problem))
    }
}

/// Prefixes of its tensors' names: of a bare network, and below a head.
const TABLES: &[&str] = &["", "model."];

const NO_WINDOW: &str = "for use_sliding_window, which is refused";

/// Keys shared by all Qwen3 types, with the given rotary keys and `$own`.
macro_rules! keys {
    ($rotary:expr, $($own:expr),* $(,)?) => {
        &[
            ("vocab_size", VOCABULARY),
            ("hidden_size", WIDTH),
            ("num_hidden_layers", LAYERS),
            ("num_attention_heads", HEADS),
            ("num_key_value_heads", HEADS),
            ("head_dim", WIDTH),
            ("intermediate_size", MLP),
            ("max_position_embeddings", POSITIONS),
            ("rms_norm_eps", EPS),
            ("hidden_act", Used),
            ("attention_bias", Used),
            ("is_causal", Used),
            ("rope_theta", THETA),
            ("rope_parameters", Object(&[$rotary])),
            ("rope_scaling", Object(&[$rotary])),
            ("partial_rotary_factor", Only(&[Is::Number(1.0)])),
            ("use_sliding_window", Used),
            ("layer_types", Used),
            ("sliding_window", NoEffect(NO_WINDOW)),
            ("max_window_layers", NoEffect(NO_WINDOW)),
            ("is_decoder", NoEffect("it is a decoder; is_causal says what a token sees")),
            ("mlp_bias", Refused("transformers has no such bias for this type")),
            $($own),*
        ]
    };
}

/// Keys of the text part of Qwen3-VL's `config.json`.
pub(super) const KEYS: &[Key] = keys![ROTARY,];

const ELSEWHERE: &str = "it belongs in rope_parameters";
const CONFIG_CLASS: Key = ("AutoConfig", NoEffect("config.json is read as its model_type says"));
/// The code of voyage-4-nano, and of jina-reranker-v3, whose network is Qwen3's own.
const OWN_CODE: &[Key] = &[
    CONFIG_CLASS,
    (
        "AutoModel",
        Only(&[
            Is::Text("modeling_qwen3_bidirectional.Qwen3BidirectionalModel"),
            Is::Text(
                "voyageai/voyage-4-nano--modeling_qwen3_bidirectional.Qwen3BidirectionalModel",
            ),
            Is::Text("modeling.JinaForRanking"),
            Is::Text("jinaai/jina-reranker-v3--modeling.JinaForRanking"),
        ]),
    ),
];
const PPLX_CODE: &[Key] =
    &[CONFIG_CLASS, ("AutoModel", Only(&[Is::Text("modeling.PPLXQwen3Model")]))];

const QWEN3_KEYS: &[Key] = keys![
    SCALED_ROTARY,
    ("original_max_position_embeddings", Refused(ELSEWHERE)),
    ("use_bidirectional_attention", Used),
    ("auto_map", Object(&[OWN_CODE, OTHER_TASKS])),
];
const PPLX_KEYS: &[Key] = keys![
    SCALED_ROTARY,
    ("original_max_position_embeddings", Refused(ELSEWHERE)),
    ("use_bidirectional_attention", Only(&[Is::Bool(true)])),
    ("auto_map", Object(&[PPLX_CODE, OTHER_TASKS])),
];

/// `config.json`, or the part of a larger one that describes such a decoder.
///
/// Defaults are those of transformers' `Qwen3Config`.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub(super) struct Config {
    pub hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: usize,
    intermediate_size: usize,
    pub vocab_size: usize,
    pub max_position_embeddings: Option<usize>,
    rms_norm_eps: f32,
    hidden_act: String,
    attention_bias: bool,
    is_causal: Causal,
    rope_theta: Option<f64>,
    rope_parameters: Value,
    rope_scaling: Value,
    use_sliding_window: bool,
    layer_types: Option<Vec<String>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hidden_size: 4096,
            num_hidden_layers: 32,
            num_attention_heads: 32,
            num_key_value_heads: Some(32),
            head_dim: 128,
            intermediate_size: 22_016,
            vocab_size: 151_936,
            max_position_embeddings: None,
            rms_norm_eps: 1e-6,
            hidden_act: "silu".into(),
            attention_bias: false,
            is_causal: Causal::default(),
            rope_theta: None,
            rope_parameters: Value::Null,
            rope_scaling: Value::Null,
            use_sliding_window: false,
            layer_types: None,
        }
    }
}

/// Whether a token attends only to itself and earlier ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct Causal(pub bool);

impl Causal {
    /// Which tokens a token attends to.
    pub fn mask(self) -> Mask {
        if self.0 { Mask::Causal } else { Mask::Full }
    }
}

impl Default for Causal {
    fn default() -> Self {
        Self(true)
    }
}

impl<'de> Deserialize<'de> for Causal {
    /// Null is refused: transformers treats it as causal attention for a single text, and as full
    /// attention in a padded batch.
    fn deserialize<D: serde::Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        let value = Option::<bool>::deserialize(value)?;
        value
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("is_causal is null, not true or false"))
    }
}

impl Config {
    /// The object with the rotary settings, and its name.
    pub fn rotary(&self) -> (&'static str, &Value) {
        rope_object(&self.rope_scaling, &self.rope_parameters)
    }

    /// The base of rotary frequencies; `default` if it is not set.
    pub fn theta(&self, default: f64) -> Result<f64, String> {
        // As in transformers, the object takes precedence over the key beside it.
        let (name, object) = self.rotary();
        let kind = object.get("rope_type").or_else(|| object.get("type"));
        if let Some(kind) = kind.filter(|kind| *kind != "default") {
            return Err(format!(
                "{name} has rope_type {kind}; scaled rotary positions are not supported"
            ));
        }
        let theta = object.get("rope_theta").and_then(Value::as_f64);
        Ok(theta.or(self.rope_theta).unwrap_or(default))
    }

    /// The decoder's sizes.
    pub fn sizes(&self) -> Result<DecoderConfig, String> {
        let layers = self.num_hidden_layers;
        let types = self.layer_types.as_deref();
        if let Some(types) = types.filter(|types| types.len() != layers) {
            return Err(format!("layer_types are {} for {layers} layers", types.len()));
        }
        let windowed = types.is_some_and(|types| types.iter().any(|kind| kind != "full_attention"));
        if self.use_sliding_window || windowed {
            return Err("sliding-window attention is not supported for qwen3".into());
        }
        if self.num_hidden_layers == 0 || self.hidden_size == 0 || self.intermediate_size == 0 {
            return Err("sizes must be at least 1".into());
        }
        let heads = self.num_attention_heads;
        let kv_heads = self.num_key_value_heads.unwrap_or(heads);
        Ok(DecoderConfig {
            hidden: self.hidden_size,
            layers: self.num_hidden_layers,
            heads: decoder_heads(heads, kv_heads, self.head_dim)?,
            mlp: self.intermediate_size,
            eps: self.rms_norm_eps,
            qkv_bias: self.attention_bias,
            output_bias: self.attention_bias,
            head_norms: true,
            norms_add_one: false,
            mask: self.is_causal.mask(),
            activation: activation(&self.hidden_act)
                .ok_or_else(|| format!("hidden_act {:?} is not supported", self.hidden_act))?,
        })
    }
}

fn load(
    checkpoint: &Checkpoint,
    precision: Precision,
    device: &Device,
    variant: Variant,
) -> Result<Network, CheckpointError> {
    let config: Config = checkpoint.config()?;
    let error = |problem: String| checkpoint.config_error(problem);
    let mut sizes = config.sizes().map_err(error)?;
    if variant != Variant::Own {
        sizes.mask = Mask::Full;
    }
    let positions = config.max_position_embeddings.unwrap_or(32_768);
    let theta = config.rope_theta.unwrap_or(10_000.0);
    let (name, object) = config.rotary();
    let rule = RotaryRule::of(object, theta, positions);
    let rule = rule.map_err(|problem| error(format!("{name}: {problem}")))?;
    let weights = checkpoint.weights();
    let prefix = weights.prefix(TABLES, "embed_tokens.weight")?;
    let loader = Loader::new(weights, prefix, precision, device);
    let mut encoder = TextDecoder::load(&loader, &sizes, config.vocab_size, rule)?;
    let mut width = config.hidden_size;
    if variant == Variant::Projected {
        let inputs = std::mem::replace(&mut width, checkpoint.labels()?.len());
        let root = Loader::new(weights, "", precision, device);
        encoder = encoder.with_projection(root.linear(
            &[LinearPart::new("linear", width)],
            inputs,
            false,
        )?);
    }
    Ok(Network {
        encoder: Box::new(encoder),
        width,
        positions,
        vocabulary: config.vocab_size,
        token_types: 0,
        rotary_positions: true,
    })
}
