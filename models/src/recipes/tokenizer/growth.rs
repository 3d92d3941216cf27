//! How long a text may be, and how much longer a normalizer can make it: what a tokenizer holds
//! goes by that.
//!
//! Must not know: limits of a sequence, templates.

use tokenizers::NormalizerWrapper;

use crate::input::InputError;

/// Bytes a text may have, whatever its tokens. No text that fits a model's limit comes near it; it
/// bounds the time that one input can take to be tokenised and the memory, hundreds of bytes for
/// each of its own.
pub const TEXT_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Bytes that may replace one: published tokenizers write three for a space.
const REPLACED_MAX: u64 = 64;
/// Bytes that may be put before a text.
const PREPENDED_MAX: usize = 64;

/// Whether a normalizer's replacements, one after another, could make a text much longer than a
/// published tokenizer does.
pub fn grows_too_much(normalizer: &NormalizerWrapper) -> bool {
    replaced(normalizer) > REPLACED_MAX
}

/// Bytes that replace one, at most.
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

/// Whether a normalizer makes up to 18 characters of one, by compatibility (Unicode's forms KC and
/// KD, and SentencePiece's tables, which are made of KC).
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
