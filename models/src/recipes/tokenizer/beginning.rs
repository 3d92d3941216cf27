//! Tokenising no more of a long text than its limit keeps: where a text can be cut in two so that
//! the tokens before the cut are the same whatever comes after it.
//!
//! A tokenizer holds hundreds of bytes for each byte of its text, so the rest is not only time.
//!
//! Must not know: limits, templates.

use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::split::SplitPattern;
use tokenizers::{Encoding, NormalizerWrapper, SplitDelimiterBehavior, Tokenizer};

use super::pipeline::QWEN2_WORDS;

/// Most tokens have no more bytes than this.
const TOKEN_BYTES: usize = 8;
/// Bytes of a text that are tokenised at once, however few tokens are kept.
const BYTES_MIN: usize = 4096;
/// How much more is tried where a beginning had too few tokens.
const GROWTH: usize = 4;

/// Whether this tokenizer splits every text at a space between two ASCII letters or digits, so
/// that no token depends on what is on its other side.
pub fn splits_at_spaces(tokenizer: &Tokenizer) -> bool {
    let holds_space = |content: &str| content.contains(char::is_whitespace);
    let added = tokenizer.get_added_tokens_decoder();
    tokenizer.get_normalizer().is_none_or(looks_at_characters)
        && tokenizer.get_pre_tokenizer().is_some_and(splits)
        && !added.values().any(|token| holds_space(&token.content))
}

/// Whether a normalizer changes letters and spaces without looking at their neighbours, but for
/// marks on them.
fn looks_at_characters(normalizer: &NormalizerWrapper) -> bool {
    match normalizer {
        NormalizerWrapper::Sequence(all) => all.as_ref().iter().all(looks_at_characters),
        NormalizerWrapper::Replace(_) => joins_spaces(normalizer),
        // Bytes that are written as letters leave no space.
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

/// Whether a replacement is that of several spaces by one, as in XLM-RoBERTa, which leaves single
/// ones; other patterns may look at anything.
fn joins_spaces(normalizer: &NormalizerWrapper) -> bool {
    let told = serde_json::to_value(normalizer).unwrap_or_default();
    told["pattern"]["Regex"] == " {2,}"
}

/// Whether what is on the two sides of a space between letters or digits goes to different pieces.
fn splits(pre_tokenizer: &PreTokenizerWrapper) -> bool {
    match pre_tokenizer {
        PreTokenizerWrapper::BertPreTokenizer(_)
        | PreTokenizerWrapper::Whitespace(_)
        | PreTokenizerWrapper::WhitespaceSplit(_) => true,
        PreTokenizerWrapper::ByteLevel(bytes) => bytes.use_regex,
        PreTokenizerWrapper::Metaspace(spaces) => spaces.split,
        PreTokenizerWrapper::Split(split) => {
            let words = matches!(&split.pattern, SplitPattern::Regex(it) if it == QWEN2_WORDS);
            words && split.behavior == SplitDelimiterBehavior::Isolated && !split.invert
        }
        // What follows sees the pieces alone.
        PreTokenizerWrapper::Sequence(all) => all.as_ref().first().is_some_and(splits),
        _ => false,
    }
}

/// The encoding of a text, or of a beginning that has more than `tokens` tokens, which are those of
/// the text.
///
/// # Errors
/// Those of `encode`.
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

/// Longer and longer beginnings of a text, each cut off before a space. The first has more than
/// `tokens` tokens in most texts; where little would be left out there is none.
fn beginnings(text: &str, tokens: usize) -> impl Iterator<Item = &str> {
    let first = tokens.saturating_mul(TOKEN_BYTES).max(BYTES_MIN);
    std::iter::successors(Some(first), |bytes| bytes.checked_mul(GROWTH))
        .take_while(|bytes| *bytes < text.len() / 2)
        .filter_map(|bytes| Some(&text[..last_cut(&text.as_bytes()[..bytes])?]))
}

/// The place of the last space that is between two ASCII letters or digits.
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
        let lengths: Vec<usize> = all.iter().map(|it| it.len()).collect();
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
        let several = || ReplacePattern::Regex(" {2,}".into());
        assert!(splits(Replace::new(several(), " ").expect("a pattern").into()));
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
