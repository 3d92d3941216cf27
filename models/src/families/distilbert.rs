//! DistilBERT: BERT without token types, under other names (Sanh et al., 2019; transformers
//! `modeling_distilbert.py`). Embedders such as multi-qa-distilbert and distiluse, sparse models of
//! OpenSearch.
//!
//! Must not know: templates, pooling, devices.

use proxima_kernels::Device;
use proxima_kernels::spec::{Activation, Precision};
use serde::Deserialize;

use super::heads::{self, ScoreNames, WordsNames};
use super::{Family, Network};
use crate::checkpoint::keys::Key;
use crate::checkpoint::keys::Rule::{NoEffect, Refused, Used};
use crate::checkpoint::keys::config::{HEADS, LAYERS, MLP, POSITIONS, VOCABULARY, WIDTH};
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::conventions::Conventions;
use crate::layers::{
    Biases, Loader, PostNorm, PostNormConfig, PostNormNames, QkvNames, TableSizes, UpNames,
    activation,
};

/// Its entry in the list of families.
pub fn family() -> Family {
    Family {
        model_type: "distilbert",
        is: None,
        architectures: &[
            "DistilBertModel",
            "DistilBertForMaskedLM",
            "DistilBertForSequenceClassification",
        ],
        keys: KEYS,
        conventions: Conventions::of("Bert"),
        files: &[],
        // Both CLS and mean pooling are common, so a checkpoint that sets neither is refused.
        pooling: |_| None,
        load,
        score: |checkpoint, width, device| {
            let (dense, activation) = ("pre_classifier", Activation::Relu);
            let names = ScoreNames { dense, activation, output: "classifier" };
            heads::score(checkpoint, width, device, &names)
        },
        language_model: None,
        words: Some(|checkpoint, network, device| {
            let config: Config = checkpoint.config()?;
            let sizes = config.sizes().map_err(|problem| checkpoint.config_error(problem))?;
            let words = heads::table_of_words(checkpoint, PREFIXES)?;
            let names = WordsNames {
                dense: "vocab_transform",
                norm: "vocab_layer_norm",
                bias: "vocab_projector.bias",
                decoder: "vocab_projector.weight",
                words: &words,
                activation: sizes.activation,
                eps: sizes.eps,
            };
            heads::words(checkpoint, network, device, &names)
        }),
    }
}

const TRAINING: &str = "for training";

/// Possible prefixes of tensor names.
const PREFIXES: &[&str] = &["", "distilbert."];

const KEYS: &[Key] = &[
    ("vocab_size", VOCABULARY),
    ("dim", WIDTH),
    ("n_layers", LAYERS),
    ("n_heads", HEADS),
    ("hidden_dim", MLP),
    ("max_position_embeddings", POSITIONS),
    ("activation", Used),
    ("hidden_size", Refused("DistilBERT's key is dim")),
    ("num_hidden_layers", Refused("DistilBERT's key is n_layers")),
    ("num_attention_heads", Refused("DistilBERT's key is n_heads")),
    ("sinusoidal_pos_embds", NoEffect("the table of positions is stored")),
    ("tie_weights_", NoEffect("tie_word_embeddings says it")),
    ("dropout", NoEffect(TRAINING)),
    ("qa_dropout", NoEffect(TRAINING)),
    ("seq_classif_dropout", NoEffect(TRAINING)),
];

/// Defaults are those of transformers' `DistilBertConfig`.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Config {
    dim: usize,
    n_layers: usize,
    n_heads: usize,
    hidden_dim: usize,
    vocab_size: usize,
    max_position_embeddings: usize,
    activation: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dim: 768,
            n_layers: 6,
            n_heads: 12,
            hidden_dim: 3072,
            vocab_size: 30_522,
            max_position_embeddings: 512,
            activation: "gelu".into(),
        }
    }
}

impl Config {
    fn sizes(&self) -> Result<PostNormConfig, String> {
        Ok(PostNormConfig {
            layers: self.n_layers,
            heads: PostNormConfig::heads(self.dim, self.n_heads)?,
            mlp: self.hidden_dim,
            // No key sets it.
            eps: 1e-12,
            activation: activation(&self.activation)
                .ok_or_else(|| format!("activation {:?} is not supported", self.activation))?,
            biases: Biases::ALL,
            rotary: None,
            experts: None,
        })
    }
}

const NAMES: PostNormNames = PostNormNames {
    embedding_norm: "embeddings.LayerNorm",
    layers: "transformer.layer",
    qkv: QkvNames::Apart(["attention.q_lin", "attention.k_lin", "attention.v_lin"]),
    output: "attention.out_lin",
    query_key_norms: None,
    inner_norm: None,
    attention_norm: "sa_layer_norm",
    up: UpNames::Plain("ffn.lin1"),
    down: "ffn.lin2",
    mlp_norm: "output_layer_norm",
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
        width: config.dim,
        vocabulary: config.vocab_size,
        positions: config.max_position_embeddings,
        token_types: 0,
        padding: None,
    };
    let weights = checkpoint.weights();
    let prefix = weights.prefix(PREFIXES, "embeddings.word_embeddings.weight")?;
    let loader = Loader::new(weights, prefix, precision, device);
    Ok(Network {
        encoder: Box::new(PostNorm::load(&loader, &tables, &sizes, &NAMES)?),
        width: tables.width,
        positions: tables.positions,
        rotary_positions: false,
        vocabulary: tables.vocabulary,
        token_types: 0,
    })
}
