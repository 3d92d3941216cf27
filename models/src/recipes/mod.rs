//! How inputs become token sequences: prompts, special tokens, limits.
//!
//! Must not know: tensors, requests, wire formats.

mod chat;
mod chat_reranker;
mod chat_template;
mod cross_encoder;
mod e2rank;
mod fitted_list;
mod jina_reranker;
mod jinja;
mod known_prompts;
mod parts_reranker;
mod prompts;
mod qwen3_reranker;
mod qwen3_vl_embedding;
mod qwen3_vl_reranker;
mod text;
mod tokenizer;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::batch::Sequence;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::conventions::Conventions;
use crate::input::{Input, InputError, Prepare, Prompt};
use crate::item::Content;
use crate::task::Task;
use prompts::Prompts;
use proxima_media::MediaOptions;
use tokenizer::TextTokenizer;

pub(crate) use tokenizer::tokens_max;
pub use tokenizer::{SpecialTokens, TEXT_BYTES_MAX};

/// One token of a tokenised text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Id in the vocabulary.
    pub id: u32,
    /// The piece of text it stands for; for a special token, its name.
    pub text: String,
    /// Added by the template rather than found in the text.
    pub special: bool,
    /// Start of the piece in the text, in characters; `None` for special tokens.
    pub start: Option<usize>,
    /// End of the piece in the text, in characters; `None` for special tokens.
    pub stop: Option<usize>,
}

/// Returns whether the caller of an input has cancelled it.
pub type Cancelled<'a> = &'a dyn Fn() -> bool;

/// Texts to token ids and back.
pub trait Tokenize {
    /// The tokens of a text, untruncated.
    ///
    /// # Errors
    /// A text that is too large, or a failure of the tokenizer.
    fn tokens(&self, text: &str, special_tokens: bool) -> Result<Vec<Token>, InputError>;

    /// The text of token ids.
    ///
    /// # Errors
    /// An id outside the vocabulary, or a failure of the tokenizer.
    fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String, InputError>;

    /// The id of a token, if it is in the network's vocabulary.
    fn id_of(&self, token: &str) -> Option<u32>;

    /// Ids of special tokens other than the mask token; none of them stands for a word.
    fn special_ids(&self) -> Vec<u32>;
}

/// Which logits of a language head make a score, by words.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AnswerWords {
    /// The word for a document that fits.
    pub yes: &'static str,
    /// The word for one that does not, whose logit is subtracted.
    pub no: Option<&'static str>,
    /// What the difference is divided by.
    pub divisor: f32,
    /// Whether a word of several tokens stands for its first.
    pub first_token: bool,
}

impl Default for AnswerWords {
    fn default() -> Self {
        Self { yes: "yes", no: Some("no"), divisor: 1.0, first_token: false }
    }
}

/// Turns inputs into sequences. Called from several CPU threads at a time.
pub trait Recipe: Send + Sync {
    /// The tokenizer of its texts.
    fn tokenizer(&self) -> &dyn Tokenize;

    /// The prompts of its checkpoint; `None` for recipes that take none.
    fn own_prompts(&self) -> Option<&Prompts> {
        None
    }

    /// Prompts by name.
    fn prompts(&self) -> BTreeMap<String, String> {
        self.own_prompts().map(|prompts| prompts.named().clone()).unwrap_or_default()
    }

    /// The special tokens around one text, for recipes that embed bare texts; empty for others,
    /// including those that put a text into a chat.
    fn special_tokens(&self) -> SpecialTokens {
        SpecialTokens::default()
    }

    /// Which words of a language head make the score of a pair, unless the files say it.
    fn answers(&self) -> AnswerWords {
        AnswerWords::default()
    }

    /// Whether inputs may have images and videos.
    fn takes_media(&self) -> bool {
        false
    }

    /// Turns one input into the sequence that the network takes.
    ///
    /// # Errors
    /// Whatever is wrong with the input; see [`InputError`].
    fn prepare(&self, input: &Input, how: &Prepare) -> Result<Sequence, InputError>;

    /// How it splits the documents of a query into lists that it reads; `None` for recipes that
    /// read no lists.
    fn lists(&self) -> Option<&dyn SplitLists> {
        None
    }

    /// A short input, for health checks.
    fn check_input(&self) -> Input {
        CHECK_TEXT.into()
    }

    /// As [`prepare`](Self::prepare), for a caller who may cancel: slow recipes check `cancelled`
    /// between the parts of an input.
    ///
    /// # Errors
    /// As `prepare`, and [`InputError::Abandoned`].
    fn prepare_until(
        &self,
        input: &Input,
        how: &Prepare,
        _cancelled: Cancelled<'_>,
    ) -> Result<Sequence, InputError> {
        self.prepare(input, how)
    }

    /// A text with its prompt prepended, as `prepare` would tokenise it; in recipes for pairs, the
    /// text alone. With `special_tokens`, recipes that use a chat add the chat around the text.
    ///
    /// # Errors
    /// An unknown prompt.
    fn with_prompt(
        &self,
        text: &str,
        _special_tokens: bool,
        prompt: &Prompt,
    ) -> Result<String, InputError> {
        if let Some(prompts) = self.own_prompts() {
            prompts.resolve(prompt)?;
        }
        Ok(text.to_owned())
    }

