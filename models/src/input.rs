//! What a caller hands to a [`Recipe`](crate::recipes::Recipe): one input and how to prepare it,
//! and what can be wrong with it.
//!
//! Must not know: wire formats, tensors.

use std::sync::Arc;

use thiserror::Error;

use crate::item::{Content, Item};
use proxima_media::{MediaError, MediaFile};

/// One input as the caller sent it.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Text, to be given its prompt, tokenised and wrapped in the checkpoint's special tokens.
    Text(String),
    /// Token ids, taken as they are: no prompt and no special tokens are added.
    Tokens(Vec<u32>),
    /// Texts, images and videos, to be given their prompt and wrapped as the model is used to.
    Item(Arc<Item>),
    /// A query and a document, to be scored together.
    Pair {
        /// The query, or the first of two texts.
        query: Content,
        /// The document, or the second of two texts.
        document: Content,
    },
    /// A query and some candidates, to be embedded as one pseudo-query (E2Rank).
    Listwise {
        /// The query.
        query: Arc<str>,
        /// The candidates, in order.
        candidates: Vec<Arc<str>>,
        /// How they are put together.
        template: ListwiseTemplate,
    },
}

impl Input {
    /// Its image and video files.
    pub fn files(&self) -> Vec<&Arc<MediaFile>> {
        match self {
            Self::Text(_) | Self::Tokens(_) | Self::Listwise { .. } => Vec::new(),
            Self::Item(item) => item.files().collect(),
            Self::Pair { query, document } => query.files().chain(document.files()).collect(),
        }
    }

    /// Bytes of its texts or ids.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Tokens(ids) => size_of_val(&ids[..]),
            Self::Item(item) => item.bytes(),
            Self::Pair { query, document } => query.bytes() + document.bytes(),
            Self::Listwise { query, candidates, .. } => {
                query.len() + candidates.iter().map(|text| text.len()).sum::<usize>()
            }
        }
    }

    /// Whether it has an image or a video.
    pub fn has_media(&self) -> bool {
        match self {
            Self::Text(_) | Self::Tokens(_) | Self::Listwise { .. } => false,
            Self::Item(item) => item.has_media(),
            Self::Pair { query, document } => query.has_media() || document.has_media(),
        }
    }

    /// Characters of its texts; 0 for ids.
    pub fn characters(&self) -> usize {
        let count = |text: &str| text.chars().count();
        match self {
            Self::Text(text) => count(text),
            Self::Tokens(_) => 0,
            Self::Item(item) => item.characters(),
            Self::Pair { query, document } => query.characters() + document.characters(),
            Self::Listwise { query, candidates, .. } => {
                count(query) + candidates.iter().map(|text| count(text)).sum::<usize>()
            }
        }
    }
}

/// How a query and candidates become a pseudo-query.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum ListwiseTemplate {
    /// As the published evaluation does.
    #[default]
    Paper,
    /// As the usage example of the project's page does.
    Readme,
    /// As the training data has it.
    Training,
    /// A text with `{instruction}`, `{documents}` and `{query}` in it, special tokens included;
    /// documents are numbered lines.
    Given(String),
}

/// The text put before an input.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Prompt {
    /// The checkpoint's `default_prompt_name`, or nothing where it names none.
    #[default]
    Default,
    /// Nothing.
    None,
    /// A prompt of the checkpoint's `config_sentence_transformers.json`, by name.
    Named(String),
    /// The first of these prompts that the checkpoint defines, else as [`Prompt::Default`]: what
    /// callers mean who say what a text is for without knowing the checkpoint.
    FirstOf(Vec<String>),
    /// A free instruction, set into the checkpoint's instruction template
    /// (`Instruct: {instruction}\nQuery:` for the Qwen3 family, else the instruction itself as
    /// prefix). An empty instruction is no prompt.
    Instruction(String),
}

impl Prompt {
    /// Bytes that it brings to each input. Prompts of the checkpoint have a few.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Instruction(text) => text.len(),
            Self::Default | Self::None | Self::Named(_) | Self::FirstOf(_) => 0,
        }
    }

    /// The prompt of queries.
    pub fn query() -> Self {
        Self::first_of(&["query", "search_query", "retrieval.query"])
    }

    /// The prompt of documents.
    pub fn document() -> Self {
        Self::first_of(&["document", "passage", "search_document", "retrieval.passage"])
    }

    /// See [`Prompt::FirstOf`].
    pub fn first_of(names: &[&str]) -> Self {
        Self::FirstOf(names.iter().map(|name| (*name).to_owned()).collect())
    }
}

/// Which end of a too long input is cut off. Special tokens are always kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TruncationSide {
    /// As the checkpoint's `truncation_side` says; the end, if it says nothing.
    #[default]
    Own,
    /// Cut the end.
    Right,
    /// Cut the beginning.
    Left,
}

