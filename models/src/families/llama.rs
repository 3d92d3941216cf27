//! Llama and its relatives, decoders that differ in defaults, biases and the scaling of positions:
//! Llama, Mistral, Ministral 3 and Qwen2 (Touvron et al., 2023; Jiang et al., 2023; Qwen2 technical
//! report, 2024; transformers `modeling_llama.py`, `modeling_mistral.py`, `modeling_ministral3.py`,
//! `modeling_qwen2.py`). Embedders such as e5-mistral, Nemotron-3-Embed and inf-retriever.
//!
//! Must not know: templates, pooling, devices.

use proxima_kernels::Device;
use proxima_kernels::spec::{Mask, Precision};
use serde::Deserialize;
use serde_json::{Value, json};

use super::qwen3::Causal;
use super::{Family, LanguageModel, Network, heads};
use crate::checkpoint::keys::Rule::{NoEffect, Object, Only, Refused, Used};
use crate::checkpoint::keys::config::{
    EPS, HEADS, LAYERS, MLP, POSITIONS, SCALED_ROTARY, THETA, VOCABULARY, WIDTH,
};
use crate::checkpoint::keys::{Is, Key};
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::conventions::Conventions;
use crate::layers::{
    DecoderConfig, Loader, RotaryRule, TextDecoder, activation, decoder_heads, rope_object,
};
use crate::readout::Pooling;

/// How a family differs from the others: what its files mean.
pub(super) struct Style {
    /// Values of `architectures` are this and what transformers calls a head.
    pub model: &'static str,
    /// Defaults of sizes, as in transformers' class of configurations.
    pub sizes: DefaultSizes,
    /// Whether queries, keys and values have a bias, whatever the configuration says.
    pub qkv_bias: bool,
    /// Whether `sliding_window` is read, and its value where the key is absent.
    pub window: WindowKey,
    /// `rope_parameters` where the key is absent.
    pub rotary: fn() -> Value,
    /// Whether queries are scaled by their position from the pretrained context on.
    pub scales_queries: bool,
    /// Whether it is an encoder: each token attends to all, whatever the configuration says.
    pub is_encoder: bool,
    /// Whether norms multiply by one more than the stored weights, and embeddings by the root of
    /// the hidden size.
    pub is_gemma: bool,
}

/// The sliding window: how many tokens a token sees, itself included.
pub(super) enum WindowKey {
    /// The type has none.
    Unread,
    /// `sliding_window`, by default this.
    Read(Option<usize>),
}

/// Defaults of sizes and of the activation.
pub(super) struct DefaultSizes {
    pub hidden: usize,
    pub heads: usize,
    pub layers: usize,
    /// `None` for as many as there are heads.
    pub kv_heads: Option<usize>,
    /// `None` for a hidden state divided by the heads.
    pub head: Option<usize>,
    pub mlp: usize,
    pub vocabulary: usize,
    pub positions: usize,
    pub eps: f32,
    pub activation: &'static str,
}

const LLAMA: Style = Style {
    model: "LlamaModel",
    sizes: DefaultSizes {
        hidden: 4096,
        heads: 32,
        layers: 32,
        kv_heads: None,
        head: None,
        mlp: 11_008,
        vocabulary: 32_000,
        positions: 2048,
        eps: 1e-6,
        activation: "silu",
    },
    qkv_bias: false,
    window: WindowKey::Unread,
    rotary: || Value::Null,
    scales_queries: false,
    is_encoder: false,
    is_gemma: false,
};

const MISTRAL: Style = Style {
    model: "MistralModel",
    sizes: DefaultSizes {
        hidden: 4096,
        heads: 32,
        layers: 32,
        kv_heads: Some(8),
        head: None,
        mlp: 14_336,
        vocabulary: 32_000,
        positions: 131_072,
        eps: 1e-6,
        activation: "silu",
    },
    qkv_bias: false,
    window: WindowKey::Read(Some(4096)),
    rotary: || Value::Null,
    scales_queries: false,
    is_encoder: false,
    is_gemma: false,
};

