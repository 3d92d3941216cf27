//! Tokenises only as much of a long text as its limit keeps: finds where a text can be cut so that
//! the tokens before the cut do not depend on what follows.
//!
//! A tokenizer needs hundreds of bytes per byte of text, so this saves memory as well as time.
//!
//! Must not know: limits, templates.

use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::split::SplitPattern;
use tokenizers::{Encoding, NormalizerWrapper, SplitDelimiterBehavior, Tokenizer};

use super::pipeline::QWEN2_WORDS;

/// Most tokens have at most this many bytes.
const TOKEN_BYTES: usize = 8;
/// Smallest prefix to tokenise, in bytes, however few tokens are kept.
const BYTES_MIN: usize = 4096;
/// Growth of the prefix after one with too few tokens.
const GROWTH: usize = 4;

/// Whether this tokenizer splits every text at a space between two ASCII letters or digits, so that
/// no token depends on what is beyond the space.
pub fn splits_at_spaces(tokenizer: &Tokenizer) -> bool {
    let added = tokenizer.get_added_tokens_decoder();
    tokenizer.get_normalizer().is_none_or(looks_at_characters)
        && tokenizer.get_pre_tokenizer().is_some_and(splits)
        && !added.values().any(|token| token.content.contains(char::is_whitespace))
}

/// Whether a normalizer changes letters and spaces independently of their neighbours, combining
/// marks excepted.
fn looks_at_characters(normalizer: &NormalizerWrapper) -> bool {
    match normalizer {
        NormalizerWrapper::Sequence(all) => all.as_ref().iter().all(looks_at_characters),
        NormalizerWrapper::Replace(_) => joins_spaces(normalizer),
        // It maps spaces to letters, so none are left.
        NormalizerWrapper::ByteLevel(_) => false,
        NormalizerWrapper::BertNormalizer(_)
        | NormalizerWrapper::StripNormalizer(_)
        | NormalizerWrapper::StripAccents(_)
        | NormalizerWrapper::NFC(_)
        | NormalizerWrapper::NFD(_)
        | NormalizerWrapper::NFKC(_)
        | NormalizerWrapper::NFKD(_)
        | NormalizerWrapper::Lowercase(_)
        | NormalizerWrapper::Nmt(_)
        | NormalizerWrapper::Precompiled(_)
        | NormalizerWrapper::Prepend(_) => true,
    }
}

/// Whether a replacement is the one of XLM-RoBERTa that collapses several spaces and leaves single
/// ones; other patterns may match anything.
fn joins_spaces(normalizer: &NormalizerWrapper) -> bool {
    let told = serde_json::to_value(normalizer).unwrap_or_default();
    told["pattern"]["Regex"] == " {2,}"
}

/// Whether text on the two sides of a space between letters or digits goes to different pieces.
fn splits(pre_tokenizer: &PreTokenizerWrapper) -> bool {
    match pre_tokenizer {
        PreTokenizerWrapper::BertPreTokenizer(_)
        | PreTokenizerWrapper::Whitespace(_)
        | PreTokenizerWrapper::WhitespaceSplit(_) => true,
        PreTokenizerWrapper::ByteLevel(bytes) => bytes.use_regex,
        PreTokenizerWrapper::Metaspace(spaces) => spaces.split,
        PreTokenizerWrapper::Split(split) => {
            let words =
                matches!(&split.pattern, SplitPattern::Regex(words) if words == QWEN2_WORDS);
            words && split.behavior == SplitDelimiterBehavior::Isolated && !split.invert
        }
        // The pre-tokenizers that follow see one piece at a time.
        PreTokenizerWrapper::Sequence(all) => all.as_ref().first().is_some_and(splits),
        _ => false,
    }
}

/// The encoding of a text, or of a prefix that has more than `tokens` tokens, all of them the same
/// as the text's first ones.
///
/// # Errors
/// As `encode`.
pub fn more_than<E>(
    tokens: usize,
    text: &str,
    encode: impl Fn(&str) -> Result<Encoding, E>,
) -> Result<Encoding, E> {
    for beginning in beginnings(text, tokens) {
        let encoding = encode(beginning)?;
        if encoding.len() > tokens {
            return Ok(encoding);
        }
    }
    encode(text)
}

/// Ever longer prefixes of a text, each cut off before a space. For most texts the first has more
/// than `tokens` tokens; there are none if they would leave out little.
fn beginnings(text: &str, tokens: usize) -> impl Iterator<Item = &str> {
    let first = tokens.saturating_mul(TOKEN_BYTES).max(BYTES_MIN);
    std::iter::successors(Some(first), |bytes| bytes.checked_mul(GROWTH))
        .take_while(|bytes| *bytes < text.len() / 2)
        .filter_map(|bytes| Some(&text[..last_cut(&text.as_bytes()[..bytes])?]))
}

/// Index of the last space between two ASCII letters or digits.
fn last_cut(bytes: &[u8]) -> Option<usize> {
    let at = bytes.windows(3).rposition(|three| {
        three[0].is_ascii_alphanumeric() && three[1] == b' ' && three[2].is_ascii_alphanumeric()
    });
    at.map(|at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings_grow_and_end_before_a_space() {
        let text = "one two, é ".repeat(4096);
        let all: Vec<&str> = beginnings(&text, 10).collect();
        let lengths: Vec<usize> = all.iter().map(|beginning| beginning.len()).collect();
        assert!(lengths.len() > 1 && lengths.is_sorted(), "{lengths:?}");
        for beginning in all {
            assert!(text.starts_with(beginning) && beginning.len() > BYTES_MIN / 2);
            assert!(beginning.ends_with(" one"), "not beside a comma or another letter");
        }
    }

    #[test]
    fn only_normalizers_that_leave_spaces_where_they_are_let_a_text_be_cut() {
        use tokenizers::models::bpe::BPE;
        use tokenizers::normalizers::replace::ReplacePattern;
        use tokenizers::normalizers::{Lowercase, Replace, byte_level::ByteLevel};
        use tokenizers::pre_tokenizers::whitespace::Whitespace;

        let splits = |normalizer: NormalizerWrapper| {
            let mut tokenizer = Tokenizer::new(BPE::default());
            tokenizer.with_normalizer(Some(normalizer)).expect("it can be set");
            tokenizer.with_pre_tokenizer(Some(Whitespace));
            splits_at_spaces(&tokenizer)
        };
        assert!(splits(Lowercase.into()));
        assert!(!splits(ByteLevel::new().into()));
        assert!(!splits(Replace::new(" ", "_").expect("a pattern").into()));
        let several = ReplacePattern::Regex(" {2,}".into());
        assert!(splits(Replace::new(several, " ").expect("a pattern").into()));
        let any = ReplacePattern::Regex(" +".into());
        assert!(!splits(Replace::new(any, "").expect("a pattern").into()));
    }

    #[test]
    fn a_text_without_a_place_to_cut_has_no_beginning() {
        for text in ["漢字".repeat(4096), "a".repeat(40_000), "a  b\n".repeat(10_000)] {
            assert_eq!(beginnings(&text, 10).next(), None);
        }
        assert_eq!(beginnings("", 10).next(), None);
    }
}
