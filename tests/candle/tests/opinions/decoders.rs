//! Decoders of candle-transformers. Most give the logits of the next word alone. They keep keys and
//! values, so each sequence has a copy of the network. Must not know Proxima's networks.

use candle_core::{DType, Device, Result, Tensor};
use candle_transformers::models::{gemma, gemma3, llama, mistral, qwen2, qwen3};
use serde_json::{Value, json};

use super::{Answer, Network, Parts, all, ids, states};

/// Logits of one word list from a batch of one.
fn next(logits: &Tensor) -> Result<Answer> {
    Ok(Answer::Next(logits.flatten_all()?))
}

pub fn qwen2(mut parts: Parts) -> Result<Network> {
    // candle has the window in all layers and does not ask whether it is used.
    parts.config["sliding_window"] = json!(1 << 20);
    let config: qwen2::Config = parts.config(json!({
        "num_key_value_heads": parts.config["num_attention_heads"],
        "max_window_layers": 0,
        "tie_word_embeddings": false,
        "use_sliding_window": false,
    }))?;
    let sees_all = parts.sees_all();
    let model = qwen2::Model::new(&config, parts.weights("model"))?;
    Ok(Box::new(move |sequence| {
        let mask = if sees_all { Some(all(sequence)?) } else { None };
        states(&model.clone().forward(&ids(sequence)?, 0, mask.as_ref())?)
    }))
}

pub fn qwen3(mut parts: Parts) -> Result<Network> {
    let config: qwen3::Config = parts.config(json!({
        "attention_bias": false,
        "max_window_layers": 0,
        "tie_word_embeddings": false,
        "use_sliding_window": false,
    }))?;
    let model = qwen3::Model::new(&config, parts.weights("model"))?;
    Ok(Box::new(move |sequence| states(&model.clone().forward(&ids(sequence)?, 0)?)))
}

pub fn llama(mut parts: Parts) -> Result<Network> {
    let is_tied = !parts.tensors.contains_key("lm_head.weight");
    parts.config["tie_word_embeddings"] = json!(is_tied);
    let config: llama::LlamaConfig = parts.config(json!({ "rms_norm_eps": 1e-6 }))?;
    let config = config.into_config(false);
    let model = llama::Llama::load(parts.weights("model"), &config)?;
    Ok(Box::new(move |sequence| {
        let mut cache = llama::Cache::new(false, DType::F32, &config, &Device::Cpu)?;
        next(&model.forward(&ids(sequence)?, 0, &mut cache)?)
    }))
}

pub fn mistral(mut parts: Parts) -> Result<Network> {
    // candle has no tied head.
    let words = parts.words().expect("words");
    parts.prefix("model");
    parts.tensors.entry("lm_head.weight".into()).or_insert(words);
    let config: mistral::Config = parts.config(json!({}))?;
    let model = mistral::Model::new(&config, parts.weights("model"))?;
    Ok(Box::new(move |sequence| next(&model.clone().forward(&ids(sequence)?, 0)?)))
}

/// With the approximation that transformers takes for a Gemma's "gelu".
pub fn gemma(mut parts: Parts) -> Result<Network> {
    if parts.config["hidden_act"] == "gelu" {
        parts.config["hidden_act"] = json!("gelu_pytorch_tanh");
    }
    gemma_by_the_word(parts)
}

pub fn gemma_by_the_word(mut parts: Parts) -> Result<Network> {
    // candle refuses a config with both; transformers reads the other.
    parts.config["hidden_activation"] = Value::Null;
    let config: gemma::Config =
        parts.config(json!({ "attention_bias": false, "rope_theta": 10_000.0 }))?;
    let model = gemma::Model::new(false, &config, parts.weights("model"))?;
    let sees_all = parts.sees_all();
    Ok(Box::new(move |sequence| {
        let (mut model, ids) = (model.clone(), ids(sequence)?);
        if sees_all {
            let embedded = candle_core::Module::forward(model.embed_tokens(), &ids)?;
            return next(&model.forward_embeds(&embedded, None, 0)?);
        }
        next(&model.forward(&ids, 0)?)
    }))
}

pub fn gemma3(mut parts: Parts) -> Result<Network> {
    let config: gemma3::Config = parts.config(json!({
        "attention_bias": false,
        "hidden_activation": "gelu_pytorch_tanh",
        "rope_theta": 1_000_000.0,
        "rope_local_base_freq": 10_000.0,
        "sliding_window_pattern": 6,
    }))?;
    let model = gemma3::Model::new(false, &config, parts.weights("model"))?;
    Ok(Box::new(move |sequence| next(&model.clone().forward(&ids(sequence)?, 0)?)))
}

/// With a window that reaches as far as that of transformers: candle does not count the token
/// itself.
fn with_window(mut parts: Parts) -> Parts {
    let window = parts.config["sliding_window"].as_u64().expect("a window");
    parts.config["sliding_window"] = json!(window - 1);
    parts
}

pub fn mistral_with_window(parts: Parts) -> Result<Network> {
    mistral(with_window(parts))
}

/// As [`with_window`], and with the scale of queries in the weights of their norm: candle does not
/// read `query_pre_attn_scalar`.
pub fn gemma3_with_window_and_scale(parts: Parts) -> Result<Network> {
    let mut parts = with_window(parts);
    let number = |key: &str| parts.config[key].as_f64().expect("a number");
    let scale = (number("head_dim") / number("query_pre_attn_scalar")).sqrt();
    for (name, tensor) in &mut parts.tensors {
        if name.ends_with("q_norm.weight") {
            // These weights are added to 1.
            *tensor = tensor.affine(scale, scale - 1.0)?;
        }
    }
    gemma3(parts)
}