    /// The tokens of a text [with its prompt](Self::with_prompt), untruncated.
    ///
    /// # Errors
    /// An unknown prompt or a tokenizer failure.
    fn tokenize(
        &self,
        text: &str,
        special_tokens: bool,
        prompt: &Prompt,
    ) -> Result<Vec<Token>, InputError> {
        let text = self.with_prompt(text, special_tokens, prompt)?;
        self.tokenizer().tokens(&text, special_tokens)
    }
}

/// Splits documents into lists, each of which is read together with the query.
pub trait SplitLists {
    /// The number of tokens of a query, within its own limit.
    ///
    /// # Errors
    /// A text that is too large or may not be cut, or a failure of the tokenizer.
    fn query_tokens(&self, query: &str, how: &Prepare) -> Result<usize, InputError>;

    /// The same for a document.
    ///
    /// # Errors
    /// As `query_tokens`.
    fn document_tokens(&self, document: &str, how: &Prepare) -> Result<usize, InputError>;

    /// The number of tokens of a list without documents: the template with its query and
    /// instruction.
    ///
    /// # Errors
    /// As `query_tokens`.
    fn template_tokens(&self, query: &str, how: &Prepare) -> Result<usize, InputError>;

    /// Numbers of documents in each list.
    fn split(&self, tokens: &ListTokens<'_>, how: &Prepare) -> Vec<usize>;
}

/// Numbers of tokens that decide how documents are split into lists.
#[derive(Debug, Clone, Copy)]
pub struct ListTokens<'a> {
    /// Of the query.
    pub query: usize,
    /// Of a list without documents.
    pub template: usize,
    /// Of each document.
    pub documents: &'a [usize],
}

/// The text of a health check.
const CHECK_TEXT: &str = "health";

/// A pair of it, for recipes that take no single texts.
fn check_pair() -> Input {
    let text = || Content::Text(CHECK_TEXT.into());
    Input::Pair { query: text(), document: text() }
}

/// The error of text-only recipes for inputs with media.
const TEXTS_ONLY: InputError =
    InputError::Kind("takes one text per input; images and videos are for Qwen3-VL models");

/// Their error for an item without parts.
const NO_TEXT: InputError =
    InputError::Kind("needs a text, and the input has none; an object needs a string `text`");

/// The text of a query or document, for text-only recipes.
fn text_of(content: &Content) -> Result<Arc<str>, InputError> {
    match content.title() {
        Some(_) => Err(InputError::NoTitle),
        None => text_below_title(content),
    }
}

/// The text of an input, for recipes that take its title apart.
fn text_below_title(content: &Content) -> Result<Arc<str>, InputError> {
    match content {
        Content::Text(text) => Ok(text.clone()),
        Content::Item(item) => {
            item.text().ok_or(if item.parts.is_empty() { NO_TEXT } else { TEXTS_ONLY })
        }
    }
}

/// How to prepare a pair: the query's own instruction overrides the request's. The document may
/// have none, since the template has a single slot for an instruction.
fn prepare_pair(query: &Content, document: &Content, how: &Prepare) -> Result<Prepare, InputError> {
    if document.instruction().is_some() {
        return Err(InputError::DocumentInstruction);
    }
    Ok(how.of(query).into_owned())
}

/// Prepares an input for recipes that take nothing but pairs, which `pair` writes.
fn prepare_only_pairs(
    tokenizer: &TextTokenizer,
    input: &Input,
    how: &Prepare,
    pair: impl FnOnce(&str, &str, &Prepare) -> Result<Sequence, InputError>,
) -> Result<Sequence, InputError> {
    match input {
        Input::Pair { query, document } => {
            let how = prepare_pair(query, document, how)?;
            pair(&text_of(query)?, &text_of(document)?, &how)
        }
        Input::Tokens(ids) => tokenizer.given(ids, how),
        Input::Content(_) => Err(InputError::Kind("scores pairs, not single texts")),
        Input::Listwise { .. } => Err(InputError::Kind("scores pairs, not lists")),
    }
}

/// A kind of recipe.
pub struct RecipeKind {
    /// Its name.
    pub name: &'static str,
    /// Whether it is the recipe for a checkpoint with this task.
    pub fits: fn(&Checkpoint, Task) -> bool,
    /// Longest sequence in tokens, if the model's published code limits it below the network's
    /// positions.
    pub tokens_max: Option<usize>,
    /// Makes the recipe.
    pub load: Load,
}

/// Makes a recipe for a checkpoint; the options are for recipes that take images and videos.
pub type Load =
    fn(&Checkpoint, &NetworkTraits, &MediaOptions) -> Result<Box<dyn Recipe>, CheckpointError>;

/// Properties of the network and its type that a recipe needs.
#[derive(Debug, Clone, Copy)]
pub struct NetworkTraits {
    /// Longest sequence in tokens.
    pub tokens_max: usize,
    /// Tokens in the vocabulary.
    pub vocabulary: usize,
    /// Number of token types, the second of which marks the second text; 0 if there are none.
    pub token_types: usize,
    /// What the published code does around the network.
    pub conventions: Conventions,
}

/// All recipes; the first that fits is used.
pub fn all() -> Vec<RecipeKind> {
    vec![
        qwen3_vl_embedding::kind(),
        qwen3_vl_reranker::kind(),
        text::kind(),
        e2rank::kind(),
        jina_reranker::kind(),
        parts_reranker::kind(),
        chat_reranker::kind(),
        qwen3_reranker::kind(),
        cross_encoder::kind(),
    ]
}

#[cfg(test)]
mod tests;
