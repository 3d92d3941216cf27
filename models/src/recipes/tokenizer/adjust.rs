//! Changes that sentence-transformers makes to a loaded tokenizer.
//!
//! Must not know: limits, any one model's template.

use tokenizers::normalizers::{Lowercase, Sequence};
use tokenizers::{NormalizerWrapper, Tokenizer};

use super::error;
use crate::checkpoint::{Checkpoint, CheckpointError};

/// Adds lower-casing if the sentence-transformers files ask for it.
///
/// # Errors
/// A normalizer that cannot be replaced.
pub fn adjust(checkpoint: &Checkpoint, tokenizer: &mut Tokenizer) -> Result<(), CheckpointError> {
    if checkpoint.sentence_transformers().is_some_and(|modules| modules.lower_case)
        && !lowers(tokenizer.get_normalizer())
    {
        let before = tokenizer.get_normalizer().cloned();
        let all = std::iter::once(Lowercase.into()).chain(before).collect();
        replace(checkpoint, tokenizer, Sequence::new(all).into())?;
    }
    Ok(())
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

/// Whether a normalizer lower-cases.
fn lowers(normalizer: Option<&NormalizerWrapper>) -> bool {
    match normalizer {
        Some(NormalizerWrapper::Lowercase(_)) => true,
        Some(NormalizerWrapper::BertNormalizer(normalizer)) => normalizer.lowercase,
        Some(NormalizerWrapper::Sequence(all)) => {
            all.as_ref().iter().any(|part| lowers(Some(part)))
        }
        _ => false,
    }
}