const MINISTRAL3: Style = Style {
    model: "Ministral3Model",
    sizes: DefaultSizes {
        hidden: 4096,
        heads: 32,
        layers: 34,
        kv_heads: Some(8),
        head: Some(128),
        mlp: 14_336,
        vocabulary: 131_072,
        positions: 262_144,
        eps: 1e-5,
        activation: "silu",
    },
    qkv_bias: false,
    window: WindowKey::Read(None),
    rotary: || {
        json!({
            "type": "yarn", "rope_theta": 1e6, "factor": 16.0, "llama_4_scaling_beta": 0.1,
            "original_max_position_embeddings": 16_384, "beta_fast": 32.0, "beta_slow": 1.0,
            "mscale": 1.0, "mscale_all_dim": 1.0,
        })
    },
    scales_queries: true,
    is_encoder: false,
    is_gemma: false,
};

const QWEN2: Style = Style {
    model: "Qwen2Model",
    sizes: DefaultSizes {
        hidden: 4096,
        heads: 32,
        layers: 32,
        kv_heads: Some(32),
        head: None,
        mlp: 22_016,
        vocabulary: 151_936,
        positions: 32_768,
        eps: 1e-6,
        activation: "silu",
    },
    qkv_bias: true,
    window: WindowKey::Unread,
    rotary: || Value::Null,
    scales_queries: false,
    is_encoder: false,
    is_gemma: false,
};

/// Their entries in the list of families.
pub fn families() -> Vec<Family> {
    let family =
        |model_type, architectures: &'static [&'static str], conventions, keys, pooling, load| {
            Family {
                model_type,
                is: None,
                architectures,
                keys,
                conventions,
                files: &[],
                pooling,
                load,
                score: heads::last_token_score,
                words: None,
                language_model: Some(language_model(&architectures[..1])),
            }
        };
    vec![
        family(
            "llama",
            &["LlamaModel", "LlamaForCausalLM", "LlamaForSequenceClassification"],
            Conventions::of("PreTrained"),
            LLAMA_KEYS,
            |checkpoint| pooling(checkpoint, &LLAMA),
            |checkpoint, precision, device| load(checkpoint, precision, device, &LLAMA),
        ),
        family(
            "mistral",
            &["MistralModel", "MistralForCausalLM", "MistralForSequenceClassification"],
            Conventions::fixed("PreTrained"),
            MISTRAL_KEYS,
            |checkpoint| pooling(checkpoint, &MISTRAL),
            |checkpoint, precision, device| load(checkpoint, precision, device, &MISTRAL),
        ),
        family(
            "ministral3",
            &["Ministral3Model", "Ministral3ForCausalLM", "Ministral3ForSequenceClassification"],
            Conventions::fixed("PreTrained"),
            MISTRAL_KEYS,
            |checkpoint| pooling(checkpoint, &MINISTRAL3),
            |checkpoint, precision, device| load(checkpoint, precision, device, &MINISTRAL3),
        ),
        family(
            "qwen2",
            &["Qwen2Model", "Qwen2ForCausalLM", "Qwen2ForSequenceClassification"],
            Conventions::fixed("Qwen2"),
            QWEN2_KEYS,
            |checkpoint| pooling(checkpoint, &QWEN2),
            |checkpoint, precision, device| load(checkpoint, precision, device, &QWEN2),
        ),
    ]
}

/// A bare decoder is pooled at its last token; one with a language head may be anything.
pub(super) fn pooling(checkpoint: &Checkpoint, style: &Style) -> Option<Pooling> {
    checkpoint.architectures().iter().all(|name| *name == style.model).then_some(Pooling::Last)
}

const NO_BIAS: &str = "transformers has no such bias for this type";
const NO_WINDOW: &str = "for use_sliding_window, which is refused";

