//! The checkpoint's tokenizer with its limits, as all recipes use it.
//!
//! Must not know: any one model's template.

mod adjust;
mod beginning;
mod class;
mod cut;
mod growth;
mod ordered;
mod pipeline;
mod special;
mod template;
mod tokens;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use tokenizers::{Encoding, PostProcessor, Tokenizer, TruncationDirection, TruncationParams};
use unicode_normalization_alignments::UnicodeNormalization as _;

use super::{NetworkTraits, Token, Tokenize};
use crate::batch::Sequence;
use crate::checkpoint::files::{self, TOKENIZER_BYTES_MAX, is_there};
use crate::checkpoint::{Checkpoint, CheckpointError, STATIC};
use crate::input::{InputError, Prepare, TruncationSide};

use beginning::{more_than, splits_at_spaces};
pub use growth::check_bytes;
use growth::{expands, grows_too_much};

use template::has_each_once;

pub use growth::TEXT_BYTES_MAX;
pub use special::SpecialTokens;

/// A tokenizer and what limits its sequences.
pub struct TextTokenizer {
    inner: Tokenizer,
    traits: NetworkTraits,
    /// Which end of a text is cut, unless the request sets it.
    side: TruncationSide,
    /// Whether the network is given token types; otherwise all tokens have type 0.
    types: bool,
    /// Whether a prefix that ends at a space has the same tokens whatever follows it.
    splits_at_spaces: bool,
    /// Whether its normalizer can expand one character to many.
    expands: bool,
    /// Ids of the special tokens named in files.
    named_special: Vec<u32>,
    /// Special tokens by key, such as `bos_token`.
    named_tokens: BTreeMap<String, String>,
}

impl TextTokenizer {
    /// Reads `tokenizer.json` and the tokenizer files beside it.
    ///
    /// # Errors
    /// If it is missing, invalid or not served.
    pub fn load(checkpoint: &Checkpoint, traits: &NetworkTraits) -> Result<Self, CheckpointError> {
        let path = checkpoint.transformer_dir().join("tokenizer.json");
        let error = |problem: String| CheckpointError::new(&path, problem);
        if !is_there(&path) {
            let problem = "the file is missing; save the tokenizer in the fast format";
            return Err(error(problem.into()));
        }
        let bytes = files::read(&path, TOKENIZER_BYTES_MAX)?;
        let opened = caught(&path, || pipeline::open(checkpoint, &traits.conventions, &bytes))?;
        let mut inner = opened.tokenizer;
        if inner.get_normalizer().is_some_and(grows_too_much) {
            let problem = "its normalizer can replace one byte by more than 64, or prepend more \
                           than 64 to a text";
            return Err(error(problem.into()));
        }
        // Files may contain training settings; here limits are ours and nothing is padded.
        inner.with_padding(None);
        let reset = inner.with_truncation(None::<TruncationParams>);
        reset.map_err(|problem| error(format!("its truncation cannot be reset: {problem}")))?;
        adjust::adjust(checkpoint, &mut inner)?;
        let side = match checkpoint.tokenizer_config().get("truncation_side") {
            None if opened.direction == TruncationDirection::Left => TruncationSide::Left,
            None => TruncationSide::Right,
            Some(side) if side == "right" => TruncationSide::Right,
            Some(side) if side == "left" => TruncationSide::Left,
            Some(other) => {
                let problem = format!("truncation_side is {other}, not \"right\" or \"left\"");
                return Err(self::error(checkpoint, problem));
            }
        };
        let types = opened.gives_types && traits.token_types > 0;
        let splits_at_spaces = splits_at_spaces(&inner);
        let expands = inner.get_normalizer().is_some_and(expands);
        let (named_special, named_tokens) = (opened.named_special, opened.named_tokens);
        let traits = *traits;
        Ok(Self {
            inner,
            traits,
            side,
            types,
            splits_at_spaces,
            expands,
            named_special,
            named_tokens,
        })
    }

    /// Special tokens by key, such as `bos_token`, as files or the class name them.
    pub fn named_tokens(&self) -> &BTreeMap<String, String> {
        &self.named_tokens
    }

    /// Whether a long text is cut at its beginning rather than its end.
    pub fn cuts_left(&self, how: &Prepare) -> bool {
        match how.side {
            TruncationSide::Own => self.side == TruncationSide::Left,
            side => side == TruncationSide::Left,
        }
    }

