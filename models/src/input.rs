//! What a caller passes to a [`Recipe`](crate::recipes::Recipe): one input, how to prepare it, and
//! what can be wrong with it.
//!
//! Must not know: wire formats, tensors.

use std::borrow::Cow;
use std::sync::Arc;

use thiserror::Error;

use crate::item::{Content, Part};
use proxima_media::{MediaError, MediaFile};

/// One input as the caller sent it.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// A text, to which the prompt and the checkpoint's special tokens are added; or texts, images
    /// and videos, put into the model's template with their prompt.
    Content(Content),
    /// Token ids, used as they are: no prompt and no special tokens are added.
    Tokens(Vec<u32>),
    /// A query and a document, scored together.
    Pair {
        /// The query, or the first of two texts.
        query: Content,
        /// The document, or the second of two texts.
        document: Content,
    },
    /// A query and its candidates, embedded as one pseudo-query (E2Rank).
    Listwise {
        /// The query.
        query: Arc<str>,
        /// The candidates, in order.
        candidates: Vec<Arc<str>>,
        /// How they are combined.
        template: ListwiseTemplate,
    },
}

impl<C: Into<Content>> From<C> for Input {
    fn from(content: C) -> Self {
        Self::Content(content.into())
    }
}

impl Input {
    /// Its image and video files.
    pub fn files(&self) -> Vec<&Arc<MediaFile>> {
        match self {
            Self::Tokens(_) | Self::Listwise { .. } => Vec::new(),
            Self::Content(content) => content.files().collect(),
            Self::Pair { query, document } => query.files().chain(document.files()).collect(),
        }
    }

    /// The parts of a multi-part input, in order; none of any other.
    pub fn parts(&self) -> &[Part] {
        match self {
            Self::Content(content) => content.parts(),
            _ => &[],
        }
    }

    /// Size of its texts or ids in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Content(content) => content.bytes(),
            Self::Tokens(ids) => size_of_val(&ids[..]),
            Self::Pair { query, document } => query.bytes() + document.bytes(),
            Self::Listwise { query, candidates, .. } => {
                query.len() + candidates.iter().map(|text| text.len()).sum::<usize>()
            }
        }
    }

    /// Whether it has an image or a video.
    pub fn has_media(&self) -> bool {
        match self {
            Self::Tokens(_) | Self::Listwise { .. } => false,
            Self::Content(content) => content.has_media(),
            Self::Pair { query, document } => query.has_media() || document.has_media(),
        }
    }

    /// Characters of its texts; 0 for token ids.
    pub fn characters(&self) -> usize {
        let count = |text: &str| text.chars().count();
        match self {
            Self::Content(content) => content.characters(),
            Self::Tokens(_) => 0,
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
    /// As in the published evaluation.
    #[default]
    Paper,
    /// As in the usage example of the project's README.
    Readme,
    /// As in the training data.
    Training,
    /// A custom template with `{documents}`, `{query}` and optionally `{instruction}`, special
    /// tokens included; documents are numbered lines.
    Given(String),
}

/// Names of the same purpose, in APIs (`input_type`, `task`) and in the prompts of checkpoints.
const PURPOSES: [&[&str]; 5] = [
    &[
        "query",
        "search_query",
        "retrieval.query",
        "retrieval_query",
        "Retrieval-query",
        "s2p_query",
        "web_search_query",
    ],
    &[
        "document",
        "passage",
        "search_document",
        "retrieval.passage",
        "retrieval_document",
        "Retrieval-document",
        "corpus",
    ],
    &["classification", "Classification"],
    &["clustering", "Clustering", "separation"],
    &["text-matching", "similarity", "semantic_similarity", "sts", "STS", "s2s_query"],
];

/// The text prepended to an input.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Prompt {
    /// The checkpoint's `default_prompt_name`; no prompt if it is not set.
    #[default]
    Default,
    /// No prompt.
    None,
    /// A prompt from the checkpoint's `config_sentence_transformers.json`, by name.
    Named(String),
    /// The first of these prompts that the checkpoint defines, else [`Prompt::Default`]: for
    /// callers that know what a text is for but not the checkpoint.
    FirstOf(Vec<String>),
    /// A free instruction, put into the template of the checkpoint's own `Instruct:` prompts; if it
    /// has none, into `Instruct: {instruction}\nQuery:` for Qwen3, and as a bare prefix for other
    /// models. An empty instruction means no prompt.
    Instruction(String),
}