/// Prefixes of their tensors' names: of a bare network, and below a head.
pub(super) const TABLES: &[&str] = &["", "model."];

/// Their language models; `embedders` is the class without a head.
pub(super) const fn language_model(embedders: &'static [&'static str]) -> LanguageModel {
    let heads = &["lm_head.weight"];
    LanguageModel { embedders, list_rankers: &[], tables: TABLES, heads, tied: false }
}

/// The keys that all of them have, and some more.
macro_rules! keys {
    ($($own:expr),* $(,)?) => {
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
            ("rope_theta", THETA),
            ("rope_parameters", Object(&[SCALED_ROTARY])),
            ("rope_scaling", Object(&[SCALED_ROTARY])),
            ("partial_rotary_factor", Only(&[Is::Number(1.0)])),
            ("original_max_position_embeddings", Refused("it belongs in rope_parameters")),
            ("is_decoder", NoEffect("it is a decoder; is_causal says what a token sees")),
            $($own),*
        ]
    };
}
pub(super) use keys;

const LLAMA_KEYS: &[Key] = keys![
    ("is_causal", Used),
    ("attention_bias", Used),
    ("mlp_bias", Refused("a bias of the MLP is not supported")),
    ("pretraining_tp", NoEffect("for training")),
];
const MISTRAL_KEYS: &[Key] = keys![
    ("is_causal", Used),
    ("sliding_window", Used),
    ("layer_types", Refused("transformers ignores it for this type")),
    ("attention_bias", Refused(NO_BIAS)),
    ("mlp_bias", Refused(NO_BIAS)),
];
const QWEN2_KEYS: &[Key] = keys![
    ("is_causal", Used),
    ("use_sliding_window", Refused("sliding-window attention is not supported for qwen2")),
    ("sliding_window", NoEffect(NO_WINDOW)),
    ("max_window_layers", NoEffect(NO_WINDOW)),
    ("layer_types", Used),
    ("attention_bias", Refused(NO_BIAS)),
    ("mlp_bias", Refused(NO_BIAS)),
];

/// Keys of `config.json`; what is absent has the default of a [`Style`].
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    hidden_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    intermediate_size: Option<usize>,
    vocab_size: Option<usize>,
    max_position_embeddings: Option<usize>,
    rms_norm_eps: Option<f32>,
    hidden_act: Option<String>,
    attention_bias: bool,
    is_causal: Causal,
    rope_theta: Option<f64>,
    rope_parameters: Value,
    rope_scaling: Value,
    sliding_window: Option<usize>,
    layer_types: Option<Vec<String>>,
}

impl Config {
    fn sizes(
        &self,
        style: &Style,
        is_null: impl Fn(&str) -> bool,
    ) -> Result<DecoderConfig, String> {
        let layers = self.num_hidden_layers.unwrap_or(style.sizes.layers);
        if let Some(types) = &self.layer_types
            && (types.len() != layers || types.iter().any(|kind| kind != "full_attention"))
        {
            return Err(format!("layer_types must be full_attention, {layers} times"));
        }
        let hidden = self.hidden_size.unwrap_or(style.sizes.hidden);
        let heads = self.num_attention_heads.unwrap_or(style.sizes.heads);
        // Null is not the default: it stands for what follows from other keys.
        let absent = |key: &str, default: Option<usize>| default.filter(|_| !is_null(key));
        let kv_heads = self.num_key_value_heads;
        let kv_heads = kv_heads.or(absent("num_key_value_heads", style.sizes.kv_heads));
        let size = self.head_dim.or(absent("head_dim", style.sizes.head));
        let size = size.unwrap_or(hidden / heads.max(1));
        let kv_heads = kv_heads.unwrap_or(heads);
        let activation = match self.hidden_act.as_deref().unwrap_or(style.sizes.activation) {
            // As in transformers: an old name of the other.
            "gelu" if style.is_gemma => activation("gelu_pytorch_tanh"),
            name => activation(name),
        };
        Ok(DecoderConfig {
            hidden,
            layers,
            heads: decoder_heads(heads, kv_heads, size)?,
            mlp: self.intermediate_size.unwrap_or(style.sizes.mlp),
            eps: self.rms_norm_eps.unwrap_or(style.sizes.eps),
            qkv_bias: style.qkv_bias || self.attention_bias,
            output_bias: self.attention_bias,
            head_norms: false,
            norms_add_one: style.is_gemma,
            mask: if style.is_encoder { Mask::Full } else { self.is_causal.mask() },
            activation: activation
                .ok_or_else(|| format!("hidden_act {:?} is not supported", self.hidden_act))?,
        })
    }

