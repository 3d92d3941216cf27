//! NomicBERT: BERT with rotary positions and a gated MLP (Nussbaum et al., 2024; transformers
//! `modeling_nomic_bert.py`). Embedders such as nomic-embed-text-v1 and v1.5, arctic-embed-m-long
//! and CodeRankEmbed; and nomic-embed-text-v2-moe, which has experts instead of every second MLP
//! (Nussbaum and Duderstadt, 2025; candle backend of text-embeddings-inference, vLLM's `NomicMoE`).
//!
//! Published files have the keys of the authors' code, those that transformers saves its own.
//! Must not know: templates, pooling, devices.

use proxima_kernels::Device;
use proxima_kernels::spec::{Activation, Precision};
use serde::Deserialize;
use serde_json::Value;

use super::{Family, Network, heads};
use crate::checkpoint::keys::Rule::{Count, NoEffect, Object, Only, Refused, Used};
use crate::checkpoint::keys::config::{
    EPS, HEADS, LAYERS, MLP, POSITIONS, SCALED_ROTARY, THETA, TYPES, VOCABULARY, WIDTH,
};
use crate::checkpoint::keys::{Is, Key};
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::conventions::Conventions;
use crate::layers::{
    Biases, ExpertsConfig, ExpertsNames, Loader, PostNorm, PostNormConfig, PostNormNames, QkvNames,
    RotaryRule, Scaling, TableSizes, UpNames, rope_object,
};

/// Its entry in the list of families.
pub fn family() -> Family {
    Family {
        model_type: "nomic_bert",
        is: None,
        architectures: &["NomicBertModel", "NomicBertForSequenceClassification"],
        keys: KEYS,
        conventions: Conventions::of("Bert"),
        files: &[],
        // Both CLS and mean pooling are common, so a checkpoint that sets neither is refused.
        pooling: |_| None,
        load,
        score: |checkpoint, width, device| heads::pooler_score(checkpoint, width, device, PREFIXES),
        language_model: None,
        words: None,
    }
}

/// Possible prefixes of tensor names.
const PREFIXES: &[&str] = &["", "nomic_bert.", "bert."];

const DROPOUT: &str = "for training";
const FUSED: &str = "says how the authors' code computes it";
/// Values of `AutoModel` whose code computes this network.
const OWN_CODE: &[Is] = &[
    Is::Text("nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel"),
    Is::Text("modeling_hf_nomic_bert.NomicBertModel"),
];
const AUTO_MAP: &[Key] = &[
    ("AutoConfig", NoEffect("config.json is read as its model_type says")),
    ("AutoModel", Only(OWN_CODE)),
    ("AutoModelForMaskedLM", NoEffect("another task's")),
    ("AutoModelForSequenceClassification", NoEffect("another task's")),
    ("AutoModelForMultipleChoice", NoEffect("another task's")),
    ("AutoModelForQuestionAnswering", NoEffect("another task's")),
    ("AutoModelForTokenClassification", NoEffect("another task's")),
];

