//! RoBERTa, XLM-RoBERTa and CamemBERT: BERT whose positions start after the padding token's id,
//! with one token type (Liu et al., 2019; Conneau et al., 2020; transformers
//! `modeling_xlm_roberta.py`). Embedders such as multilingual E5 and bge-m3, cross-encoders such as
//! bge-reranker.
//!
//! Must not know: templates, devices.

use proxima_kernels::spec::Activation;

use super::Family;
use super::bert::{KEYS, Style, load, words_activation};
use super::heads::{self, ScoreNames, WordsNames};
use crate::conventions::Conventions;

/// Their entries in the list of families.
pub fn families() -> Vec<Family> {
    let family = |model_type, architectures, tokenizer| Family {
        model_type,
        is: None,
        architectures,
        keys: KEYS,
        conventions: Conventions::of(tokenizer),
        files: &[],
        // Both CLS and mean pooling are common, so a checkpoint that sets neither is refused.
        pooling: |_| None,
        load: |checkpoint, precision, device| {
            let prefixes = &["", "roberta."];
            load(checkpoint, precision, device, &Style { prefixes, positions_after_padding: true })
        },
        score: |checkpoint, width, device| heads::score(checkpoint, width, device, &SCORE),
        language_model: None,
        words: Some(|checkpoint, network, device| {
            let (_, eps) = words_activation(checkpoint)?;
            let names = WordsNames {
                dense: "lm_head.dense",
                norm: "lm_head.layer_norm",
                bias: "lm_head.bias",
                decoder: "lm_head.decoder.weight",
                words: "roberta.embeddings.word_embeddings.weight",
                // Whatever hidden_act says.
                activation: Activation::Gelu,
                eps,
            };
            heads::words(checkpoint, network, device, &names)
        }),
    };
    vec![
        family(
            "xlm-roberta",
            &["XLMRobertaModel", "XLMRobertaForMaskedLM", "XLMRobertaForSequenceClassification"],
            "XLMRoberta",
        ),
        family(
            "roberta",
            &["RobertaModel", "RobertaForMaskedLM", "RobertaForSequenceClassification"],
            "Roberta",
        ),
        family(
            "camembert",
            &["CamembertModel", "CamembertForMaskedLM", "CamembertForSequenceClassification"],
            "Camembert",
        ),
    ]
}

/// A dense layer with tanh over the first token, then the output layer.
pub(super) const SCORE: ScoreNames = ScoreNames {
    dense: "classifier.dense",
    activation: Activation::Tanh,
    output: "classifier.out_proj",
};
