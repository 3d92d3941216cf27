//! Encoders of candle-transformers. Must not know Proxima's networks.

use candle_core::{DType, Device, Module, Result, Tensor};
use candle_transformers::models::{
    bert, debertav2, distilbert, jina_bert, modernbert, nomic_bert, stella_en_v5, xlm_roberta,
};
use serde_json::{Value, json};

use super::{Answer, Network, Parts, all, ids, states, types};

pub fn bert(mut parts: Parts) -> Result<Network> {
    let config: bert::Config = parts.config(json!({}))?;
    let model = bert::BertModel::load(parts.weights("bert").pp("bert"), &config)?;
    Ok(Box::new(move |sequence| {
        states(&model.forward(&ids(sequence)?, &types(sequence)?, None)?)
    }))
}

/// Its language head has copies of what checkpoints tie.
pub fn bert_over_words(mut parts: Parts) -> Result<Network> {
    let tied = [
        ("bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"),
        ("cls.predictions.bias", "cls.predictions.decoder.bias"),
    ];
    for (from, to) in tied {
        let tensor = parts.tensors[from].clone();
        parts.tensors.insert(to.into(), tensor);
    }
    let config: bert::Config = parts.config(json!({}))?;
    let model = bert::BertForMaskedLM::load(parts.weights("bert"), &config)?;
    Ok(Box::new(move |sequence| {
        let words = model.forward(&ids(sequence)?, &types(sequence)?, None)?;
        Ok(Answer::Words(words.squeeze(0)?))
    }))
}

/// Tokens that are not there have a one in its mask, not a zero.
fn none_missing(tokens: usize) -> Result<Tensor> {
    Tensor::zeros((1, 1, 1, tokens), DType::U8, &Device::Cpu)
}

/// What candle has for "gelu" is its approximation, for which it has no name of its own.
fn distilbert_config(parts: &mut Parts) -> Result<distilbert::Config> {
    if parts.config["activation"] == "gelu_new" {
        parts.config["activation"] = json!("gelu");
    }
    parts.config(json!({ "initializer_range": 0.02 }))
}

pub fn distilbert(mut parts: Parts) -> Result<Network> {
    let config = distilbert_config(&mut parts)?;
    let weights = parts.weights("distilbert").pp("distilbert");
    let model = distilbert::DistilBertModel::load(weights, &config)?;
    Ok(Box::new(move |sequence| {
        let mask = none_missing(sequence.tokens.len())?;
        states(&model.forward(&ids(sequence)?, &mask)?)
    }))
}

pub fn distilbert_over_words(mut parts: Parts) -> Result<Network> {
    let config = distilbert_config(&mut parts)?;
    let model = distilbert::DistilBertForMaskedLM::load(parts.weights("distilbert"), &config)?;
    Ok(Box::new(move |sequence| {
        let mask = none_missing(sequence.tokens.len())?;
        Ok(Answer::Words(model.forward(&ids(sequence)?, &mask)?.squeeze(0)?))
    }))
}

fn xlm_roberta_config(parts: &Parts) -> Result<xlm_roberta::Config> {
    parts.config(json!({
        "attention_probs_dropout_prob": 0.1,
        "hidden_dropout_prob": 0.1,
        "position_embedding_type": "absolute",
    }))
}

pub fn xlm_roberta(mut parts: Parts) -> Result<Network> {
    let config = xlm_roberta_config(&parts)?;
    let weights = parts.weights("roberta").pp("roberta");
    let model = xlm_roberta::XLMRobertaModel::new(&config, weights)?;
    Ok(Box::new(move |sequence| {
        let (ids, all) = (ids(sequence)?, all(sequence)?);
        states(&model.forward(&ids, &all, &ids.zeros_like()?, None, None, None)?)
    }))
}

pub fn xlm_roberta_over_words(mut parts: Parts) -> Result<Network> {
    let config = xlm_roberta_config(&parts)?;
    let model = xlm_roberta::XLMRobertaForMaskedLM::new(&config, parts.weights("roberta"))?;
    Ok(Box::new(move |sequence| {
        let (ids, all) = (ids(sequence)?, all(sequence)?);
        let words = model.forward(&ids, &all, &ids.zeros_like()?, None, None, None)?;
        Ok(Answer::Words(words.squeeze(0)?))
    }))
}

pub fn xlm_roberta_scores(mut parts: Parts) -> Result<Network> {
    let config = xlm_roberta_config(&parts)?;
    let labels = parts.config["id2label"].as_object().expect("labels").len();
    let weights = parts.weights("roberta");
    let model = xlm_roberta::XLMRobertaForSequenceClassification::new(labels, &config, weights)?;
    Ok(Box::new(move |sequence| {
        let (ids, all) = (ids(sequence)?, all(sequence)?);
        Ok(Answer::Scores(model.forward(&ids, &all, &ids.zeros_like()?)?.squeeze(0)?))
    }))
}

fn modern_bert_config(parts: &Parts) -> Result<modernbert::Config> {
    parts.config(json!({ "layer_norm_eps": parts.config["norm_eps"] }))
}

pub fn modern_bert(mut parts: Parts) -> Result<Network> {
    let config = modern_bert_config(&parts)?;
    let model = modernbert::ModernBert::load(parts.weights("model"), &config)?;
    Ok(Box::new(move |sequence| states(&model.forward(&ids(sequence)?, &all(sequence)?)?)))
}

