//! The pipelines that transformers' classes build around the vocabulary of a `tokenizer.json`
//! (`tokenization_bert.py`, `tokenization_roberta.py`, ... of transformers 5): normalizer,
//! pre-tokenizer and template are the class's, whatever the file contains.
//!
//! Must not know: which class it is, where tokens come from.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::Sequence as Normalizers;
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{BertNormalizer, Lowercase, NFC, Replace, Strip};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::punctuation::Punctuation;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::pre_tokenizers::whitespace::WhitespaceSplit;
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{
    DecoderWrapper, Model as _, ModelWrapper, NormalizerWrapper, PaddingParams,
    PostProcessorWrapper, SplitDelimiterBehavior, Tokenizer, TruncationDirection, TruncationParams,
};

use super::class::{self, TokenizerClass};
use super::error;
use super::tokens::{Listed, Tokens};
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::conventions::Conventions;

/// The pattern by which Qwen2's class splits a text.
pub const QWEN2_WORDS: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
/// What DeBERTa's class replaces by a space.
const DEBERTA_SPACES: &str = r"\s{2,}|[\n\r\t]";
/// Index of the unknown piece in XLM-RoBERTa's class.
const XLM_ROBERTA_UNKNOWN: usize = 3;

/// The parts of `tokenizer.json` that every class uses.
#[derive(Deserialize)]
struct CommonParts {
    #[serde(default)]
    added_tokens: Vec<Listed>,
    padding: Option<PaddingParams>,
    truncation: Option<TruncationParams>,
}

/// A tokenizer and the settings in its files.
pub struct Opened {
    pub tokenizer: Tokenizer,
    /// Which end of a long text is cut off, unless another file sets it.
    pub direction: TruncationDirection,
    /// Whether it gives token types.
    pub gives_types: bool,
    /// Ids of the special tokens named in files, which are not all that `tokenizer.json` marks as
    /// special.
    pub named_special: Vec<u32>,
    /// Special tokens by key.
    pub named_tokens: BTreeMap<String, String>,
}

/// The parts used by a class that builds the rest itself.
#[derive(Deserialize)]
struct TokenizerParts {
    model: ModelWrapper,
    normalizer: Option<NormalizerWrapper>,
    post_processor: Option<PostProcessorWrapper>,
    decoder: Option<DecoderWrapper>,
}

/// The `truncation` settings of a `tokenizer.json` with these bytes, if it has any.
///
/// # Errors
/// An invalid file.
pub fn truncation(path: &Path, bytes: &[u8]) -> Result<Option<TruncationParams>, CheckpointError> {
    let common: Result<CommonParts, _> = serde_json::from_slice(bytes);
    let common = common
        .map_err(|problem| CheckpointError::new(path, format!("not a tokenizer: {problem}")))?;
    Ok(common.truncation)
}

/// The tokenizer that transformers builds from a `tokenizer.json` with these bytes and the files
/// beside it.
///
/// # Errors
/// An invalid tokenizer, or one that the class cannot be built from.
pub fn open(
    checkpoint: &Checkpoint,
    conventions: &Conventions,
    bytes: &[u8],
) -> Result<Opened, CheckpointError> {
    let path = checkpoint.transformer_dir().join("tokenizer.json");
    let damaged =
        |problem: String| CheckpointError::new(&path, format!("not a tokenizer: {problem}"));
    let common: CommonParts =
        serde_json::from_slice(bytes).map_err(|problem| damaged(problem.to_string()))?;
    let bytes_are_pieces = memchr::memmem::find(bytes, b"\"ByteLevel\"").is_some();
    let class = class::of(checkpoint, conventions, bytes_are_pieces)?;
    let padding = common.padding.as_ref();
    let tokens = Tokens::read(checkpoint, class, &common.added_tokens, padding)?;
    let tokenizer = if class == TokenizerClass::File {
        let read = Tokenizer::from_bytes(bytes);
        let mut tokenizer = read.map_err(|problem| damaged(problem.to_string()))?;
        tokens.add_to(&mut tokenizer, class).map_err(|problem| {
            error(checkpoint, format!("its tokens cannot be added: {problem}"))
        })?;
        tokenizer
    } else {
        let parts: TokenizerParts =
            serde_json::from_slice(bytes).map_err(|problem| damaged(problem.to_string()))?;
        Maker { checkpoint, class, tokens: &tokens }.make(parts)?
    };
    let direction =
        common.truncation.map_or(TruncationDirection::Right, |truncation| truncation.direction);
    let named_special =
        tokens.special().into_iter().filter_map(|text| tokenizer.token_to_id(text)).collect();
    let gives_types = class::gives_types(checkpoint, class)?;
    let named_tokens = tokens.by_key();
    Ok(Opened { tokenizer, direction, gives_types, named_special, named_tokens })
}

