//! DeBERTa v2 and v3: BERT whose attention compares content and relative positions apart (He et
//! al., 2021; transformers `modeling_deberta_v2.py`). Rerankers such as mxbai-rerank-base-v1, and
//! classifiers.
//!
//! Must not know: templates, devices.

use proxima_kernels::Device;
use proxima_kernels::spec::{Activation, Precision};
use serde::Deserialize;
use serde_json::Value;

use super::heads::{self, ScoreNames};
use super::{Family, Network};
use crate::checkpoint::keys::Rule::{Count, NoEffect, Number, Only, Size, Used};
use crate::checkpoint::keys::config::{EPS, HEADS, LAYERS, MLP, VOCABULARY, WIDTH};
use crate::checkpoint::keys::{Is, Key};
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::conventions::Conventions;
use crate::layers::{
    Biases, Loader, LogBuckets, PostNorm, PostNormConfig, PostNormNames, QkvNames, TableSizes,
    TokenBiasConfig, TokenBiases, UpNames, activation,
};

/// Its entry in the list of families.
pub fn family() -> Family {
    Family {
        model_type: "deberta-v2",
        is: None,
        architectures: &["DebertaV2Model", "DebertaV2ForSequenceClassification"],
        keys: KEYS,
        conventions: Conventions::of("DebertaV2"),
        files: &[],
        // Both CLS and mean pooling are in use, so a checkpoint that sets neither is refused.
        pooling: |_| None,
        load,
        score: |checkpoint, width, device| {
            let config: Config = checkpoint.config()?;
            let activation = config.pooler_activation();
            let activation = activation.map_err(|problem| checkpoint.config_error(problem))?;
            let names = ScoreNames { dense: "pooler.dense", activation, output: "classifier" };
            heads::score(checkpoint, width, device, &names)
        },
        language_model: None,
        words: None,
    }
}

/// Possible prefixes of tensor names.
const PREFIXES: &[&str] = &["", "deberta."];

const KEYS: &[Key] = &[
    ("vocab_size", VOCABULARY),
    ("hidden_size", WIDTH),
    ("num_hidden_layers", LAYERS),
    ("num_attention_heads", HEADS),
    ("attention_head_size", Count(1, 1 << 16)),
    ("intermediate_size", MLP),
    ("max_position_embeddings", Size(1, 1 << 16)),
    ("type_vocab_size", Size(0, 1 << 16)),
    ("embedding_size", WIDTH),
    ("layer_norm_eps", EPS),
    ("hidden_act", Used),
    ("relative_attention", Only(&[Is::Bool(true)])),
    ("max_relative_positions", Number(-1.0, 65536.0)),
    ("position_buckets", Number(-1.0, 65536.0)),
    ("position_biased_input", Used),
    ("pos_att_type", Used),
    ("share_att_key", Used),
    ("norm_rel_ebd", Used),
    ("conv_kernel_size", Only(&[Is::Number(0.0)])),
    ("conv_act", NoEffect("there is no convolution")),
    ("conv_groups", NoEffect("there is no convolution")),
    ("pooler_hidden_act", Used),
    ("pooler_hidden_size", WIDTH),
    ("pooler_dropout", NoEffect("for training")),
    ("cls_dropout", NoEffect("for training")),
    ("legacy", NoEffect("for masked language models, which are not supported")),
];

/// Defaults are those of transformers' `DebertaV2Config`, or of the code that reads a key.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Config {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    attention_head_size: Option<usize>,
    intermediate_size: usize,
    vocab_size: usize,
    max_position_embeddings: usize,
    type_vocab_size: usize,
    embedding_size: Option<usize>,
    layer_norm_eps: f32,
    hidden_act: String,
    relative_attention: bool,
    max_relative_positions: i64,
    position_buckets: i64,
    position_biased_input: bool,
    pos_att_type: Value,
    share_att_key: bool,
    norm_rel_ebd: String,
    pooler_hidden_act: String,
    pooler_hidden_size: Option<usize>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hidden_size: 1536,
            num_hidden_layers: 24,
            num_attention_heads: 24,
            attention_head_size: None,
            intermediate_size: 6144,
            vocab_size: 128_100,
            max_position_embeddings: 512,
            type_vocab_size: 0,
            embedding_size: None,
            layer_norm_eps: 1e-7,
            hidden_act: "gelu".into(),
            relative_attention: false,
            max_relative_positions: -1,
            position_buckets: -1,
            position_biased_input: true,
            pos_att_type: Value::Null,
            share_att_key: false,
            norm_rel_ebd: "none".into(),
            pooler_hidden_act: "gelu".into(),
            pooler_hidden_size: None,
        }
    }
}