const KEYS: &[Key] = &[
    ("auto_map", Object(&[AUTO_MAP])),
    ("vocab_size", VOCABULARY),
    ("type_vocab_size", TYPES),
    // Of the authors' code.
    ("n_embd", WIDTH),
    ("n_layer", LAYERS),
    ("n_head", HEADS),
    ("n_inner", MLP),
    ("n_positions", POSITIONS),
    ("max_trained_positions", POSITIONS),
    ("layer_norm_epsilon", EPS),
    ("activation_function", Used),
    ("rotary_emb_base", THETA),
    ("rotary_scaling_factor", Used),
    ("rotary_emb_fraction", Only(&[Is::Number(1.0)])),
    ("rotary_emb_interleaved", Refused("interleaved rotary positions are not supported")),
    ("rotary_emb_scale_base", Refused("xPos is not supported")),
    ("qkv_proj_bias", Used),
    ("mlp_fc1_bias", Used),
    ("mlp_fc2_bias", Used),
    ("prenorm", Refused("norms before the layers are not supported")),
    ("parallel_block", Refused("attention in parallel with the MLP is not supported")),
    ("parallel_block_tied_norm", NoEffect("for parallel_block, which is refused")),
    ("add_pooling_layer", NoEffect("another task's")),
    ("original_max_position_embeddings", Refused("it belongs in rope_parameters")),
    ("partial_rotary_factor", Only(&[Is::Number(1.0)])),
    ("causal", Refused("this network is supported with full attention only")),
    ("use_rms_norm", Refused("RMS norms are not supported for nomic_bert")),
    ("scale_attn_weights", Only(&[Is::Bool(true)])),
    ("scale_attn_by_inverse_layer_idx", Refused("scores are scaled by the size of heads alone")),
    ("num_experts", Count(0, 1024)),
    ("moe_top_k", Count(1, 1024)),
    ("moe_every_n_layers", Count(0, 1024)),
    ("moe_impl", NoEffect(FUSED)),
    ("moe_normalize_expert_weights", Refused("weights of experts are not normalised")),
    ("moe_resid_pdrop", NoEffect(DROPOUT)),
    ("ffn_div", Only(&[Is::Number(1.0)])),
    ("expert_choice_router", Refused("tokens choose experts, not the other way round")),
    ("num_shared_experts", Refused("experts for all tokens are not supported")),
    ("router_aux_loss_coef", NoEffect(DROPOUT)),
    ("pad_vocab_size_multiple", NoEffect("vocab_size counts the rows that are stored")),
    ("pad_vocab_to_multiple_of", NoEffect("vocab_size counts the rows that are stored")),
    ("dense_seq_output", NoEffect(FUSED)),
    ("fused_bias_fc", NoEffect(FUSED)),
    ("fused_dropout_add_ln", NoEffect(FUSED)),
    ("use_flash_attn", NoEffect(FUSED)),
    ("use_xentropy", NoEffect(DROPOUT)),
    ("reorder_and_upcast_attn", NoEffect(FUSED)),
    ("last_layer_subset", NoEffect(FUSED)),
    ("seq_parallel", NoEffect(FUSED)),
    ("summary_activation", NoEffect("another task's")),
    ("summary_first_dropout", NoEffect("another task's")),
    ("summary_proj_to_labels", NoEffect("another task's")),
    ("summary_type", NoEffect("another task's")),
    ("summary_use_proj", NoEffect("another task's")),
    ("rotary_emb_dim", NoEffect("rotary_emb_fraction says it")),
    // Of transformers.
    ("hidden_size", WIDTH),
    ("num_hidden_layers", LAYERS),
    ("num_attention_heads", HEADS),
    ("intermediate_size", MLP),
    ("max_position_embeddings", POSITIONS),
    ("layer_norm_eps", EPS),
    ("hidden_act", Used),
    ("head_dim", Used),
    ("rope_parameters", Object(&[SCALED_ROTARY])),
    ("rope_scaling", Object(&[SCALED_ROTARY])),
    ("rope_theta", THETA),
];

/// Keys that files with the authors' keys must have, as the defaults of their code are others.
const NEEDED: [&str; 9] = [
    "n_inner",
    "n_positions",
    "layer_norm_epsilon",
    "activation_function",
    "rotary_emb_base",
    "rotary_emb_fraction",
    "qkv_proj_bias",
    "mlp_fc1_bias",
    "mlp_fc2_bias",
];

/// Defaults are those of transformers' `NomicBertConfig`.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Config {
    #[serde(alias = "n_embd")]
    hidden_size: usize,
    #[serde(alias = "n_layer")]
    num_hidden_layers: usize,
    #[serde(alias = "n_head")]
    num_attention_heads: usize,
    #[serde(alias = "n_inner")]
    intermediate_size: Option<usize>,
    #[serde(alias = "n_positions")]
    max_position_embeddings: usize,
    #[serde(alias = "layer_norm_epsilon")]
    layer_norm_eps: f32,
    #[serde(alias = "activation_function")]
    hidden_act: String,
    #[serde(alias = "rotary_emb_base")]
    rope_theta: f64,
    max_trained_positions: usize,
    rotary_scaling_factor: Option<f64>,
    rope_parameters: Value,
    rope_scaling: Value,
    head_dim: Option<usize>,
    vocab_size: usize,
    type_vocab_size: usize,
    qkv_proj_bias: bool,
    mlp_fc1_bias: bool,
    mlp_fc2_bias: bool,
    num_experts: Option<usize>,
    moe_top_k: Option<usize>,
    moe_every_n_layers: Option<usize>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: Some(3072),
            max_position_embeddings: 2048,
            layer_norm_eps: 1e-12,
            hidden_act: "silu".into(),
            rope_theta: 1000.0,
            max_trained_positions: 2048,
            rotary_scaling_factor: None,
            rope_parameters: Value::Null,
            rope_scaling: Value::Null,
            head_dim: None,
            vocab_size: 30_528,
            type_vocab_size: 2,
            qkv_proj_bias: false,
            mlp_fc1_bias: false,
            mlp_fc2_bias: false,
            num_experts: None,
            moe_top_k: None,
            moe_every_n_layers: None,
        }
    }
}

