//! Qwen3: a pre-norm causal decoder with grouped queries, norms of queries and keys per head,
//! rotary positions and a SiLU-gated MLP (Qwen3 technical report, 2025; transformers
//! `modeling_qwen3.py`).
//!
//! Must not know: templates, pooling, devices.

use proxima_kernels::cpu::Activation;
use proxima_kernels::ops::attention::{Heads, Mask, attention_for};
use proxima_kernels::ops::embedding::Embedding;
use proxima_kernels::ops::linear::{GatedLinear, Linear, Precision};
use proxima_kernels::ops::norm::{rms_norm, rms_norm_for};
use proxima_kernels::ops::rotary::{HeadNorms, rotary};
use proxima_kernels::{Device, KernelError, Tensor};
use serde::Deserialize;

use super::{Family, Network};
use crate::batch::{Encoder, HiddenStates, RaggedBatch};
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::layers::{Loader, Rotary, activation};
use crate::readout::{HeadLayer, Pooling, ScoreReadout};

/// The entry of the list.
pub fn family() -> Family {
    Family {
        model_type: "qwen3",
        architectures: &["Qwen3Model", "Qwen3ForCausalLM", "Qwen3ForSequenceClassification"],
        pooling: |checkpoint| {
            // A bare decoder is read at its last token; one with a language head may be anything.
            let bare = checkpoint.architectures().iter().all(|name| *name == "Qwen3Model");
            bare.then_some(Pooling::Last)
        },
        load,
        score: |checkpoint, width, device| {
            let loader = Loader::new(checkpoint.weights(), "", Precision::Float32, device);
            let labels = checkpoint.labels();
            let head = HeadLayer::load(&loader, "score", (width, labels.len()), false)?;
            Ok(ScoreReadout::new(Pooling::Last, vec![head], labels))
        },
        words: None,
    }
}

#[derive(Debug, Deserialize)]
struct Config {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    intermediate_size: usize,
    vocab_size: usize,
    max_position_embeddings: usize,
    #[serde(default = "default_eps")]
    rms_norm_eps: f32,
    #[serde(default = "default_activation")]
    hidden_act: String,
    #[serde(default)]
    attention_bias: bool,
    rope_theta: Option<f64>,
    rope_parameters: Option<RopeParameters>,
    rope_scaling: Option<serde_json::Value>,
    #[serde(default)]
    use_sliding_window: bool,
    #[serde(default)]
    layer_types: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct RopeParameters {
    rope_theta: Option<f64>,
    rope_type: Option<String>,
}

fn default_eps() -> f32 {
    1e-6
}

fn default_activation() -> String {
    "silu".into()
}

impl Config {
    fn heads(&self) -> Result<Heads, String> {
        let (heads, size) = (self.num_attention_heads, self.head_dim);
        let kv_heads = self.num_key_value_heads.unwrap_or(heads);
        if kv_heads == 0 || heads == 0 || !heads.is_multiple_of(kv_heads) {
            return Err(format!(
                "{heads} heads cannot share {kv_heads} key and value heads evenly"
            ));
        }
        let size = size.unwrap_or(self.hidden_size / heads);
        if size == 0 || !size.is_multiple_of(2) {
            return Err(format!("heads of {size} numbers cannot be turned; head_dim must be even"));
        }
        Ok(Heads { heads, kv_heads, size })
    }

    fn theta(&self) -> Result<f64, String> {
        let parameters = self.rope_parameters.as_ref();
        let kind = parameters.and_then(|parameters| parameters.rope_type.as_deref());
        let scaled = self.rope_scaling.as_ref().is_some_and(|scaling| {
            let kind = scaling.get("rope_type").or_else(|| scaling.get("type"));
            !scaling.is_null() && kind.and_then(serde_json::Value::as_str) != Some("default")
        });
        if scaled || kind.is_some_and(|kind| kind != "default") {
            return Err("scaled rotary positions (rope_scaling) are not served".into());
        }
        let theta = self.rope_theta.or(parameters.and_then(|parameters| parameters.rope_theta));
        theta.ok_or_else(|| "neither rope_theta nor rope_parameters.rope_theta is given".into())
    }