impl Config {
    fn sizes(&self) -> Result<PostNormConfig, String> {
        if !self.relative_attention {
            return Err("relative_attention is not true, and this network is supported with \
                        relative positions only"
                .into());
        }
        self.compares_both_ways()?;
        let heads = PostNormConfig::heads(self.hidden_size, self.num_attention_heads)?;
        let same = [
            ("attention_head_size", self.attention_head_size, heads.size),
            ("embedding_size", self.embedding_size, self.hidden_size),
            ("pooler_hidden_size", self.pooler_hidden_size, self.hidden_size),
        ];
        for (key, value, only) in same {
            if value.is_some_and(|value| value != only) {
                return Err(format!(
                    "{key} is supported with {only} only, the size of the network"
                ));
            }
        }
        Ok(PostNormConfig {
            layers: self.num_hidden_layers,
            heads,
            mlp: self.intermediate_size,
            eps: self.layer_norm_eps,
            activation: activation(&self.hidden_act)
                .ok_or_else(|| format!("hidden_act {:?} is not supported", self.hidden_act))?,
            biases: Biases::ALL,
            rotary: None,
            experts: None,
        })
    }

    /// Checks that attention has both terms of content and position, as all published ones do.
    fn compares_both_ways(&self) -> Result<(), String> {
        let mut kinds: Vec<String> = match &self.pos_att_type {
            Value::String(kinds) => {
                kinds.to_lowercase().split('|').map(|kind| kind.trim().to_owned()).collect()
            }
            Value::Array(kinds) => {
                let kinds = kinds.iter().map(|kind| kind.as_str().map(str::to_owned));
                kinds.collect::<Option<_>>().unwrap_or_default()
            }
            _ => Vec::new(),
        };
        kinds.sort_unstable();
        if kinds != ["c2p", "p2c"] {
            let found = &self.pos_att_type;
            return Err(format!("pos_att_type is {found}; supported: [\"p2c\", \"c2p\"]"));
        }
        Ok(())
    }

    fn buckets(&self) -> Result<LogBuckets, String> {
        let distance_max = match usize::try_from(self.max_relative_positions) {
            Ok(distance) if distance > 0 => distance,
            _ => self.max_position_embeddings,
        };
        match usize::try_from(self.position_buckets) {
            Ok(span) if span > 0 => {
                if span < 4 || distance_max <= span / 2 + 1 {
                    return Err(format!(
                        "position_buckets of {span} do not fit max_relative_positions of \
                         {distance_max}"
                    ));
                }
                Ok(LogBuckets { span, distance_max, shares: true })
            }
            _ => Ok(LogBuckets { span: distance_max, distance_max, shares: false }),
        }
    }

    /// Whether the embeddings of relative positions are normalised.
    fn norms_positions(&self) -> Result<bool, String> {
        match self.norm_rel_ebd.trim().to_lowercase().as_str() {
            "layer_norm" => Ok(true),
            "none" => Ok(false),
            other => Err(format!("norm_rel_ebd is {other:?}; supported: layer_norm, none")),
        }
    }

    fn pooler_activation(&self) -> Result<Activation, String> {
        let name = &self.pooler_hidden_act;
        activation(name).ok_or_else(|| format!("pooler_hidden_act {name:?} is not supported"))
    }
}

const NAMES: PostNormNames = PostNormNames {
    embedding_norm: "embeddings.LayerNorm",
    layers: "encoder.layer",
    qkv: QkvNames::Apart([QUERIES, KEYS_OF, "attention.self.value_proj"]),
    output: "attention.output.dense",
    query_key_norms: None,
    inner_norm: None,
    attention_norm: "attention.output.LayerNorm",
    up: UpNames::Plain("intermediate.dense"),
    down: "output.dense",
    mlp_norm: "output.LayerNorm",
    experts: None,
};

const QUERIES: &str = "attention.self.query_proj";
const KEYS_OF: &str = "attention.self.key_proj";

fn load(
    checkpoint: &Checkpoint,
    precision: Precision,
    device: &Device,
) -> Result<Network, CheckpointError> {
    let error = |problem: String| checkpoint.config_error(problem);
    let config: Config = checkpoint.config()?;
    let sizes = config.sizes().map_err(error)?;
    let norms_positions = config.norms_positions().map_err(error)?;
    let tables = TableSizes {
        width: config.hidden_size,
        vocabulary: config.vocab_size,
        positions: if config.position_biased_input { config.max_position_embeddings } else { 0 },
        token_types: config.type_vocab_size,
        padding: None,
    };
    let weights = checkpoint.weights();
    let prefix = weights.prefix(PREFIXES, "embeddings.word_embeddings.weight")?;
    let loader = Loader::new(weights, prefix, precision, device);
    let (queries, keys) = match config.share_att_key {
        true => (QUERIES, KEYS_OF),
        false => ("attention.self.pos_query_proj", "attention.self.pos_key_proj"),
    };
    let biases = TokenBiases::load(
        &loader,
        &TokenBiasConfig {
            layers: NAMES.layers,
            count: sizes.layers,
            heads: sizes.heads,
            table: "encoder.rel_embeddings.weight",
            norm: norms_positions.then_some(("encoder.LayerNorm", config.layer_norm_eps)),
            buckets: config.buckets().map_err(error)?,
            length: config.max_position_embeddings,
            queries,
            keys,
        },
    )?;
    let encoder = PostNorm::load(&loader, &tables, &sizes, &NAMES)?.with_token_biases(biases);
    Ok(Network {
        encoder: Box::new(encoder),
        width: tables.width,
        positions: config.max_position_embeddings,
        rotary_positions: false,
        vocabulary: tables.vocabulary,
        token_types: tables.token_types,
    })
}