    /// Special tokens that the template puts before and after a text.
    ///
    /// # Errors
    /// If it cannot tokenise, or its template leaves no room or is not served.
    pub fn template(
        &self,
        checkpoint: &Checkpoint,
    ) -> Result<(Vec<u32>, Vec<u32>), CheckpointError> {
        let path = checkpoint.transformer_dir().join("tokenizer.json");
        let error = |problem: String| CheckpointError::new(&path, problem);
        if self.inner.get_post_processor().is_some_and(|post| !has_each_once(post, false)) {
            return Err(error("its template does not contain the text exactly once".into()));
        }
        let encode = || {
            let encoding = self.inner.encode("a", true);
            encoding.map_err(|problem| error(format!("it cannot tokenise: {problem}")))
        };
        let probe = caught(&path, encode)?;
        let (ids, special) = (probe.get_ids(), probe.get_special_tokens_mask());
        let before = special.iter().take_while(|flag| **flag == 1).count();
        let after = special[before..].iter().rev().take_while(|flag| **flag == 1).count();
        let (before, after) = (ids[..before].to_vec(), ids[ids.len() - after..].to_vec());
        if before.len() + after.len() >= self.traits.tokens_max {
            let limit = self.traits.tokens_max;
            return Err(error(format!("its template leaves no room in {limit} tokens")));
        }
        self.check_types(checkpoint, false)?;
        Ok((before, after))
    }

    /// Refuses a template for pairs that does not contain each text once, and token types that a
    /// [`Sequence`] cannot represent: all must be 0 or, in a pair, 1 from some position on.
    ///
    /// # Errors
    /// Such a template, such types, or types that the network does not have.
    pub fn check_types(&self, checkpoint: &Checkpoint, pair: bool) -> Result<(), CheckpointError> {
        let error = |problem: String| {
            CheckpointError::new(checkpoint.transformer_dir().join("tokenizer.json"), problem)
        };
        if self.inner.get_post_processor().is_some_and(|post| pair && !has_each_once(post, true)) {
            return Err(error(
                "its template does not contain both texts of a pair exactly once".into(),
            ));
        }
        if !self.types {
            return Ok(());
        }
        let probe = self.plain("a").and_then(|first| {
            let second = pair.then(|| self.plain("a")).transpose()?;
            self.wrap(first, second)
        });
        let probe = probe.map_err(|problem| error(format!("it cannot tokenise: {problem}")))?;
        let types = probe.get_type_ids();
        let (known, most) = (self.traits.token_types, u32::from(pair));
        let largest = types.iter().copied().max().unwrap_or(0);
        if types.is_sorted() && largest <= most && (largest as usize) < known {
            return Ok(());
        }
        let what = if pair { "two texts" } else { "a text" };
        Err(error(format!(
            "its template gives {what} the token types {types:?}, but config.json has {known}; \
             supported are 0 and, for two texts, 1 from some position on"
        )))
    }

    /// Where the second of two texts begins, if the network has token types.
    pub fn second_text(&self, encoding: &Encoding) -> Option<usize> {
        if self.types { encoding.get_type_ids().iter().position(|kind| *kind == 1) } else { None }
    }

    /// The id of a token.
    ///
    /// # Errors
    /// If the tokenizer has no such token, or its id is outside the network's vocabulary.
    pub fn id(&self, checkpoint: &Checkpoint, token: &str) -> Result<u32, CheckpointError> {
        self.id_of(token).ok_or_else(|| {
            let path = checkpoint.transformer_dir().join("tokenizer.json");
            CheckpointError::new(path, format!("it has no token {token:?}, which is needed"))
        })
    }

    /// Whether an id is that of a special token named in files (`all_special_ids` in transformers).
    pub fn is_named_special(&self, id: u32) -> bool {
        self.named_special.contains(&id)
    }

    /// A sequence of given token ids. It is not truncated, since nothing tells where to cut.
    ///
    /// # Errors
    /// If there are none or too many, or one is outside the vocabulary.
    pub fn given(&self, ids: &[u32], how: &Prepare) -> Result<Sequence, InputError> {
        let (tokens, limit) = (ids.to_vec(), self.limit(how));
        if tokens.len() > limit {
            return Err(InputError::TooLong { tokens: tokens.len(), limit });
        }
        self.checked(Sequence { tokens, ..Sequence::default() })
    }