    /// The rotary positions, and the length up to which queries are not scaled.
    fn rotary(&self, style: &Style) -> Result<(RotaryRule, usize), String> {
        let positions = self.max_position_embeddings.unwrap_or(style.sizes.positions);
        let object = match rope_object(&self.rope_scaling, &self.rope_parameters).1 {
            Value::Object(keys) if !keys.is_empty() => Value::Object(keys.clone()),
            _ => (style.rotary)(),
        };
        let theta = self.rope_theta.unwrap_or(10_000.0);
        let rule = RotaryRule::of(&object, theta, positions)?;
        let beta = &object["llama_4_scaling_beta"];
        if !style.scales_queries {
            return match beta {
                Value::Null => Ok((rule, positions)),
                _ => Err("llama_4_scaling_beta is not of this type".into()),
            };
        }
        let Some(beta) = beta.as_f64() else {
            return Err(
                "rope_parameters has no llama_4_scaling_beta, which must be a number".into()
            );
        };
        let original = match &object["original_max_position_embeddings"] {
            Value::Null => positions,
            original => original.as_f64().map_or(0, |original| original as usize),
        };
        Ok((rule, if beta == 0.0 { positions } else { positions.min(original) }))
    }
}

/// Loads a network of this style. Texts are limited to the context within which queries are not
/// scaled, and with full attention to the window: up to there, neither changes anything.
pub(super) fn load(
    checkpoint: &Checkpoint,
    precision: Precision,
    device: &Device,
    style: &Style,
) -> Result<Network, CheckpointError> {
    let config: Config = checkpoint.config()?;
    let error = |problem: String| checkpoint.config_error(problem);
    let mut sizes = config.sizes(style, |key| checkpoint.is_null(key)).map_err(error)?;
    let (rule, mut limit) = config.rotary(style).map_err(error)?;
    let window = match (&style.window, config.sliding_window) {
        (WindowKey::Unread, _) => None,
        (WindowKey::Read(default), None) if !checkpoint.is_null("sliding_window") => *default,
        (WindowKey::Read(_), window) => window,
    };
    match window {
        None => {}
        Some(0) => return Err(error("sliding_window must be at least 1".into())),
        Some(window) if sizes.mask.is_causal() => sizes.mask = Mask::CausalWindow(window - 1),
        Some(window) => limit = limit.min(window),
    }
    let vocabulary = config.vocab_size.unwrap_or(style.sizes.vocabulary);
    let weights = checkpoint.weights();
    let prefix = weights.prefix(TABLES, "embed_tokens.weight")?;
    let loader = Loader::new(weights, prefix, precision, device);
    let positions = config.max_position_embeddings.unwrap_or(style.sizes.positions);
    let mut encoder = TextDecoder::load(&loader, &sizes, vocabulary, rule)?;
    if style.is_gemma {
        encoder = encoder.with_scale(f64::from((sizes.hidden as f64).sqrt() as f32));
    }
    Ok(Network {
        encoder: Box::new(encoder),
        width: sizes.hidden,
        positions: positions.min(limit),
        vocabulary,
        token_types: 0,
        rotary_positions: limit >= positions,
    })
}
