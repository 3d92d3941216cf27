//! Jina's BERT of the second generation: scores fall with distance by a slope per head (ALiBi)
//! instead of learned positions, and MLPs are gated (Günther et al., 2023; the authors'
//! `jina-bert-implementation`, candle backend of text-embeddings-inference). jina-embeddings-v2 and
//! jina-reranker-v1; jina-embeddings-v2-base-code has norms of queries and keys in addition
//! (`jina-bert-v2-qk-post-norm`).
//!
//! Must not know: templates, pooling, devices.

use proxima_kernels::Device;
use proxima_kernels::spec::{Activation, Precision};
use serde::Deserialize;

use super::{Family, Network, heads};
use crate::checkpoint::keys::Rule::{NoEffect, Object, Only, Used};
use crate::checkpoint::keys::config::{
    EPS, HEADS, LAYERS, MLP, OTHER_TASKS, POSITIONS, TYPES, VOCABULARY, WIDTH,
};
use crate::checkpoint::keys::{Is, Key};
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::conventions::Conventions;
use crate::layers::{
    BiasRule, Biases, Loader, PostNorm, PostNormConfig, PostNormNames, QkvNames, RelativeBias,
    TableSizes, UpNames,
};
use crate::readout::Pooling;

/// Its entry in the list of families.
pub fn family() -> Family {
    Family {
        model_type: "bert",
        is: Some(|checkpoint| {
            checkpoint.text(&["position_embedding_type"]) == Some("alibi")
                || Code::of(checkpoint).is_some()
        }),
        architectures: &[
            "JinaBertModel",
            "JinaBertForMaskedLM",
            "JinaBertForSequenceClassification",
        ],
        keys: KEYS,
        conventions: Conventions::of("Bert"),
        files: &[],
        pooling: |checkpoint| {
            (checkpoint.text(&["emb_pooler"]) == Some("mean")).then_some(Pooling::Mean)
        },
        load,
        score: |checkpoint, width, device| heads::pooler_score(checkpoint, width, device, PREFIXES),
        language_model: None,
        words: None,
    }
}

/// Possible prefixes of tensor names.
const PREFIXES: &[&str] = &["", "bert."];

/// The authors' two implementations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Code {
    Plain,
    /// With norms of queries and keys.
    Normed,
}

const PLAIN: &str = "jinaai/jina-bert-implementation--modeling_bert.JinaBertModel";
const NORMED: &str = "jinaai/jina-bert-v2-qk-post-norm--modeling_bert.JinaBertModel";

impl Code {
    fn of(checkpoint: &Checkpoint) -> Option<Self> {
        match checkpoint.text(&["auto_map", "AutoModel"])? {
            PLAIN => Some(Self::Plain),
            NORMED => Some(Self::Normed),
            _ => None,
        }
    }
}

const CODE: &[Key] = &[
    ("AutoConfig", NoEffect("config.json is read as its model_type says")),
    (
        "AutoModel",
        Only(&[Is::Text(PLAIN), Is::Text(NORMED), Is::Text("modeling_bert.JinaBertModel")]),
    ),
    ("AutoModelForMaskedLM", NoEffect("another task's")),
    (
        "AutoModelForSequenceClassification",
        Only(&[
            Is::Text(
                "jinaai/jina-bert-implementation--modeling_bert.JinaBertForSequenceClassification",
            ),
            Is::Text(
                "jinaai/jina-bert-v2-qk-post-norm--modeling_bert.JinaBertForSequenceClassification",
            ),
        ]),
    ),
];

const KEYS: &[Key] = &[
    ("auto_map", Object(&[CODE, OTHER_TASKS])),
    ("vocab_size", VOCABULARY),
    ("hidden_size", WIDTH),
    ("num_hidden_layers", LAYERS),
    ("num_attention_heads", HEADS),
    ("intermediate_size", MLP),
    ("max_position_embeddings", POSITIONS),
    ("model_max_length", NoEffect("max_position_embeddings limits texts")),
    ("type_vocab_size", TYPES),
    ("layer_norm_eps", EPS),
    ("position_embedding_type", Only(&[Is::Text("alibi")])),
    ("feed_forward_type", Used),
    ("hidden_act", NoEffect("feed_forward_type says it")),
    ("emb_pooler", Used),
    ("attn_implementation", NoEffect("the answers are the same")),
];

/// Defaults are those of the authors' `JinaBertConfig`.
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
    position_embedding_type: Option<String>,
    feed_forward_type: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            vocab_size: 30_522,
            max_position_embeddings: 512,
            type_vocab_size: 2,
            layer_norm_eps: 1e-12,
            position_embedding_type: None,
            feed_forward_type: None,
        }
    }
}

impl Config {
    fn sizes(&self) -> Result<PostNormConfig, String> {
        if self.position_embedding_type.is_none() {
            return Err(
                "position_embedding_type is absent, which means learned positions, and only alibi \
                 is supported for this network"
                    .into(),
            );
        }
        let activation = match self.feed_forward_type.as_deref() {
            Some("geglu") => Activation::Gelu,
            Some("reglu") => Activation::Relu,
            other => {
                let kind = other.unwrap_or("absent");
                return Err(format!("feed_forward_type is {kind}; supported: geglu, reglu"));
            }
        };
        Ok(PostNormConfig {
            layers: self.num_hidden_layers,
            heads: PostNormConfig::heads(self.hidden_size, self.num_attention_heads)?,
            mlp: self.intermediate_size,
            eps: self.layer_norm_eps,
            activation,
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
    query_key_norms: None,
    output: "attention.output.dense",
    inner_norm: None,
    attention_norm: "attention.output.LayerNorm",
    up: UpNames::GateAndValue("mlp.gated_layers"),
    down: "mlp.wo",
    mlp_norm: "mlp.layernorm",
    experts: None,
};

/// Those of a network with norms of queries and keys.
const NORMED_NAMES: PostNormNames = PostNormNames {
    query_key_norms: Some(["attention.self.layer_norm_q", "attention.self.layer_norm_k"]),
    inner_norm: Some("attention.output.LayerNorm"),
    attention_norm: "layer_norm_1",
    up: UpNames::ValueAndGate("mlp.up_gated_layer"),
    down: "mlp.down_layer",
    mlp_norm: "layer_norm_2",
    ..NAMES
};

fn load(
    checkpoint: &Checkpoint,
    precision: Precision,
    device: &Device,
) -> Result<Network, CheckpointError> {
    let config: Config = checkpoint.config()?;
    let error = |problem: String| checkpoint.config_error(problem);
    let sizes = config.sizes().map_err(error)?;
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
    let is_normed = loader.has("encoder.layer.0.attention.self.layer_norm_q.weight");
    if Code::of(checkpoint).is_some_and(|code| (code == Code::Normed) != is_normed) {
        let problem = "auto_map names code that does not match the tensors: one has norms of \
                       queries and keys, the other does not";
        return Err(error(problem.into()));
    }
    let bias = RelativeBias::new(BiasRule::slopes(sizes.heads.heads), device);
    let bias = bias.map_err(|error| loader.failed(error))?;
    let names = if is_normed { &NORMED_NAMES } else { &NAMES };
    Ok(Network {
        encoder: Box::new(PostNorm::load(&loader, &tables, &sizes, names)?.with_bias(bias)),
        width: tables.width,
        positions: config.max_position_embeddings,
        rotary_positions: true,
        vocabulary: tables.vocabulary,
        token_types: tables.token_types,
    })
}