impl Prompt {
    /// Bytes it adds to each input; 0 for the checkpoint's own prompts, which are short.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Instruction(text) => text.len(),
            Self::Default | Self::None | Self::Named(_) | Self::FirstOf(_) => 0,
        }
    }

    /// The prompt for queries.
    pub fn query() -> Self {
        Self::for_purpose("query")
    }

    /// The prompt for documents.
    pub fn document() -> Self {
        Self::for_purpose("document")
    }

    /// The prompt for what texts are for, in the terms of any API or checkpoint; a term that is not
    /// known is tried as a prompt's name.
    pub fn for_purpose(purpose: &str) -> Self {
        let known = PURPOSES.iter().find(|names| names.contains(&purpose));
        let names = known.map_or_else(
            || vec![purpose.to_owned()],
            |names| {
                // The very name that was asked for comes first.
                let others = names.iter().filter(|name| **name != purpose);
                std::iter::once(&purpose).chain(others).map(|name| (*name).to_owned()).collect()
            },
        );
        Self::FirstOf(names)
    }
}

/// Which end of an overlong input is cut off. Special tokens are always kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TruncationSide {
    /// The checkpoint's `truncation_side`; the end if it is not set.
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
    /// The prompt prepended to a text.
    pub prompt: Prompt,
    /// Cut an overlong input (`true`) or refuse it (`false`).
    pub truncate: bool,
    /// Which end is cut.
    pub side: TruncationSide,
    /// A limit in tokens below the model's own, special tokens included.
    pub tokens_max: Option<usize>,
    /// Maximum number of tokens of a document, even if more would fit.
    pub document_tokens_max: Option<usize>,
    /// Maximum number of tokens of a query that is paired with documents.
    pub query_tokens_max: Option<usize>,
}

impl Prepare {
    /// How a content is prepared: its own instruction overrides the request's.
    pub fn of(&self, content: &Content) -> Cow<'_, Self> {
        match content.instruction() {
            None => Cow::Borrowed(self),
            Some(own) => {
                let prompt = Prompt::Instruction(own.to_owned());
                Cow::Owned(Self { prompt, ..self.clone() })
            }
        }
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

/// Why an input was refused.
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
    /// The query leaves no room for any candidate.
    #[error(
        "the query and its template leave no room for documents in {limit} tokens; shorten the \
         query or send fewer candidates"
    )]
    QueryTooLong {
        /// The limit in tokens.
        limit: usize,
    },
    /// The text exceeds the size limit, whatever its number of tokens.
    #[error("the input has {bytes} bytes, more than the limit of {limit}")]
    TooManyBytes {
        /// Bytes of the text.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The text exceeds the size limit once the tokenizer has normalised it.
    #[error("the tokenizer expands the input to more than {limit} characters; send less at a time")]
    TooManyCharacters {
        /// The limit in characters.
        limit: usize,
    },
    /// An empty list of token ids.
    #[error("the input has no tokens")]
    NoTokens,
    /// A token id outside the model's vocabulary.
    #[error("token id {id} is outside the vocabulary of {vocabulary} tokens")]
    UnknownToken {
        /// The id sent.
        id: u32,
        /// Size of the model's vocabulary.
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
    /// The special tokens alone fill the limit, so nothing of the input would be left.
    #[error("the limit of {limit} tokens leaves no room for the input beside its special tokens")]
    LimitTooSmall {
        /// The limit in tokens.
        limit: usize,
    },
    /// An instruction was sent to a model that takes none.
    #[error("this model takes no instruction; send only the query")]
    NoInstruction,
    /// An instruction was sent with a document; the model takes it with the query.
    #[error("an instruction goes with the query here, not with a document")]
    DocumentInstruction,
    /// A title was sent where the prompt has no room for one.
    #[error(
        "a title goes into the prompt for documents of a model such as EmbeddingGemma (with \
         input_type document), and here there is none; put it before the text"
    )]
    NoTitle,
    /// The model does not take this kind of input.
    #[error("this model {0}")]
    Kind(&'static str),
    /// A template that lacks a placeholder.
    #[error("the template has no {0}; it must hold {{documents}} and {{query}}")]
    Template(&'static str),
    /// Images, videos and special tokens alone exceed the limit.
    #[error(
        "images, videos and their template have {tokens} tokens, more than the limit of {limit}; \
         send fewer or smaller ones"
    )]
    MediaTooLong {
        /// Tokens that cannot be cut.
        tokens: usize,
        /// The limit in tokens.
        limit: usize,
    },
    /// An image or video that cannot be used.
    #[error("{kind} {index} of the input: {source}")]
    Media {
        /// `image` or `video`.
        kind: &'static str,
        /// Its index among the images or videos of the input.
        index: usize,
        /// What is wrong with it.
        source: MediaError,
    },
    /// The caller left while the input was being prepared.
    #[error("the request was cancelled")]
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
