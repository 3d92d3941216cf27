//! What other files say of a tokenizer: `tokenizer_config.json` as transformers follows it, and the
//! length file of sentence-transformers.
//!
//! Must not know: limits, templates of any one model.

use serde_json::Value;
use tokenizers::normalizers::{BertNormalizer, Lowercase, Sequence};
use tokenizers::{NormalizerWrapper, Tokenizer};

use crate::checkpoint::{Checkpoint, CheckpointError};

/// Classes of transformers that make their normalizer of `tokenizer_config.json`, whatever
/// `tokenizer.json` has.
const BERT_CLASSES: [&str; 5] = ["Bert", "DistilBert", "Electra", "LayoutLM", "MPNet"];

/// Changes a tokenizer as the files beside it say.
///
/// # Errors
/// A file that contradicts `tokenizer.json` in a way that transformers resolves by another
/// tokenizer.
pub fn adjust(checkpoint: &Checkpoint, tokenizer: &mut Tokenizer) -> Result<(), CheckpointError> {
    if is_bert(checkpoint) {
        follow_bert(checkpoint, tokenizer)?;
    }
    if checkpoint.sentence_transformers().is_some_and(|modules| modules.lower_case)
        && !lowers(tokenizer.get_normalizer())
    {
        let before = tokenizer.get_normalizer().cloned();
        let all = std::iter::once(Lowercase.into()).chain(before).collect();
        replace(checkpoint, tokenizer, Sequence::new(all).into())?;
    }
    check_end(checkpoint, tokenizer)
}

/// Whether transformers opens it by BERT's class.
fn is_bert(checkpoint: &Checkpoint) -> bool {
    match checkpoint.tokenizer_config()["tokenizer_class"].as_str() {
        Some(class) => {
            let class = class.trim_end_matches("Fast").trim_end_matches("Tokenizer");
            BERT_CLASSES.contains(&class)
        }
        None => matches!(checkpoint.model_type(), "bert" | "distilbert" | "mpnet" | "electra"),
    }
}

/// Has the normalizer do what the keys of BERT's class say.
fn follow_bert(checkpoint: &Checkpoint, tokenizer: &mut Tokenizer) -> Result<(), CheckpointError> {
    let config = checkpoint.tokenizer_config();
    let flag = |key: &str| match config.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(value)) => Ok(Some(*value)),
        Some(other) => Err(error(checkpoint, format!("{key} is {other}, not true or false"))),
    };
    let lower_case = flag("do_lower_case")?;
    let chinese = flag("tokenize_chinese_chars")?;
    let accents = flag("strip_accents")?;
    if let Some(NormalizerWrapper::BertNormalizer(own)) = tokenizer.get_normalizer() {
        let strip_accents =
            if config.get("strip_accents").is_some() { accents } else { own.strip_accents };
        let normalizer = BertNormalizer::new(
            own.clean_text,
            chinese.unwrap_or(own.handle_chinese_chars),
            strip_accents,
            lower_case.unwrap_or(own.lowercase),
        );
        return replace(checkpoint, tokenizer, normalizer.into());
    }
    match lower_case {
        Some(wanted) if wanted != lowers(tokenizer.get_normalizer()) => {
            let problem = format!(
                "do_lower_case is {wanted}, and the normalizer of tokenizer.json does otherwise; \
                 save the tokenizer with one of the two"
            );
            Err(error(checkpoint, problem))
        }
        _ => Ok(()),
    }
}

fn replace(
    checkpoint: &Checkpoint,
    tokenizer: &mut Tokenizer,
    normalizer: NormalizerWrapper,
) -> Result<(), CheckpointError> {
    let replaced = tokenizer.with_normalizer(Some(normalizer));
    replaced.map_err(|problem| {
        error(checkpoint, format!("its normalizer cannot be replaced: {problem}"))
    })?;
    Ok(())
}

/// Whether a normalizer writes letters small.
fn lowers(normalizer: Option<&NormalizerWrapper>) -> bool {
    match normalizer {
        Some(NormalizerWrapper::Lowercase(_)) => true,
        Some(NormalizerWrapper::BertNormalizer(normalizer)) => normalizer.lowercase,
        Some(NormalizerWrapper::Sequence(all)) => all.as_ref().iter().any(|it| lowers(Some(it))),
        _ => false,
    }
}

/// Refuses a tokenizer whose template lacks the token that `add_bos_token` or `add_eos_token` puts
/// at an end of every text.
fn check_end(checkpoint: &Checkpoint, tokenizer: &Tokenizer) -> Result<(), CheckpointError> {
    let config = checkpoint.tokenizer_config();
    for (key, token, first) in
        [("add_bos_token", "bos_token", true), ("add_eos_token", "eos_token", false)]
    {
        if config[key].as_bool() != Some(true) {
            continue;
        }
        let text = config[token].as_str().or_else(|| config[token]["content"].as_str());
        // Without such a token transformers adds none.
        let Some(text) = text else { continue };
        let probe = tokenizer.encode("a", true);
        let probe =
            probe.map_err(|problem| error(checkpoint, format!("it cannot tokenise: {problem}")))?;
        let ids = probe.get_ids();
        let found = if first { ids.first() } else { ids.last() };
        if found.copied() != tokenizer.token_to_id(text) {
            let problem =
                format!("{key} is true, and the template of tokenizer.json adds no {text} there");
            return Err(error(checkpoint, problem));
        }
    }
    Ok(())
}

fn error(checkpoint: &Checkpoint, problem: String) -> CheckpointError {
    CheckpointError::new(checkpoint.transformer_dir().join("tokenizer_config.json"), problem)
}