pub fn modern_bert_scores(mut parts: Parts) -> Result<Network> {
    let config = modern_bert_config(&parts)?;
    let weights = parts.weights("model");
    let model = modernbert::ModernBertForSequenceClassification::load(weights, &config)?;
    Ok(Box::new(move |sequence| {
        let scores = model.forward(&ids(sequence)?, &all(sequence)?)?;
        Ok(Answer::Scores(scores.squeeze(0)?))
    }))
}

/// candle gives the softmax of the logits. With a second label whose logit is zero, the two tell
/// the first label's logit. And it reads the labels of a config whose `label2id` has texts.
pub fn modern_bert_scores_beside_zero(mut parts: Parts) -> Result<Network> {
    for name in ["classifier.weight", "classifier.bias"] {
        let tensor = &parts.tensors[name];
        let both = Tensor::cat(&[tensor, &tensor.zeros_like()?], 0)?;
        parts.tensors.insert(name.into(), both);
    }
    parts.config["id2label"] = json!({ "0": "own", "1": "zero" });
    parts.config["label2id"] = json!({ "own": "0", "zero": "1" });
    let softmax = modern_bert_scores(parts)?;
    Ok(Box::new(move |sequence| match softmax(sequence)? {
        Answer::Scores(of_two) => {
            let logs = of_two.log()?;
            Ok(Answer::Scores((logs.narrow(0, 0, 1)? - logs.narrow(0, 1, 1)?)?))
        }
        other => Ok(other),
    }))
}

/// The authors' names of keys, which alone candle reads, from those of transformers.
const NOMIC_KEYS: [(&str, &str); 6] = [
    ("n_embd", "hidden_size"),
    ("n_head", "num_attention_heads"),
    ("n_layer", "num_hidden_layers"),
    ("n_inner", "intermediate_size"),
    ("n_positions", "max_position_embeddings"),
    ("layer_norm_epsilon", "layer_norm_eps"),
];

pub fn nomic_bert(mut parts: Parts) -> Result<Network> {
    for (authors, ours) in NOMIC_KEYS {
        if !parts.config[ours].is_null() {
            parts.config[authors] = parts.config[ours].clone();
        }
    }
    let theta = parts.config["rope_parameters"]["rope_theta"].clone();
    if !theta.is_null() {
        parts.config["rotary_emb_base"] = theta;
    }
    let config: nomic_bert::Config = parts.config(json!({}))?;
    let weights = parts.weights("nomic_bert").pp("nomic_bert");
    let model = nomic_bert::NomicBertModel::load(weights, &config)?;
    Ok(Box::new(move |sequence| {
        states(&model.forward(&ids(sequence)?, Some(&types(sequence)?), None)?)
    }))
}

pub fn jina_bert(mut parts: Parts) -> Result<Network> {
    // It makes the biases of all positions at once: a gigabyte for those of the config.
    parts.config["max_position_embeddings"] = json!(1024);
    let config: jina_bert::Config = parts.config(json!({ "initializer_range": 0.02 }))?;
    let model = jina_bert::BertModel::new(parts.weights("bert").pp("bert"), &config)?;
    Ok(Box::new(move |sequence| states(&model.forward(&ids(sequence)?)?)))
}

fn deberta_config(parts: &Parts) -> Result<debertav2::Config> {
    parts.config(json!({
        "attention_probs_dropout_prob": 0.1,
        "hidden_dropout_prob": 0.1,
        "initializer_range": 0.02,
        "layer_norm_eps": 1e-7,
    }))
}

pub fn deberta(mut parts: Parts) -> Result<Network> {
    // Of the head, for which candle has no tanh.
    parts.config["pooler_hidden_act"] = Value::Null;
    let config = deberta_config(&parts)?;
    let weights = parts.weights("deberta").pp("deberta");
    let model = debertav2::DebertaV2Model::load(weights, &config)?;
    Ok(Box::new(move |sequence| states(&model.forward(&ids(sequence)?, None, None)?)))
}

pub fn deberta_scores(mut parts: Parts) -> Result<Network> {
    let config = deberta_config(&parts)?;
    let weights = parts.weights("deberta").pp("deberta");
    let model = debertav2::DebertaV2SeqClassificationModel::load(weights, &config, None)?;
    Ok(Box::new(move |sequence| {
        Ok(Answer::Scores(model.forward(&ids(sequence)?, None, None)?.squeeze(0)?))
    }))
}

/// The network of stella_en_400M_v5, which is the one of gte.
pub fn stella(mut parts: Parts) -> Result<Network> {
    let named = parts.tensors.into_iter();
    let named = named.map(|(name, tensor)| (name.replace("gte.", "new."), tensor));
    parts.tensors = named.collect();
    // Zero for positions that are not scaled.
    let factor = parts.config["rope_scaling"]["factor"].as_f64().unwrap_or(0.0);
    let theta = if parts.config["model_type"] == "gte" { 160_000.0 } else { 10_000.0 };
    let config: stella_en_v5::Config = parts.config(json!({
        "variant": "Small",
        "rope_theta": theta,
        "embed_head": { "in_features": 0, "out_features": 0 },
        "norm_eps": parts.config["layer_norm_eps"],
        "activation_fn": parts.config["hidden_act"],
        "num_key_value_heads": 0,
        "scaling_factor": factor,
    }))?;
    let model = stella_en_v5::Model::new(&config, parts.weights("new"))?;
    Ok(Box::new(move |sequence| states(&model.clone().forward(&ids(sequence)?, &all(sequence)?)?)))
}
