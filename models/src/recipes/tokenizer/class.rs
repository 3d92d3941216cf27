//! Which transformers class opens a tokenizer. `AutoTokenizer` of transformers 5 chooses by
//! `tokenizer_class` and `model_type`, and most classes build the pipeline themselves instead of
//! using that of `tokenizer.json`.
//!
//! Must not know: pipelines, tokens.

use serde_json::Value;

use super::error;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::conventions::Conventions;

/// A class, by how it uses `tokenizer.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenizerClass {
    /// Uses the pipeline of the file.
    File,
    Bert,
    MPNet,
    Roberta,
    Gpt2,
    Qwen2,
    Gemma,
    XlmRoberta,
    Camembert,
    DebertaV2,
}

/// Class names without `Tokenizer` and `Fast`, and their kinds. Classes unknown to transformers use
/// the file's pipeline.
const KNOWN: [(&str, TokenizerClass); 21] = [
    ("PreTrained", TokenizerClass::File),
    ("Bert", TokenizerClass::Bert),
    ("DistilBert", TokenizerClass::Bert),
    ("Electra", TokenizerClass::Bert),
    ("LayoutLM", TokenizerClass::Bert),
    ("Lxmert", TokenizerClass::Bert),
    ("MobileBert", TokenizerClass::Bert),
    ("SqueezeBert", TokenizerClass::Bert),
    ("MPNet", TokenizerClass::MPNet),
    ("Roberta", TokenizerClass::Roberta),
    ("Bart", TokenizerClass::Roberta),
    ("LED", TokenizerClass::Roberta),
    ("Longformer", TokenizerClass::Roberta),
    ("Mvp", TokenizerClass::Roberta),
    ("GPT2", TokenizerClass::Gpt2),
    ("Qwen2", TokenizerClass::Qwen2),
    ("Gemma", TokenizerClass::Gemma),
    ("XLMRoberta", TokenizerClass::XlmRoberta),
    ("Camembert", TokenizerClass::Camembert),
    ("DebertaV2", TokenizerClass::DebertaV2),
    ("Bloom", TokenizerClass::File),
];

/// Other classes of transformers 5, each with its own pipeline.
const NOT_SERVED: &str = "\
    Albert Barthez Bartpho Basic BertGeneration BertJapanese Bertweet BigBird BioGpt Blenderbot \
    BlenderbotSmall ByT5 CLIP CTRL Canine Character Clvp CodeGen CodeLlama Cohere ConvBert Cpm \
    CpmAnt DPRContextEncoder DPRQuestionEncoder DPRReader Deberta Dia Esm Esmc FNet \
    FSMT FastSpeech2Conformer Flaubert Funnel GPTNeoX GPTNeoXJapanese GPTSw3 Herbert Lasr \
    LayoutLMv2 LayoutLMv3 LayoutXLM Llama Luke M2M100 MBart MBart50 MLuke Marian MarkupLM \
    Mecab Mgpstr MyT5 Nllb Nougat OpenAIGPT PLBart Parakeet Pegasus Perceiver Phobert Pop2Piano \
    ProphetNet Qwen3_5 Rag Reformer RemBert RoCBert RoFormer SeamlessM4T Siglip Siglip2 \
    Speech2Text SpeechT5 Splinter T5 Tapas Tipsv2 Udop VideoPrism Vits Wav2Vec2CTC \
    Wav2Vec2PhonemeCTC Whisper Wordpiece XGLM XLM XLNet";

/// The class of a checkpoint, by its files and the conventions of its type; `bytes_are_pieces` says
/// whether `tokenizer.json` is byte-level.
///
/// # Errors
/// A class whose pipeline is not served.
pub fn of(
    checkpoint: &Checkpoint,
    conventions: &Conventions,
    bytes_are_pieces: bool,
) -> Result<TokenizerClass, CheckpointError> {
    let named = if conventions.fixed_tokenizer { None } else { name(checkpoint)? };
    let name = named.unwrap_or(conventions.tokenizer);
    let short = short(name);
    if let Some((_, class)) = KNOWN.iter().find(|(known, _)| *known == short) {
        return Ok(*class);
    }
    // Many files name Llama's class although their pipeline is not Llama's.
    if !is_not_served(short) || (short == "Llama" && bytes_are_pieces) {
        return Ok(TokenizerClass::File);
    }
    let problem = format!(
        "tokenizer_class is {name}, which builds its tokenizer in a way that is not supported; if \
         the model was trained with tokenizer.json as it is, set tokenizer_class to \
         PreTrainedTokenizerFast"
    );
    Err(error(checkpoint, problem))
}

/// Whether the tokenizer gives token types (`token_type_ids`): if `model_input_names` lists them;
/// by default, only
/// the classes of BERT and DeBERTa do.
///
/// # Errors
/// If `model_input_names` is not a list.
pub fn gives_types(
    checkpoint: &Checkpoint,
    class: TokenizerClass,
) -> Result<bool, CheckpointError> {
    match checkpoint.tokenizer_config().get("model_input_names") {
        None => {
            let is_distilled = name(checkpoint)?.is_some_and(|name| short(name) == "DistilBert");
            Ok(matches!(class, TokenizerClass::Bert | TokenizerClass::DebertaV2) && !is_distilled)
        }
        Some(Value::Array(names)) => Ok(names.iter().any(|name| name == "token_type_ids")),
        Some(other) => {
            let problem = format!("model_input_names is {other}, and must be a list of names");
            Err(error(checkpoint, problem))
        }
    }
}

/// The class named in files.
fn name(checkpoint: &Checkpoint) -> Result<Option<&str>, CheckpointError> {
    let named = match &checkpoint.tokenizer_config()["tokenizer_class"] {
        Value::Null => None,
        Value::String(name) => Some(name.as_str()).filter(|name| !name.is_empty()),
        other => {
            let problem = format!("tokenizer_class is {other}, and must be the name of a class");
            return Err(error(checkpoint, problem));
        }
    };
    Ok(named.or_else(|| checkpoint.text(&["tokenizer_class"])))
}

/// A class's name without `Tokenizer` and `Fast`.
fn short(name: &str) -> &str {
    let name = name.strip_suffix("Fast").unwrap_or(name);
    name.strip_suffix("Tokenizer").unwrap_or(name)
}

fn is_not_served(short: &str) -> bool {
    NOT_SERVED.split_whitespace().any(|name| name == short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_class_is_both_made_and_refused() {
        for (name, _) in KNOWN {
            assert!(!is_not_served(name), "{name}");
        }
        for family in crate::families::all() {
            let tokenizer = family.conventions.tokenizer;
            assert!(KNOWN.iter().any(|(name, _)| *name == tokenizer), "{tokenizer}");
        }
        assert!(is_not_served("Albert") && is_not_served("XLNet") && !is_not_served("Own"));
    }
}
