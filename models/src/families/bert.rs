//! BERT: a post-norm bidirectional encoder with learned positions (Devlin et al., 2018;
//! transformers `modeling_bert.py`). Also MiniLM, BGE, E5, GTE-en and PEG.
//!
//! Must not know: templates, pooling, devices.

use proxima_kernels::cpu::Activation;
use proxima_kernels::ops::attention::{Heads, Mask, attention};
use proxima_kernels::ops::embedding::Embedding;
use proxima_kernels::ops::linear::Linear;
use proxima_kernels::ops::norm::layer_norm;
use proxima_kernels::{DType, Device, KernelError, Tensor};
use serde::Deserialize;

use super::{Family, Network};
use crate::batch::{Encoder, HiddenStates, RaggedBatch};
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::layers::{Loader, activation};

/// The entry of the list.
pub fn family() -> Family {
    Family {
        model_type: "bert",
        architectures: &["BertModel", "BertForMaskedLM", "BertForPreTraining"],
        // Both cls and mean are common: a checkpoint that does not say is refused.
        pooling: |_| None,
        load,
    }
}

#[derive(Debug, Deserialize)]
struct Config {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    vocab_size: usize,
    max_position_embeddings: usize,
    type_vocab_size: usize,
    #[serde(default = "default_eps")]
    layer_norm_eps: f32,
    hidden_act: String,
    position_embedding_type: Option<String>,
    #[serde(default)]
    is_decoder: bool,
}

fn default_eps() -> f32 {
    1e-12
}

impl Config {
    fn check(&self) -> Result<(Heads, Activation), String> {
        if let Some(kind) = &self.position_embedding_type
            && kind != "absolute"
        {
            return Err(format!(
                "position_embedding_type {kind:?} is not served; served: absolute"
            ));
        }
        if self.is_decoder {
            return Err("a BERT decoder (is_decoder) is not served".into());
        }
        let (hidden, heads) = (self.hidden_size, self.num_attention_heads);
        if heads == 0 || hidden == 0 || !hidden.is_multiple_of(heads) || self.type_vocab_size == 0 {
            return Err(format!("hidden_size {hidden} does not divide into {heads} heads"));
        }
        let activation = activation(&self.hidden_act)
            .ok_or_else(|| format!("hidden_act {:?} is not served", self.hidden_act))?;
        Ok((Heads { heads, kv_heads: heads, size: hidden / heads }, activation))
    }
}

struct Bert {
    words: Embedding,
    positions: Embedding,
    /// The embedding of token type 0, `[1, hidden]`: single texts know no other.
    token_type: Tensor,
    norm: LayerNorm,
    layers: Vec<Layer>,
    heads: Heads,
    activation: Activation,
}

struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f32,
}

struct Layer {
    qkv: Linear,
    output: Linear,
    attention_norm: LayerNorm,
    up: Linear,
    down: Linear,
    mlp_norm: LayerNorm,
}

impl LayerNorm {
    fn load(loader: &Loader<'_>, width: usize, eps: f32) -> Result<Self, CheckpointError> {
        // Checkpoints converted from TensorFlow call them gamma and beta.
        let old = loader.has("LayerNorm.gamma");
        let (weight, bias) = if old { ("gamma", "beta") } else { ("weight", "bias") };
        Ok(Self {
            weight: loader.vector(&format!("LayerNorm.{weight}"), width)?,
            bias: loader.vector(&format!("LayerNorm.{bias}"), width)?,
            eps,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor, KernelError> {
        layer_norm(x, &self.weight, Some(&self.bias), self.eps)
    }
}

fn load(
    checkpoint: &Checkpoint,
    dtype: DType,
    device: &Device,
) -> Result<Network, CheckpointError> {
    let config: Config = checkpoint.config()?;
    let (heads, activation) = config.check().map_err(|problem| checkpoint.config_error(problem))?;
    let weights = checkpoint.weights();
    let prefix = weights.prefix(&["", "bert."], "embeddings.word_embeddings.weight")?;
    let loader = Loader::new(weights, prefix, dtype, device);
    let (width, embeddings) = (config.hidden_size, loader.at("embeddings."));
    let failed = |error| loader.failed(error);
    let table = |name: &str, rows: usize| {
        Embedding::new(embeddings.stored(name, &[rows, width])?, device).map_err(failed)
    };
    let token_types = table("token_type_embeddings.weight", config.type_vocab_size)?;
    let layers = (0..config.num_hidden_layers)
        .map(|layer| Layer::load(&loader.at(&format!("encoder.layer.{layer}.")), &config));
    let network = Bert {
        words: table("word_embeddings.weight", config.vocab_size)?,
        positions: table("position_embeddings.weight", config.max_position_embeddings)?,
        token_type: token_types.rows_of(&[0]).map_err(failed)?,
        norm: LayerNorm::load(&embeddings, width, config.layer_norm_eps)?,
        layers: layers.collect::<Result<_, _>>()?,
        heads,
        activation,
    };
    Ok(Network {
        encoder: Box::new(network),
        width,
        positions: config.max_position_embeddings,
        vocabulary: config.vocab_size,
    })
}

impl Layer {
    fn load(loader: &Loader<'_>, config: &Config) -> Result<Self, CheckpointError> {
        let (hidden, mlp, eps) =
            (config.hidden_size, config.intermediate_size, config.layer_norm_eps);
        let parts = [("query", hidden), ("key", hidden), ("value", hidden)];
        Ok(Self {
            qkv: loader.at("attention.self.").linear(&parts, hidden, true)?,
            output: loader.linear(&[("attention.output.dense", hidden)], hidden, true)?,
            attention_norm: LayerNorm::load(&loader.at("attention.output."), hidden, eps)?,
            up: loader.linear(&[("intermediate.dense", mlp)], hidden, true)?,
            down: loader.linear(&[("output.dense", hidden)], mlp, true)?,
            mlp_norm: LayerNorm::load(&loader.at("output."), hidden, eps)?,
        })
    }
}

impl Encoder for Bert {
    fn encode(&self, batch: &RaggedBatch) -> Result<HiddenStates, KernelError> {
        let words = self.words.rows_of(batch.tokens())?.broadcast_add(&self.token_type)?;
        let embedded = (words + self.positions.rows_of(&batch.positions())?)?;
        let mut hidden = self.norm.forward(&embedded)?;
        for layer in &self.layers {
            let qkv = layer.qkv.forward(&hidden)?;
            let mixed = attention(&qkv, self.heads, batch.offsets(), Mask::Full)?;
            let summed = layer.output.forward_with(&mixed, None, Some(&hidden))?;
            hidden = layer.attention_norm.forward(&summed)?;
            let wide = layer.up.forward_with(&hidden, Some(self.activation), None)?;
            let summed = layer.down.forward_with(&wide, None, Some(&hidden))?;
            hidden = layer.mlp_norm.forward(&summed)?;
        }
        Ok(HiddenStates::new(hidden, batch))
    }
}
