//! Gemma, the first: Llama's decoder with scaled embeddings and norms that multiply by one more
//! than what is stored (Gemma technical report, 2024; transformers `modeling_gemma.py`). Rerankers
//! such as bge-reranker-v2-gemma.
//!
//! Must not know: templates, pooling, devices.

use serde_json::Value;

use super::llama::{self, DefaultSizes, Style, WindowKey};
use super::{Family, LanguageModel, heads};
use crate::checkpoint::keys::Is;
use crate::checkpoint::keys::Key;
use crate::checkpoint::keys::Rule::{NoEffect, Object, Only, Refused, Used};
use crate::checkpoint::keys::config::{
    EPS, HEADS, LAYERS, MLP, POSITIONS, SCALED_ROTARY, THETA, VOCABULARY, WIDTH,
};
use crate::conventions::Conventions;

/// Its entry in the list of families.
pub fn family() -> Family {
    Family {
        model_type: "gemma",
        is: None,
        architectures: &["GemmaModel", "GemmaForCausalLM", "GemmaForSequenceClassification"],
        keys: KEYS,
        conventions: Conventions::of("Gemma"),
        files: &[],
        pooling: |checkpoint| llama::pooling(checkpoint, &STYLE),
        load: |checkpoint, precision, device| llama::load(checkpoint, precision, device, &STYLE),
        score: heads::last_token_score,
        words: None,
        language_model: Some(LanguageModel {
            tied: true,
            ..llama::language_model(&["GemmaModel"])
        }),
    }
}

const STYLE: Style = Style {
    model: "GemmaModel",
    sizes: DefaultSizes {
        hidden: 3072,
        heads: 16,
        layers: 28,
        kv_heads: Some(16),
        head: Some(256),
        mlp: 24_576,
        vocabulary: 256_000,
        positions: 8192,
        eps: 1e-6,
        activation: "gelu_pytorch_tanh",
    },
    qkv_bias: false,
    window: WindowKey::Unread,
    rotary: || Value::Null,
    scales_queries: false,
    is_encoder: false,
    is_gemma: true,
};

const KEYS: &[Key] = llama::keys![
    ("is_causal", Used),
    ("attention_bias", Used),
    ("mlp_bias", Refused("transformers has no such bias for this type")),
    ("hidden_activation", NoEffect("transformers reads hidden_act")),
];
