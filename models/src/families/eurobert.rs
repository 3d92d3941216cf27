//! EuroBERT: the decoder of Llama as an encoder, in which each token attends to all (Boizard et
//! al., 2025; transformers `modeling_eurobert.py`). Embedders such as Solon-embeddings-mini.
//!
//! Must not know: templates, devices.

use proxima_kernels::Device;
use proxima_kernels::spec::{Activation, Precision};
use serde_json::Value;

use super::llama::{self, DefaultSizes, Style, TABLES, WindowKey};
use super::{Family, Network, heads};
use crate::checkpoint::keys::Rule::{NoEffect, Object, Only, Refused, Used};
use crate::checkpoint::keys::config::{
    EPS, HEADS, LAYERS, MLP, POSITIONS, SCALED_ROTARY, THETA, VOCABULARY, WIDTH,
};
use crate::checkpoint::keys::{Is, Key};
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::conventions::Conventions;
use crate::layers::Loader;
use crate::readout::{HeadLayer, Pooling, ScoreReadout, WordsHead};

/// Its entry in the list of families.
pub fn family() -> Family {
    Family {
        model_type: "eurobert",
        is: None,
        architectures: &[
            "EuroBertModel",
            "EuroBertForMaskedLM",
            "EuroBertForSequenceClassification",
        ],
        keys: KEYS,
        conventions: Conventions::of("PreTrained"),
        files: &[],
        // The mean and the last token are common, so a checkpoint that sets neither is refused.
        pooling: |_| None,
        load: |checkpoint, precision, device| llama::load(checkpoint, precision, device, &STYLE),
        score,
        words: Some(words),
        language_model: None,
    }
}

const STYLE: Style = Style {
    model: "EuroBertModel",
    sizes: DefaultSizes {
        hidden: 768,
        heads: 12,
        layers: 12,
        kv_heads: None,
        head: None,
        mlp: 3072,
        vocabulary: 128_256,
        positions: 8192,
        eps: 1e-5,
        activation: "silu",
    },
    qkv_bias: false,
    window: WindowKey::Unread,
    rotary: || Value::Null,
    scales_queries: false,
    is_encoder: true,
    is_gemma: false,
};

const SPECIAL: &str = "tokenizer.json says where special tokens go";
/// The authors' code, which transformers has taken over.
const OWN_CODE: &[Key] = &[
    ("AutoConfig", NoEffect("config.json is read as its model_type says")),
    ("AutoModel", Only(&[Is::Text("modeling_eurobert.EuroBertModel")])),
    ("AutoModelForMaskedLM", Only(&[Is::Text("modeling_eurobert.EuroBertForMaskedLM")])),
    (
        "AutoModelForSequenceClassification",
        Only(&[Is::Text("modeling_eurobert.EuroBertForSequenceClassification")]),
    ),
    ("AutoModelForTokenClassification", NoEffect("another task's")),
    ("AutoModelForPreTraining", NoEffect("another task's")),
];

const KEYS: &[Key] = llama::keys![
    ("auto_map", Object(&[OWN_CODE])),
    ("is_causal", NoEffect("transformers does not read it for this type")),
    ("attention_bias", Used),
    ("mlp_bias", Refused("a bias of the MLP is not supported")),
    ("classifier_pooling", Used),
    // The authors' name of classifier_pooling, which transformers does not read.
    ("clf_pooling", Only(&[Is::Text("late")])),
    ("pretraining_tp", NoEffect("for training")),
    ("hidden_dropout", NoEffect("for training")),
    ("bos_token", NoEffect(SPECIAL)),
    ("eos_token", NoEffect(SPECIAL)),
    ("pad_token", NoEffect(SPECIAL)),
    ("mask_token", NoEffect(SPECIAL)),
];

/// A dense layer with GELU, then the output layer: over the first token, the mean, or each token,
/// with the mean of their logits.
fn score(
    checkpoint: &Checkpoint,
    width: usize,
    device: &Device,
) -> Result<ScoreReadout, CheckpointError> {
    let loader = Loader::new(checkpoint.weights(), "", Precision::Float32, device);
    let labels = checkpoint.labels()?;
    let layers = vec![
        HeadLayer::load(&loader, "dense", width, width, true)?.with_activation(Activation::Gelu),
        HeadLayer::load(&loader, "classifier", width, labels.len(), true)?,
    ];
    let pooling = checkpoint.config_key("classifier_pooling");
    match pooling.map_or(Some("late"), Value::as_str) {
        Some("late") => Ok(ScoreReadout::late(layers, labels)),
        Some("bos") => Ok(ScoreReadout::new(Pooling::Cls, layers, labels)),
        Some("mean") => Ok(ScoreReadout::new(Pooling::Mean, layers, labels)),
        _ => Err(checkpoint.config_error("classifier_pooling is none of late, bos, mean")),
    }
}

/// One logit per word, from a single layer.
fn words(
    checkpoint: &Checkpoint,
    network: &Network,
    device: &Device,
) -> Result<WordsHead, CheckpointError> {
    let weights = checkpoint.weights();
    let table = format!("{}embed_tokens.weight", weights.prefix(TABLES, "embed_tokens.weight")?);
    let loader = Loader::new(weights, "", Precision::Float32, device);
    let name = "lm_head.weight";
    // As in transformers, an absent key means that they are not.
    let tied = checkpoint.said("tie_word_embeddings") == Some(true);
    let name =
        if tied { heads::decoder_or_words(checkpoint, &loader, name, &table)? } else { name };
    let stored = loader.stored(name, &[network.vocabulary, network.width])?;
    Ok(WordsHead { layers: Vec::new(), last: loader.layer(&stored)? })
}
