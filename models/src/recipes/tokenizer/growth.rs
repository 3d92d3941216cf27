//! How long a text may be, and how much a normalizer can expand it, which determines the
//! tokenizer's memory use.
//!
//! Must not know: limits of a sequence, templates.

use tokenizers::NormalizerWrapper;

use crate::input::InputError;

/// Largest text in bytes, whatever its number of tokens. No text that fits a model's limit comes
/// near it. It bounds the time to tokenise one input and the memory for it, which is hundreds of
/// times its size.
pub const TEXT_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Maximum number of bytes that may replace one: published tokenizers write three for a space.
const REPLACED_MAX: u64 = 64;
/// Maximum number of bytes that may be prepended to a text.
const PREPENDED_MAX: usize = 64;

/// Whether a normalizer's replacements, applied in sequence, could expand a text far more than
/// published tokenizers do.
pub fn grows_too_much(normalizer: &NormalizerWrapper) -> bool {
    replaced(normalizer) > REPLACED_MAX
}

/// The largest number of bytes that can replace one.
fn replaced(normalizer: &NormalizerWrapper) -> u64 {
    match normalizer {
        NormalizerWrapper::Sequence(all) => {
            all.as_ref().iter().map(replaced).fold(1, u64::saturating_mul)
        }
        NormalizerWrapper::Prepend(prefix) if prefix.prepend.len() > PREPENDED_MAX => u64::MAX,
        NormalizerWrapper::Replace(_) => {
            let told = serde_json::to_value(normalizer).unwrap_or_default();
            let bytes = |value: &serde_json::Value| value.as_str().map_or(0, str::len) as u64;
            // A regular expression may match a single byte.
            let least = bytes(&told["pattern"]["String"]).max(1);
            bytes(&told["content"]).div_ceil(least).max(1)
        }
        _ => 1,
    }
}

/// Whether a normalizer can expand one character to as many as 18 through compatibility mappings
/// (NFKC, NFKD, and SentencePiece's tables, which are derived from NFKC).
pub fn expands(normalizer: &NormalizerWrapper) -> bool {
    match normalizer {
        NormalizerWrapper::Sequence(all) => all.as_ref().iter().any(expands),
        NormalizerWrapper::NFKC(_)
        | NormalizerWrapper::NFKD(_)
        | NormalizerWrapper::Precompiled(_) => true,
        _ => false,
    }
}

/// Refuses a text that is too large.
///
/// # Errors
/// If it is.
pub fn check_bytes(text: &str) -> Result<(), InputError> {
    let (bytes, limit) = (text.len(), TEXT_BYTES_MAX);
    if bytes > limit { Err(InputError::TooManyBytes { bytes, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn replacements_are_counted_together() {
        let unbounded = |all: &[(serde_json::Value, usize)]| {
            let all: Vec<_> = all
                .iter()
                .map(|(pattern, bytes)| {
                    let content = "a".repeat(*bytes);
                    json!({ "type": "Replace", "pattern": pattern, "content": content })
                })
                .collect();
            let told = json!({ "type": "Sequence", "normalizers": all });
            grows_too_much(&serde_json::from_value(told).expect("a normalizer"))
        };
        let (any, spaces) = (json!({ "Regex": "." }), json!({ "String": "  " }));
        assert!(!unbounded(&[]));
        assert!(!unbounded(&[(any.clone(), 0), (any.clone(), 3), (any.clone(), 3)]));
        assert!(!unbounded(&[(spaces.clone(), 128)]));
        assert!(unbounded(&[(spaces, 129)]));
        assert!(unbounded(&[(any.clone(), 9), (any, 9)]));
        let before = |bytes| {
            let told = json!({ "type": "Prepend", "prepend": "a".repeat(bytes) });
            grows_too_much(&serde_json::from_value(told).expect("a normalizer"))
        };
        assert!(!before(64) && before(65));
    }
}