    /// Maximum number of tokens of a sequence.
    pub fn limit(&self, how: &Prepare) -> usize {
        how.tokens_max.map_or(self.traits.tokens_max, |limit| limit.min(self.traits.tokens_max))
    }

    /// A text's tokens, without the template's special tokens.
    ///
    /// # Errors
    /// If it is too large or cannot be tokenised.
    pub fn plain(&self, text: &str) -> Result<Encoding, InputError> {
        self.check_size(text)?;
        failed(self.inner.encode_fast(text, false))
    }

    /// The encoding of a text or, if that has more than `tokens` tokens, possibly of a prefix that
    /// also has more.
    fn more_than(
        &self,
        tokens: usize,
        text: &str,
        encode: impl Fn(&str) -> tokenizers::Result<Encoding>,
    ) -> Result<Encoding, InputError> {
        check_bytes(text)?;
        let encode = |piece: &str| {
            self.check_characters(piece)?;
            failed(encode(piece))
        };
        if self.splits_at_spaces { more_than(tokens, text, encode) } else { encode(text) }
    }

    /// As [`plain`](Self::plain), with offsets in characters.
    ///
    /// # Errors
    /// If it is too large or cannot be tokenised.
    pub fn located(&self, text: &str, special_tokens: bool) -> Result<Encoding, InputError> {
        self.check_size(text)?;
        failed(self.inner.encode_char_offsets(text, special_tokens))
    }

    fn check_size(&self, text: &str) -> Result<(), InputError> {
        check_bytes(text)?;
        self.check_characters(text)
    }

    /// Refuses a text that is too large once normalised, which determines the tokenizer's memory
    /// use.
    fn check_characters(&self, piece: &str) -> Result<(), InputError> {
        let limit = TEXT_BYTES_MAX;
        // No character is normalised to more than 18.
        let may_expand =
            self.expands && piece.len().saturating_mul(18) > limit && !piece.is_ascii();
        if may_expand && piece.nfkc().take(limit + 1).count() > limit {
            return Err(InputError::TooManyCharacters { limit });
        }
        Ok(())
    }

    /// Number of special tokens that the template adds to one text, or to two.
    pub fn added(&self, pair: bool) -> usize {
        self.inner.get_post_processor().map_or(0, |post| post.added_tokens(pair))
    }

    /// A text, or its beginning if `tokens` is set.
    ///
    /// # Errors
    /// As [`beginning`](Self::beginning).
    pub fn part<'a>(&self, text: &'a str, tokens: Option<usize>) -> Result<&'a str, InputError> {
        tokens.map_or(Ok(text), |tokens| self.beginning(text, tokens))
    }

    /// The beginning of a text, cut off after this many tokens.
    ///
    /// # Errors
    /// If it is too large or cannot be tokenised.
    pub fn beginning<'a>(&self, text: &'a str, tokens: usize) -> Result<&'a str, InputError> {
        // Every token has at least one byte, so most texts need not be tokenised.
        if text.len() <= tokens {
            return Ok(text);
        }
        let encoding = self.more_than(tokens, text, |text| self.inner.encode(text, false))?;
        if encoding.len() <= tokens {
            return Ok(text);
        }
        let mut end = encoding.get_offsets()[..tokens].last().map_or(0, |(_, end)| *end);
        // A token may end within a character.
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        Ok(&text[..end])
    }

    /// Puts the template's special tokens around one text or two.
    ///
    /// # Errors
    /// If the tokenizer fails.
    pub fn wrap(
        &self,
        first: Encoding,
        mut second: Option<Encoding>,
    ) -> Result<Encoding, InputError> {
        // The type of the second text, if the template sets none.
        if let Some(second) = &mut second {
            second.set_type_ids(vec![1; second.len()]);
        }
        failed(self.inner.post_process(first, second, true))
    }

    /// Returns the sequence if all its ids are valid.
    ///
    /// # Errors
    /// If there are none, or one is outside the vocabulary.
    pub fn checked(&self, sequence: Sequence) -> Result<Sequence, InputError> {
        if sequence.tokens.is_empty() {
            return Err(InputError::NoTokens);
        }
        self.check_ids(&sequence.tokens)?;
        Ok(sequence)
    }

    /// Checks that all ids are in the network's vocabulary.
    ///
    /// # Errors
    /// If one is not.
    pub fn check_ids(&self, ids: &[u32]) -> Result<(), InputError> {
        let vocabulary = self.traits.vocabulary;
        match ids.iter().find(|id| **id as usize >= vocabulary) {
            Some(id) => Err(InputError::UnknownToken { id: *id, vocabulary }),
            None => Ok(()),
        }
    }
}

