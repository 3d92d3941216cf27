//! BERT: a post-norm bidirectional encoder with learned positions (Devlin et al., 2018;
//! transformers `modeling_bert.py`). Embedders such as MiniLM, BGE, E5, GTE-en and PEG, and
//! cross-encoders.
//!
//! Must not know: templates, pooling, devices.

use proxima_kernels::Device;
use proxima_kernels::spec::{Activation, Precision};
use serde::Deserialize;

use super::heads::{self, WordsNames};
use super::{Family, Network};
use crate::checkpoint::keys::Key;
use crate::checkpoint::keys::Rule::{NoEffect, Used};
use crate::checkpoint::keys::config::{
    EPS, HEADS, LAYERS, MLP, POSITIONS, TYPES, VOCABULARY, WIDTH,
};
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::conventions::Conventions;
use crate::layers::{
    Biases, Loader, PostNorm, PostNormConfig, PostNormNames, QkvNames, TableSizes, UpNames,
    activation,
};

/// Its entry in the list of families.
pub fn family() -> Family {
    Family {
        model_type: "bert",
        is: None,
        architectures: &[
            "BertModel",
            "BertForMaskedLM",
            "BertForPreTraining",
            "BertForSequenceClassification",
        ],
        keys: KEYS,
        conventions: Conventions::of("Bert"),
        files: &[],
        // Both CLS and mean pooling are common, so a checkpoint that sets neither is refused.
        pooling: |_| None,
        load: |checkpoint, precision, device| load(checkpoint, precision, device, &Style::BERT),
        score: |checkpoint, width, device| {
            heads::pooler_score(checkpoint, width, device, Style::BERT.prefixes)
        },
        language_model: None,
        words: Some(|checkpoint, network, device| {
            let (activation, eps) = words_activation(checkpoint)?;
            let names = WordsNames {
                dense: "cls.predictions.transform.dense",
                norm: "cls.predictions.transform.LayerNorm",
                bias: "cls.predictions.bias",
                decoder: "cls.predictions.decoder.weight",
                words: "bert.embeddings.word_embeddings.weight",
                activation,
                eps,
            };
            heads::words(checkpoint, network, device, &names)
        }),
    }
}

const TENSORFLOW: &str = "TensorFlow's first files had it; transformers does not read it";

/// Keys of `config.json` of BERT and RoBERTa.
pub(super) const KEYS: &[Key] = &[
    ("vocab_size", VOCABULARY),
    ("hidden_size", WIDTH),
    ("num_hidden_layers", LAYERS),
    ("num_attention_heads", HEADS),
    ("intermediate_size", MLP),
    ("max_position_embeddings", POSITIONS),
    ("type_vocab_size", TYPES),
    ("layer_norm_eps", EPS),
    ("hidden_act", Used),
    ("position_embedding_type", Used),
    // In RoBERTa, positions start after this id.
    ("pad_token_id", Used),
    ("directionality", NoEffect(TENSORFLOW)),
    ("pooler_fc_size", NoEffect(TENSORFLOW)),
    ("pooler_num_attention_heads", NoEffect(TENSORFLOW)),
    ("pooler_num_fc_layers", NoEffect(TENSORFLOW)),
    ("pooler_size_per_head", NoEffect(TENSORFLOW)),
    ("pooler_type", NoEffect(TENSORFLOW)),
];

/// The activation of the head over words, and the epsilon of its norm.
pub(super) fn words_activation(
    checkpoint: &Checkpoint,
) -> Result<(Activation, f32), CheckpointError> {
    let config: Config = checkpoint.config()?;
    let sizes = config.sizes().map_err(|problem| checkpoint.config_error(problem))?;
    Ok((sizes.activation, sizes.eps))
}

/// How networks of this architecture differ.
pub(super) struct Style {
    /// Possible prefixes of tensor names.
    pub prefixes: &'static [&'static str],
    /// Whether positions start after the padding token's id, as in RoBERTa.
    pub positions_after_padding: bool,
}