/// How one input becomes a [`Sequence`](crate::Sequence).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Prepare {
    /// The prompt put before a text.
    pub prompt: Prompt,
    /// Cut an input longer than the limit (`true`) or refuse it (`false`).
    pub truncate: bool,
    /// Which end is cut.
    pub side: TruncationSide,
    /// A limit in tokens below the model's own, special tokens included.
    pub tokens_max: Option<usize>,
    /// Tokens of a document that are used, whatever room there is.
    pub document_tokens_max: Option<usize>,
    /// Tokens of a query that are used beside a document.
    pub query_tokens_max: Option<usize>,
}

impl Prepare {
    /// How an item is prepared: its own instruction goes before the request's.
    pub fn for_item(&self, item: &Item) -> Self {
        let own = item.instruction.clone().map(Prompt::Instruction);
        Self { prompt: own.unwrap_or_else(|| self.prompt.clone()), ..self.clone() }
    }
}

impl Default for Prepare {
    fn default() -> Self {
        Self {
            prompt: Prompt::Default,
            truncate: true,
            side: TruncationSide::Own,
            tokens_max: None,
            document_tokens_max: None,
            query_tokens_max: None,
        }
    }
}

/// What is wrong with one input. Always the caller's fault; sending it again does not help.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InputError {
    /// Longer than the limit, and truncation was not asked for.
    #[error(
        "the input has {tokens} tokens, more than the limit of {limit}; shorten it or ask for truncation"
    )]
    TooLong {
        /// Tokens of the input, special tokens included.
        tokens: usize,
        /// The limit in tokens.
        limit: usize,
    },
    /// The query leaves no room for any of its candidates.
    #[error(
        "the query and what is put around it leave no room for documents in {limit} tokens; \
         shorten the query or send fewer candidates"
    )]
    QueryTooLong {
        /// The limit in tokens.
        limit: usize,
    },
    /// The text is larger than a text may be, whatever its tokens.
    #[error("the input has {bytes} bytes, more than the limit of {limit}")]
    TooManyBytes {
        /// Bytes of the text.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The text is larger than a text may be once the tokenizer has normalised it.
    #[error(
        "the tokenizer makes more than {limit} characters of the input, as some stand for many; \
         send less at a time"
    )]
    TooManyCharacters {
        /// The limit in characters.
        limit: usize,
    },
    /// An empty list of token ids.
    #[error("the input has no tokens")]
    NoTokens,
    /// A token id that the model has no embedding for.
    #[error("token id {id} is outside the vocabulary of {vocabulary} tokens")]
    UnknownToken {
        /// The id sent.
        id: u32,
        /// Number of tokens the model knows.
        vocabulary: usize,
    },
    /// A prompt name that the checkpoint does not define.
    #[error("unknown prompt name {name:?}; {}", known_prompts(known))]
    UnknownPrompt {
        /// The name sent.
        name: String,
        /// The names the checkpoint defines, sorted.
        known: Vec<String>,
    },
    /// The prompt alone fills the limit, so nothing of the input would be left.
    #[error("the limit of {limit} tokens leaves no room for the input beside its special tokens")]
    LimitTooSmall {
        /// The limit in tokens.
        limit: usize,
    },
    /// The model takes no instruction, and one was sent.
    #[error("this model takes no instruction; send the query alone")]
    NoInstruction,
    /// The model takes an instruction with a query, and one was sent with a document.
    #[error("an instruction goes with the query here, not with a document")]
    DocumentInstruction,
    /// The model does not take this kind of input.
    #[error("this model {0}")]
    Kind(&'static str),
    /// A template without a place for what it is to hold.
    #[error("the template has no {0}; it must hold {{documents}} and {{query}}")]
    Template(&'static str),
    /// Images, videos and special tokens alone are longer than the limit.
    #[error(
        "images, videos and what is put around them have {tokens} tokens, more than the limit of \
         {limit}; send fewer or smaller ones"
    )]
    MediaTooLong {
        /// Tokens that cannot be cut.
        tokens: usize,
        /// The limit in tokens.
        limit: usize,
    },
    /// An image or a video that cannot be used.
    #[error("{kind} {index} of the input: {source}")]
    Media {
        /// An image or a video.
        kind: &'static str,
        /// Its place among the images or videos of the input.
        index: usize,
        /// What is wrong with it.
        source: MediaError,
    },
    /// Its caller left while it was prepared.
    #[error("nobody waits for the input any longer")]
    Abandoned,
    /// The tokenizer failed.
    #[error("the input could not be tokenised: {0}")]
    Tokenizer(String),
}

fn known_prompts(known: &[String]) -> String {
    if known.is_empty() {
        "this model defines no prompts".to_owned()
    } else {
        format!("this model defines: {}", known.join(", "))
    }
}