    fn check(&self) -> Result<Activation, String> {
        if self.use_sliding_window || self.layer_types.iter().any(|kind| kind != "full_attention") {
            return Err("sliding-window attention is not served for qwen3".into());
        }
        if self.num_hidden_layers == 0 || self.hidden_size == 0 || self.intermediate_size == 0 {
            return Err("sizes must be at least 1".into());
        }
        activation(&self.hidden_act)
            .ok_or_else(|| format!("hidden_act {:?} is not served", self.hidden_act))
    }
}

struct Qwen3 {
    embedding: Embedding,
    layers: Vec<Layer>,
    norm: Tensor,
    rotary: Rotary,
    heads: Heads,
    eps: f32,
}

struct Layer {
    input_norm: Tensor,
    qkv: Linear,
    head_norms: HeadNorms,
    output: Linear,
    mlp_norm: Tensor,
    gated: GatedLinear,
    down: Linear,
}

fn load(
    checkpoint: &Checkpoint,
    precision: Precision,
    device: &Device,
) -> Result<Network, CheckpointError> {
    let config: Config = checkpoint.config()?;
    let error = |problem: String| checkpoint.config_error(problem);
    let activation = config.check().map_err(error)?;
    let (heads, theta) = (config.heads().map_err(error)?, config.theta().map_err(error)?);
    let weights = checkpoint.weights();
    let prefix = weights.prefix(&["", "model."], "embed_tokens.weight")?;
    let loader = Loader::new(weights, prefix, precision, device);
    let table = loader.stored("embed_tokens.weight", &[config.vocab_size, config.hidden_size])?;
    let failed = |error| loader.failed(error);
    let layers = (0..config.num_hidden_layers).map(|layer| {
        Layer::load(&loader.at(&format!("layers.{layer}.")), &config, heads, activation)
    });
    let network = Qwen3 {
        layers: layers.collect::<Result<_, _>>()?,
        embedding: Embedding::new(table, device).map_err(failed)?,
        norm: loader.vector("norm.weight", config.hidden_size)?,
        rotary: Rotary::new(theta, heads.size, device).map_err(failed)?,
        heads,
        eps: config.rms_norm_eps,
    };
    Ok(Network {
        encoder: Box::new(network),
        width: config.hidden_size,
        positions: config.max_position_embeddings,
        vocabulary: config.vocab_size,
    })
}

impl Layer {
    fn load(
        loader: &Loader<'_>,
        config: &Config,
        heads: Heads,
        activation: Activation,
    ) -> Result<Self, CheckpointError> {
        let (hidden, mlp, bias) =
            (config.hidden_size, config.intermediate_size, config.attention_bias);
        let (queries, keys) = (heads.heads * heads.size, heads.kv_heads * heads.size);
        let attention = loader.at("self_attn.");
        let parts = [("q_proj", queries), ("k_proj", keys), ("v_proj", keys)];
        let widths = (mlp, GatedLinear::padded(mlp));
        Ok(Self {
            input_norm: loader.vector("input_layernorm.weight", hidden)?,
            qkv: attention.linear(&parts, hidden, bias)?,
            head_norms: HeadNorms {
                queries: attention.vector("q_norm.weight", heads.size)?,
                keys: attention.vector("k_norm.weight", heads.size)?,
                eps: config.rms_norm_eps,
            },
            output: attention.linear(&[("o_proj", hidden)], queries, bias)?,
            mlp_norm: loader.vector("post_attention_layernorm.weight", hidden)?,
            gated: loader.gated(("mlp.gate_proj", "mlp.up_proj"), (hidden, mlp), activation)?,
            down: loader.linear_padded(&[("mlp.down_proj", hidden)], widths, false)?,
        })
    }
}

impl Encoder for Qwen3 {
    fn run(&self, batch: &RaggedBatch, pause: &dyn Fn()) -> Result<HiddenStates, KernelError> {
        let positions = batch.positions();
        let longest = positions.iter().max().map_or(0, |position| *position as usize + 1);
        let tables = self.rotary.tables(longest)?;
        let mut keeping = batch.keeping();
        let mut hidden = self.embedding.rows_of(batch.tokens())?;
        for (place, layer) in self.layers.iter().enumerate() {
            pause();
            let takes = layer.qkv.takes();
            let normed = rms_norm_for(&hidden, &layer.input_norm, self.eps, takes)?;
            let qkv = layer.qkv.of(&normed, None, None)?;
            let qkv = rotary(qkv, self.heads, Some(&layer.head_norms), &positions, &tables)?;
            keeping.take(&qkv, self.heads.heads * self.heads.size)?;
            let kept = batch.kept(place);
            let rows = (batch.runs(), &kept[..]);
            let mixed = attention_for(&qkv, self.heads, rows, Mask::Causal, &layer.output)?;
            hidden = layer.output.of(&mixed, None, Some(&hidden))?;
            let takes = layer.gated.takes();
            let normed = rms_norm_for(&hidden, &layer.mlp_norm, self.eps, takes)?;
            let gated = layer.gated.of_for(&normed, layer.down.takes())?;
            hidden = layer.down.of(&gated, None, Some(&hidden))?;
        }
        let states = HiddenStates::new(&hidden, batch)?;
        let rows = rms_norm(&states.rows, &self.norm, self.eps)?;
        Ok(HiddenStates { rows, kept: keeping.finish(), ..states })
    }

    fn is_causal(&self) -> bool {
        true
    }
}