impl Style {
    const BERT: Self = Self { prefixes: &["", "bert."], positions_after_padding: false };
}

/// Defaults are those of transformers' `BertConfig`, which RoBERTa shares except for the vocabulary
/// size.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Config {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    vocab_size: Option<usize>,
    max_position_embeddings: usize,
    type_vocab_size: usize,
    layer_norm_eps: f32,
    hidden_act: String,
    position_embedding_type: Option<String>,
    pad_token_id: Option<i64>,
    is_decoder: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            vocab_size: None,
            max_position_embeddings: 512,
            type_vocab_size: 2,
            layer_norm_eps: 1e-12,
            hidden_act: "gelu".into(),
            position_embedding_type: None,
            pad_token_id: None,
            is_decoder: false,
        }
    }
}

impl Config {
    fn sizes(&self) -> Result<PostNormConfig, String> {
        if let Some(kind) = &self.position_embedding_type
            && kind != "absolute"
        {
            return Err(format!(
                "position_embedding_type {kind:?} is not supported; supported: absolute"
            ));
        }
        if self.is_decoder {
            return Err("a BERT decoder (is_decoder) is not supported".into());
        }
        if self.intermediate_size == 0 || self.type_vocab_size == 0 {
            return Err("intermediate_size and type_vocab_size must be at least 1".into());
        }
        Ok(PostNormConfig {
            layers: self.num_hidden_layers,
            heads: PostNormConfig::heads(self.hidden_size, self.num_attention_heads)?,
            mlp: self.intermediate_size,
            eps: self.layer_norm_eps,
            activation: activation(&self.hidden_act)
                .ok_or_else(|| format!("hidden_act {:?} is not supported", self.hidden_act))?,
            biases: Biases::ALL,
            rotary: None,
            experts: None,
        })
    }
}

const NAMES: PostNormNames = PostNormNames {
    embedding_norm: "embeddings.LayerNorm",
    layers: "encoder.layer",
    qkv: QkvNames::Apart(["attention.self.query", "attention.self.key", "attention.self.value"]),
    output: "attention.output.dense",
    query_key_norms: None,
    inner_norm: None,
    attention_norm: "attention.output.LayerNorm",
    up: UpNames::Plain("intermediate.dense"),
    down: "output.dense",
    mlp_norm: "output.LayerNorm",
    experts: None,
};

/// Loads a network of this architecture.
pub(super) fn load(
    checkpoint: &Checkpoint,
    precision: Precision,
    device: &Device,
    style: &Style,
) -> Result<Network, CheckpointError> {
    let config: Config = checkpoint.config()?;
    let sizes = config.sizes().map_err(|problem| checkpoint.config_error(problem))?;
    let padding = match config.pad_token_id {
        None if !checkpoint.is_null("pad_token_id") => Some(1),
        id => id.and_then(|id| u32::try_from(id).ok()),
    };
    if style.positions_after_padding && padding.is_none() {
        let problem = "pad_token_id is not a token id, but positions start after it; set it to \
                       that of the padding token (1 as published)";
        return Err(checkpoint.config_error(problem));
    }
    let padding = padding.filter(|_| style.positions_after_padding);
    let tables = TableSizes {
        width: config.hidden_size,
        vocabulary: config.vocab_size.unwrap_or(match checkpoint.model_type() {
            "roberta" => 50_265,
            _ => 30_522,
        }),
        positions: config.max_position_embeddings,
        token_types: config.type_vocab_size,
        padding,
    };
    let weights = checkpoint.weights();
    let prefix = weights.prefix(style.prefixes, "embeddings.word_embeddings.weight")?;
    let loader = Loader::new(weights, prefix, precision, device);
    Ok(Network {
        encoder: Box::new(PostNorm::load(&loader, &tables, &sizes, &NAMES)?),
        width: tables.width,
        positions: tables.positions.saturating_sub(padding.map_or(0, |id| id as usize + 1)),
        rotary_positions: false,
        vocabulary: tables.vocabulary,
        token_types: tables.token_types,
    })
}