/// Builds the pipeline of a class.
struct Maker<'a> {
    checkpoint: &'a Checkpoint,
    class: TokenizerClass,
    tokens: &'a Tokens,
}

impl Maker<'_> {
    fn make(&self, parts: TokenizerParts) -> Result<Tokenizer, CheckpointError> {
        let failed = |problem: tokenizers::Error| {
            error(self.checkpoint, format!("its tokenizer cannot be built: {problem}"))
        };
        let precompiled = precompiled(parts.normalizer.as_ref());
        let mut tokenizer = Tokenizer::new(self.model(parts.model)?);
        tokenizer.with_normalizer(self.normalizer(precompiled)?).map_err(failed)?;
        let pre_tokenizer = self.pre_tokenizer()?;
        tokenizer.with_pre_tokenizer(Some(pre_tokenizer));
        tokenizer.with_decoder(parts.decoder);
        self.tokens.add_to(&mut tokenizer, self.class).map_err(failed)?;
        let post_processor = match self.class {
            // These classes have no template of their own.
            TokenizerClass::Gpt2
            | TokenizerClass::Qwen2
            | TokenizerClass::Gemma
            | TokenizerClass::File => parts.post_processor,
            _ => Some(self.post_processor(&tokenizer)?),
        };
        tokenizer.with_post_processor(post_processor);
        Ok(tokenizer)
    }

    /// The vocabulary with the class's settings.
    fn model(&self, model: ModelWrapper) -> Result<ModelWrapper, CheckpointError> {
        match (self.class, model) {
            (TokenizerClass::Bert | TokenizerClass::MPNet, ModelWrapper::WordPiece(mut model)) => {
                self.token("unk_token")?.clone_into(&mut model.unk_token);
                model.continuing_subword_prefix = "##".into();
                model.max_input_chars_per_word = 100;
                Ok(model.into())
            }
            (
                TokenizerClass::Roberta | TokenizerClass::Gpt2 | TokenizerClass::Qwen2,
                ModelWrapper::BPE(mut model),
            ) => {
                let prefix = model.continuing_subword_prefix.take().unwrap_or_default();
                if !prefix.is_empty() {
                    return Err(self.contradicted(&format!(
                        "pieces of tokenizer.json begin with {prefix:?}, and those of this class \
                         do not"
                    )));
                }
                (model.dropout, model.unk_token, model.end_of_word_suffix) = (None, None, None);
                (model.fuse_unk, model.byte_fallback, model.ignore_merges) = (false, false, false);
                Ok(model.into())
            }
            (TokenizerClass::Gemma, ModelWrapper::BPE(mut model)) => {
                let unknown = self.token("unk_token")?;
                if model.token_to_id(unknown).is_none() {
                    return Err(self.contradicted(&format!(
                        "its vocabulary has no unknown token {unknown:?}"
                    )));
                }
                model.unk_token = Some(unknown.to_owned());
                (model.dropout, model.continuing_subword_prefix) = (None, None);
                (model.fuse_unk, model.byte_fallback, model.ignore_merges) = (true, true, false);
                model.end_of_word_suffix = None;
                Ok(model.into())
            }
            (
                TokenizerClass::XlmRoberta | TokenizerClass::Camembert | TokenizerClass::DebertaV2,
                ModelWrapper::Unigram(model),
            ) => {
                let pieces: Vec<(String, f64)> = model.iter().cloned().collect();
                let unknown = self.unknown_piece(&pieces)?;
                let model = Unigram::from(pieces, Some(unknown), false);
                model.map(ModelWrapper::from).map_err(|problem| {
                    error(self.checkpoint, format!("its vocabulary cannot be used: {problem}"))
                })
            }
            (_, model) => {
                let kind = match model {
                    ModelWrapper::BPE(_) => "BPE",
                    ModelWrapper::WordPiece(_) => "WordPiece",
                    ModelWrapper::WordLevel(_) => "WordLevel",
                    ModelWrapper::Unigram(_) => "Unigram",
                };
                Err(self.contradicted(&format!(
                    "tokenizer.json is of another kind ({kind}) than this class"
                )))
            }
        }
    }

    /// Index of the piece for what is in no other.
    fn unknown_piece(&self, pieces: &[(String, f64)]) -> Result<usize, CheckpointError> {
        let unknown = self.tokens.named("unk_token");
        let is_unknown = |text: &str| Some(text) == unknown;
        Ok(match self.class {
            TokenizerClass::XlmRoberta => XLM_ROBERTA_UNKNOWN,
            // A piece of this text with another score is not taken.
            TokenizerClass::DebertaV2 => {
                let index =
                    pieces.iter().position(|(text, score)| is_unknown(text) && *score == 0.0);
                match (index, self.checkpoint.tokenizer_config().get("unk_id")) {
                    (Some(index), _) => index,
                    (None, None) => 1,
                    (None, Some(id)) => {
                        let problem = || error(self.checkpoint, format!("unk_id is {id}"));
                        let id = id.as_u64().and_then(|id| usize::try_from(id).ok());
                        id.ok_or_else(problem)?
                    }
                }
            }
            _ => pieces.iter().position(|(text, _)| is_unknown(text)).unwrap_or(0),
        })
    }

    fn normalizer(
        &self,
        precompiled: Option<NormalizerWrapper>,
    ) -> Result<Option<NormalizerWrapper>, CheckpointError> {
        Ok(match self.class {
            TokenizerClass::Bert | TokenizerClass::MPNet => {
                let config = self.checkpoint.tokenizer_config();
                let strip_accents = match config.get("strip_accents") {
                    None | Some(Value::Null) => None,
                    Some(_) => Some(self.flag("strip_accents", true)?),
                };
                let chinese = self.flag("tokenize_chinese_chars", true)?;
                let lower_case = self.flag("do_lower_case", true)?;
                Some(BertNormalizer::new(true, chinese, strip_accents, lower_case).into())
            }
            TokenizerClass::Qwen2 => Some(NFC.into()),
            TokenizerClass::Gemma => {
                let spaces = Replace::new(" ", "▁");
                Some(spaces.map_err(|problem| error(self.checkpoint, problem.to_string()))?.into())
            }
            TokenizerClass::XlmRoberta | TokenizerClass::Camembert => precompiled,
            TokenizerClass::DebertaV2 => {
                let spaces = Replace::new(ReplacePattern::Regex(DEBERTA_SPACES.into()), " ");
                let spaces =
                    spaces.map_err(|problem| error(self.checkpoint, problem.to_string()))?;
                let mut all: Vec<NormalizerWrapper> = Vec::new();
                if self.flag_or_null("do_lower_case", false)? {
                    all.push(Lowercase.into());
                }
                all.extend([spaces.into(), NFC.into(), Strip::new(false, true).into()]);
                Some(Normalizers::new(all).into())
            }
            TokenizerClass::Roberta | TokenizerClass::Gpt2 | TokenizerClass::File => None,
        })
    }

    fn pre_tokenizer(&self) -> Result<PreTokenizerWrapper, CheckpointError> {
        Ok(match self.class {
            TokenizerClass::Bert | TokenizerClass::MPNet | TokenizerClass::File => {
                BertPreTokenizer.into()
            }
            TokenizerClass::Roberta | TokenizerClass::Gpt2 => {
                ByteLevel::new(self.flag("add_prefix_space", false)?, true, true).into()
            }
            TokenizerClass::Qwen2 => {
                let space = self.flag_or_null("add_prefix_space", false)?;
                let pattern = SplitPattern::Regex(QWEN2_WORDS.into());
                let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false);
                let split = split.map_err(|problem| error(self.checkpoint, problem.to_string()))?;
                let bytes = ByteLevel::new(space, true, false);
                Sequence::new(vec![split.into(), bytes.into()]).into()
            }
            TokenizerClass::Gemma => {
                let behavior = SplitDelimiterBehavior::MergedWithPrevious;
                let split = Split::new(SplitPattern::String(" ".into()), behavior, false);
                split.map_err(|problem| error(self.checkpoint, problem.to_string()))?.into()
            }
            TokenizerClass::DebertaV2 => {
                let mut all: Vec<PreTokenizerWrapper> = Vec::new();
                if self.flag_or_null("split_by_punct", false)? {
                    all.push(Punctuation::new(SplitDelimiterBehavior::Isolated).into());
                }
                let space = match self.flag_or_null("add_prefix_space", true)? {
                    true => PrependScheme::Always,
                    false => PrependScheme::First,
                };
                all.push(Metaspace::new('▁', space, true).into());
                Sequence::new(all).into()
            }
            TokenizerClass::XlmRoberta | TokenizerClass::Camembert => {
                let space = match self.flag_or_null("add_prefix_space", true)? {
                    true => PrependScheme::Always,
                    false => PrependScheme::Never,
                };
                let pieces = Metaspace::new('▁', space, true);
                Sequence::new(vec![WhitespaceSplit.into(), pieces.into()]).into()
            }
        })
    }

    fn post_processor(
        &self,
        tokenizer: &Tokenizer,
    ) -> Result<PostProcessorWrapper, CheckpointError> {
        let (first, last) = match self.class {
            TokenizerClass::Bert
            | TokenizerClass::MPNet
            | TokenizerClass::Roberta
            | TokenizerClass::DebertaV2 => ("cls_token", "sep_token"),
            _ => ("bos_token", "eos_token"),
        };
        let (first, last) = (self.token(first)?, self.token(last)?);
        let with_id = |token: &str| {
            let problem = format!("there is no token {token:?} to put around a text");
            let id = tokenizer.token_to_id(token);
            id.map(|id| (token.to_owned(), id)).ok_or_else(|| error(self.checkpoint, problem))
        };
        if matches!(self.class, TokenizerClass::Roberta | TokenizerClass::MPNet) {
            let processing = RobertaProcessing::new(with_id(last)?, with_id(first)?);
            return Ok(match self.class {
                TokenizerClass::MPNet => processing.trim_offsets(true).add_prefix_space(false),
                _ => processing
                    .trim_offsets(self.flag("trim_offsets", true)?)
                    .add_prefix_space(self.flag("add_prefix_space", false)?),
            }
            .into());
        }
        let (single, pair) = match self.class {
            TokenizerClass::Bert | TokenizerClass::DebertaV2 => (
                format!("{first}:0 $A:0 {last}:0"),
                format!("{first}:0 $A:0 {last}:0 $B:1 {last}:1"),
            ),
            _ => (format!("{first} $A {last}"), format!("{first} $A {last} {last} $B {last}")),
        };
        let wrong = |problem: String| {
            error(self.checkpoint, format!("no template can be made of its tokens: {problem}"))
        };
        let mut builder = TemplateProcessing::builder();
        builder.try_single(single).map_err(wrong)?;
        builder.try_pair(pair).map_err(wrong)?;
        builder.special_tokens(vec![with_id(first)?, with_id(last)?]);
        let template = builder.build().map_err(|problem| wrong(problem.to_string()))?;
        Ok(template.into())
    }

    /// The text of a token that the class requires.
    fn token(&self, key: &str) -> Result<&str, CheckpointError> {
        self.tokens.named(key).ok_or_else(|| {
            error(self.checkpoint, format!("{key} is null, and this class needs one"))
        })
    }

    /// The value of a boolean key.
    fn flag(&self, key: &str, default: bool) -> Result<bool, CheckpointError> {
        match self.checkpoint.tokenizer_config().get(key) {
            None => Ok(default),
            Some(Value::Bool(value)) => Ok(*value),
            Some(other) => {
                let problem = format!("{key} is {other}, not true or false");
                Err(error(self.checkpoint, problem))
            }
        }
    }

    /// As [`flag`](Self::flag); null is false.
    fn flag_or_null(&self, key: &str, default: bool) -> Result<bool, CheckpointError> {
        match self.checkpoint.tokenizer_config().get(key) {
            Some(Value::Null) => Ok(false),
            _ => self.flag(key, default),
        }
    }

    fn contradicted(&self, problem: &str) -> CheckpointError {
        let class = self.checkpoint.tokenizer_config()["tokenizer_class"].as_str();
        let class = class.or_else(|| self.checkpoint.text(&["tokenizer_class"]));
        let class = class.map_or_else(
            || format!("there is no tokenizer_class, which means {:?}'s own", self.class),
            |class| format!("tokenizer_class is {class}"),
        );
        let problem = format!(
            "{class}, but {problem}; set tokenizer_class to PreTrainedTokenizerFast, which takes \
             tokenizer.json as it is"
        );
        error(self.checkpoint, problem)
    }
}

/// SentencePiece's character table, the only part of a file's normalizer that its classes keep.
fn precompiled(normalizer: Option<&NormalizerWrapper>) -> Option<NormalizerWrapper> {
    let is_one = |part: &&NormalizerWrapper| matches!(part, NormalizerWrapper::Precompiled(_));
    match normalizer? {
        NormalizerWrapper::Sequence(all) => all.as_ref().iter().find(is_one).cloned(),
        one => Some(one).filter(is_one).cloned(),
    }
}