impl Config {
    fn sizes(&self) -> Result<PostNormConfig, String> {
        let heads = PostNormConfig::heads(self.hidden_size, self.num_attention_heads)?;
        if self.head_dim.is_some_and(|size| size != heads.size) || !heads.size.is_multiple_of(2) {
            return Err(format!(
                "heads of {} components are not supported, nor a head_dim of another size",
                heads.size
            ));
        }
        let activation = match (self.hidden_act.as_str(), self.mlp_fc1_bias) {
            ("swiglu" | "silu" | "swish", false) => Activation::Silu,
            ("gelu", true) => Activation::Gelu,
            (other, bias) => {
                return Err(format!(
                    "activation {other:?} with mlp_fc1_bias {bias} is not supported; supported: \
                     swiglu without, gelu with it"
                ));
            }
        };
        let experts = match (self.num_experts.unwrap_or(0), self.moe_every_n_layers) {
            (0, _) | (_, None | Some(0)) => None,
            (_, Some(1)) => return Err("moe_every_n_layers must be at least 2".into()),
            _ if activation != Activation::Gelu => {
                return Err("experts with a gated MLP are not supported".into());
            }
            (count, Some(every)) => {
                let chosen = self.moe_top_k.unwrap_or(1);
                if chosen > count {
                    return Err(format!("moe_top_k is {chosen}, but num_experts is {count}"));
                }
                Some(ExpertsConfig { count, chosen, every })
            }
        };
        let positions = self.max_position_embeddings;
        Ok(PostNormConfig {
            layers: self.num_hidden_layers,
            heads,
            // The authors' files may say null.
            mlp: self.intermediate_size.unwrap_or(4 * self.hidden_size),
            eps: self.layer_norm_eps,
            activation,
            biases: Biases {
                qkv: self.qkv_proj_bias,
                output: self.qkv_proj_bias,
                down: self.mlp_fc2_bias,
            },
            rotary: Some(RotaryRule::of(
                rope_object(&self.rope_scaling, &self.rope_parameters).1,
                self.rope_theta,
                positions,
            )?),
            experts,
        })
    }

    /// The longest text. With `rotary_scaling_factor`, frequencies change with the length of a
    /// text beyond the trained positions, which is not computed.
    fn positions(&self) -> usize {
        match self.rotary_scaling_factor {
            Some(_) => self.max_position_embeddings.min(self.max_trained_positions),
            None => self.max_position_embeddings,
        }
    }
}

const NAMES: PostNormNames = PostNormNames {
    embedding_norm: "emb_ln",
    layers: "encoder.layers",
    qkv: QkvNames::Stacked("attn.Wqkv"),
    output: "attn.out_proj",
    query_key_norms: None,
    inner_norm: None,
    attention_norm: "norm1",
    up: UpNames::Gated { gate: "mlp.fc12", value: "mlp.fc11" },
    down: "mlp.fc2",
    mlp_norm: "norm2",
    experts: Some(ExpertsNames {
        router: "mlp.router.layer.weight",
        up: "mlp.experts.mlp.w1",
        down: "mlp.experts.mlp.w2",
        bias: "mlp.experts.bias",
    }),
};

/// Those of a network whose MLP has no gate.
const UNGATED: PostNormNames = PostNormNames { up: UpNames::Plain("mlp.fc1"), ..NAMES };

fn load(
    checkpoint: &Checkpoint,
    precision: Precision,
    device: &Device,
) -> Result<Network, CheckpointError> {
    let missing = NEEDED.iter().find(|key| checkpoint.has("n_embd") && !checkpoint.has(key));
    if let Some(key) = missing {
        return Err(
            checkpoint.config_error(format!("there is no {key}, which is needed with n_embd"))
        );
    }
    let config: Config = checkpoint.config()?;
    let sizes = config.sizes().map_err(|problem| checkpoint.config_error(problem))?;
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
    let names = if sizes.activation == Activation::Gelu { &UNGATED } else { &NAMES };
    let scaled = config.rotary_scaling_factor.is_some()
        || sizes.rotary.is_some_and(|rule| rule.scaling != Scaling::None);
    Ok(Network {
        encoder: Box::new(PostNorm::load(&loader, &tables, &sizes, names)?),
        width: tables.width,
        positions: config.positions(),
        rotary_positions: !scaled,
        vocabulary: tables.vocabulary,
        token_types: tables.token_types,
    })
}
