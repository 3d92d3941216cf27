//! Why requests fail, whose fault it is, and whether a retry helps.
//!
//! Must not know: status codes, wire formats.

use std::ops::RangeInclusive;
use std::time::Duration;

use proxima_models::InputError;
use thiserror::Error;

/// Why a request was not answered.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum EngineError {
    /// No inputs.
    #[error("the list of inputs is empty")]
    Empty,
    /// More inputs than one request may have.
    #[error("{count} inputs in one request, more than the limit of {limit}; send several requests")]
    TooManyInputs {
        /// Inputs sent.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// One input is invalid or could not be prepared.
    #[error("input {index}: {source}")]
    Input {
        /// Its index in the request, from 0.
        index: usize,
        /// What is wrong.
        source: InputError,
    },
    /// Preparing an input panicked.
    #[error("input {index}: preparing it failed because of an internal error")]
    Panicked {
        /// Its index in the request, from 0.
        index: usize,
    },
    /// `dimensions` is zero or more than the model has.
    #[error("dimensions must be between 1 and {width}, not {asked}")]
    Dimensions {
        /// The value requested.
        asked: usize,
        /// Width of the model's vectors.
        width: usize,
    },
    /// The texts and files of the request exceed the budget of all requests together.
    #[error(
        "the request's texts and files have {bytes} bytes, more than the limit of {limit}; send \
         several requests"
    )]
    TooManyBytes {
        /// Bytes of all texts and files. A query's text counts once per document, a file once.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The images and videos of the request take more than half of the pixel budget of all
    /// requests.
    #[error(
        "the request's images and videos decode to at least {bytes} bytes, more than half of the \
         {limit} that all requests share; send several requests"
    )]
    TooManyPixels {
        /// Bytes of pixels that were decoded.
        bytes: usize,
        /// Maximum bytes of pixels held at once, over all requests.
        limit: usize,
    },
    /// The document vectors sent are invalid.
    #[error("vectors of documents: {problem}")]
    DocumentVectors {
        /// What is wrong, and with which vector.
        problem: String,
    },
    /// A number is out of bounds.
    #[error("{what} must be {}, not {asked}", between(bounds))]
    OutOfBounds {
        /// What the number is.
        what: &'static str,
        /// The value requested.
        asked: usize,
        /// The smallest and largest value allowed.
        bounds: RangeInclusive<usize>,
    },
    /// The model cannot do what was asked.
    #[error("this model cannot {what}{}", others_can(able))]
    Unsupported {
        /// What was asked, as a verb phrase.
        what: &'static str,
        /// Other models of the server that can.
        able: Vec<String>,
    },
    /// The request has more tokens than the whole queue may hold.
    #[error(
        "the request has {tokens} tokens, more than the queue's limit of {limit}; send several requests"
    )]
    RequestTooLarge {
        /// Tokens of all inputs.
        tokens: usize,
        /// The limit in tokens.
        limit: usize,
    },
    /// The queue or a memory budget is full, or the wait is too long.
    #[error("the server is overloaded; try again in {} s", retry_after.as_secs())]
    Overloaded {
        /// When to retry, 1 to 60 s: estimated from the queue, or 1 s if a memory budget is full.
        retry_after: Duration,
    },
    /// The model's output for this input is not finite.
    #[error("input {index}: the model's output is not finite")]
    NotFinite {
        /// Its index in the request, from 0.
        index: usize,
    },
    /// The device or an operation failed, or the batch panicked.
    #[error("the model failed: {reason}")]
    Failed {
        /// What happened.
        reason: String,
    },
    /// The server is shutting down and accepts no requests.
    #[error("the server is shutting down")]
    ShuttingDown,
}

fn between(bounds: &RangeInclusive<usize>) -> String {
    match (bounds.start(), bounds.end()) {
        (smallest, &usize::MAX) => format!("at least {smallest}"),
        (smallest, largest) => format!("between {smallest} and {largest}"),
    }
}

fn others_can(able: &[String]) -> String {
    if able.is_empty() { String::new() } else { format!("; models that can: {}", able.join(", ")) }
}

/// Whose fault an error is, and thus whether a retry helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The request was empty.
    Empty,
    /// The request breaks a rule or a limit; a retry does not help.
    Request,
    /// The text could not be tokenised; a retry does not help.
    Tokenizer,
    /// Too much load; a later retry helps.
    Load,
    /// The server has a bug; a retry does not help.
    Bug,
    /// The model or device failed; a retry may help.
    Model,
    /// The server is shutting down; a retry on another one helps.
    Shutdown,
}

impl EngineError {
    /// The error for what a model cannot do.
    pub const fn unsupported(what: &'static str) -> Self {
        Self::Unsupported { what, able: Vec::new() }
    }

    /// The same error with the index of the input that it is about changed.
    pub(crate) fn at(self, index_of: impl Fn(usize) -> usize) -> Self {
        match self {
            Self::Input { index, source } => Self::Input { index: index_of(index), source },
            Self::Panicked { index } => Self::Panicked { index: index_of(index) },
            Self::NotFinite { index } => Self::NotFinite { index: index_of(index) },
            other => other,
        }
    }

    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Empty => Fault::Empty,
            Self::Input { source: InputError::Tokenizer(_), .. } => Fault::Tokenizer,
            Self::TooManyInputs { .. }
            | Self::Input { .. }
            | Self::Dimensions { .. }
            | Self::TooManyBytes { .. }
            | Self::TooManyPixels { .. }
            | Self::DocumentVectors { .. }
            | Self::OutOfBounds { .. }
            | Self::Unsupported { .. }
            | Self::RequestTooLarge { .. } => Fault::Request,
            Self::Overloaded { .. } => Fault::Load,
            Self::Panicked { .. } => Fault::Bug,
            Self::NotFinite { .. } | Self::Failed { .. } => Fault::Model,
            Self::ShuttingDown => Fault::Shutdown,
        }
    }
}
