//! MPNet: BERT without token types, with positions as in RoBERTa and a bias of attention by
//! relative position (Song et al., 2020; transformers `modeling_mpnet.py`). Embedders such as
//! all-mpnet-base-v2.
//!
//! Must not know: templates, pooling, devices.

use proxima_kernels::Device;
use proxima_kernels::spec::{Activation, Precision};
use serde::Deserialize;

use super::heads::{self, WordsNames};
use super::{Family, Network, xlm_roberta};
use crate::checkpoint::keys::Rule::{NoEffect, Only, Used};
use crate::checkpoint::keys::config::{EPS, HEADS, LAYERS, MLP, POSITIONS, VOCABULARY, WIDTH};
use crate::checkpoint::keys::{Is, Key};
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::conventions::Conventions;
use crate::layers::{
    BiasRule, Biases, Buckets, Loader, PostNorm, PostNormConfig, PostNormNames, QkvNames,
    RelativeBias, TableSizes, UpNames, activation,
};

/// Its entry in the list of families.
pub fn family() -> Family {
    Family {
        model_type: "mpnet",
        is: None,
        architectures: &["MPNetModel", "MPNetForMaskedLM", "MPNetForSequenceClassification"],
        keys: KEYS,
        conventions: Conventions::of("MPNet"),
        files: &[],
        // Both CLS and mean pooling are common, so a checkpoint that sets neither is refused.
        pooling: |_| None,
        load,
        score: |checkpoint, width, device| {
            heads::score(checkpoint, width, device, &xlm_roberta::SCORE)
        },
        language_model: None,
        words: Some(|checkpoint, network, device| {
            let config: Config = checkpoint.config()?;
            let words = heads::table_of_words(checkpoint, PREFIXES)?;
            let names = WordsNames {
                dense: "lm_head.dense",
                norm: "lm_head.layer_norm",
                bias: "lm_head.bias",
                decoder: "lm_head.decoder.weight",
                words: &words,
                // Whatever hidden_act says.
                activation: Activation::Gelu,
                eps: config.layer_norm_eps,
            };
            heads::words(checkpoint, network, device, &names)
        }),
    }
}

/// transformers always computes 32 buckets, up to a distance of 128.
const BUCKETS: Buckets = Buckets { count: 32, distance_max: 128 };
/// Positions start after this id, whatever `pad_token_id` says.
const PADDING: u32 = 1;

/// Possible prefixes of tensor names.
const PREFIXES: &[&str] = &["", "mpnet."];

const KEYS: &[Key] = &[
    ("vocab_size", VOCABULARY),
    ("hidden_size", WIDTH),
    ("num_hidden_layers", LAYERS),
    ("num_attention_heads", HEADS),
    ("intermediate_size", MLP),
    ("max_position_embeddings", POSITIONS),
    ("layer_norm_eps", EPS),
    ("hidden_act", Used),
    ("relative_attention_num_buckets", Only(&[Is::Number(BUCKETS.count as f64)])),
    ("type_vocab_size", NoEffect("MPNet has no token types")),
];

/// Defaults are those of transformers' `MPNetConfig`.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Config {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    vocab_size: usize,
    max_position_embeddings: usize,
    layer_norm_eps: f32,
    hidden_act: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            vocab_size: 30_527,
            max_position_embeddings: 512,
            layer_norm_eps: 1e-12,
            hidden_act: "gelu".into(),
        }
    }
}

impl Config {
    fn sizes(&self) -> Result<PostNormConfig, String> {
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
    qkv: QkvNames::Apart(["attention.attn.q", "attention.attn.k", "attention.attn.v"]),
    output: "attention.attn.o",
    query_key_norms: None,
    inner_norm: None,
    attention_norm: "attention.LayerNorm",
    up: UpNames::Plain("intermediate.dense"),
    down: "output.dense",
    mlp_norm: "output.LayerNorm",
    experts: None,
};

fn load(
    checkpoint: &Checkpoint,
    precision: Precision,
    device: &Device,
) -> Result<Network, CheckpointError> {
    let config: Config = checkpoint.config()?;
    let sizes = config.sizes().map_err(|problem| checkpoint.config_error(problem))?;
    let tables = TableSizes {
        width: config.hidden_size,
        vocabulary: config.vocab_size,
        positions: config.max_position_embeddings,
        token_types: 0,
        padding: Some(PADDING),
    };
    let weights = checkpoint.weights();
    let prefix = weights.prefix(PREFIXES, "embeddings.word_embeddings.weight")?;
    let loader = Loader::new(weights, prefix, precision, device);
    let heads = sizes.heads.heads;
    let values =
        loader.stored("encoder.relative_attention_bias.weight", &[BUCKETS.count, heads])?;
    let rule = BiasRule::Buckets { buckets: BUCKETS, values: values.to_f32() };
    let bias = RelativeBias::new(rule, device);
    let bias = bias.map_err(|error| loader.failed(error))?;
    Ok(Network {
        encoder: Box::new(PostNorm::load(&loader, &tables, &sizes, &NAMES)?.with_bias(bias)),
        width: tables.width,
        positions: tables.positions.saturating_sub(PADDING as usize + 1),
        rotary_positions: false,
        vocabulary: tables.vocabulary,
        token_types: 0,
    })
}