impl Tokenize for TextTokenizer {
    fn tokens(&self, full: &str, special_tokens: bool) -> Result<Vec<Token>, InputError> {
        let encoding = self.located(full, special_tokens)?;
        let characters: Vec<usize> = full.char_indices().map(|(at, _)| at).collect();
        let byte = |index: usize| characters.get(index).copied().unwrap_or(full.len());
        let tokens = (0..encoding.len()).map(|at| {
            let (start, stop) = encoding.get_offsets()[at];
            let special = encoding.get_special_tokens_mask()[at] == 1;
            let text = if special {
                encoding.get_tokens()[at].clone()
            } else {
                full[byte(start)..byte(stop)].to_owned()
            };
            let (start, stop) = if special { (None, None) } else { (Some(start), Some(stop)) };
            Token { id: encoding.get_ids()[at], text, special, start, stop }
        });
        Ok(tokens.collect())
    }

    fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String, InputError> {
        self.check_ids(ids)?;
        failed(self.inner.decode(ids, skip_special_tokens))
    }

    fn id_of(&self, token: &str) -> Option<u32> {
        let id = self.inner.token_to_id(token);
        id.filter(|id| (*id as usize) < self.traits.vocabulary)
    }

    fn special_ids(&self) -> Vec<u32> {
        let added = self.inner.get_added_tokens_decoder();
        let special = added
            .iter()
            .filter(|(_, token)| token.special && !token.content.to_lowercase().contains("mask"));
        special.map(|(id, _)| *id).collect()
    }
}

/// The longest sequence, as set in `tokenizer_config.json`.
///
/// # Errors
/// A limit that transformers does not accept either.
pub(crate) fn tokens_max(checkpoint: &Checkpoint) -> Result<Option<usize>, CheckpointError> {
    /// Tokenizers without a limit store 1e30 or another unreachable number.
    const NO_LIMIT: f64 = 1e9;
    if checkpoint.model_type() == STATIC {
        // sentence-transformers opens the file alone, and leaves what it says in force.
        let path = checkpoint.transformer_dir().join("tokenizer.json");
        let bytes = files::read(&path, TOKENIZER_BYTES_MAX)?;
        return Ok(pipeline::truncation(&path, &bytes)?.map(|truncation| truncation.max_length));
    }
    let config = checkpoint.tokenizer_config();
    let keys = ["model_max_length", "max_len"];
    let Some((key, limit)) = keys.iter().find_map(|key| Some((key, config.get(key)?))) else {
        return Ok(None);
    };
    match (limit.as_u64(), limit.as_f64()) {
        _ if limit.is_null() => Ok(None),
        (_, Some(limit)) if limit >= NO_LIMIT => Ok(None),
        (Some(limit @ 1..), _) => Ok(Some(limit as usize)),
        _ => {
            let problem = format!("{key} is {limit}, and must be a whole number of tokens");
            Err(error(checkpoint, problem))
        }
    }
}

/// The file that has most of a tokenizer's settings.
const CONFIG: &str = "tokenizer_config.json";

fn error(checkpoint: &Checkpoint, problem: String) -> CheckpointError {
    CheckpointError::new(checkpoint.transformer_dir().join(CONFIG), problem)
}

/// Runs `work` on a tokenizer file and turns panics into errors: the library panics on some files.
fn caught<T>(
    path: &Path,
    work: impl FnOnce() -> Result<T, CheckpointError>,
) -> Result<T, CheckpointError> {
    let panicked = |_| Err(CheckpointError::new(path, "the tokenizers library panicked on it"));
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(panicked)
}

fn failed<T>(result: tokenizers::Result<T>) -> Result<T, InputError> {
    result.map_err(|error| InputError::Tokenizer(error.to_string()))
}
