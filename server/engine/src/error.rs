//! What can go wrong with a request, whose fault it is and whether trying again helps.
//!
//! Must not know: status codes, wire formats.

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
    /// Something is wrong with one input.
    #[error("input {index}: {source}")]
    Input {
        /// Its place in the request, from 0.
        index: usize,
        /// What is wrong.
        source: InputError,
    },
    /// `dimensions` is zero or more than the model has.
    #[error("dimensions must be between 1 and {width}, not {asked}")]
    Dimensions {
        /// Asked for.
        asked: usize,
        /// Components the model has.
        width: usize,
    },
    /// The texts and files of the request are larger than those of all requests may be.
    #[error(
        "the request's texts and files have {bytes} bytes, more than the limit of {limit}; send \
         several requests"
    )]
    TooManyBytes {
        /// Bytes of all texts and files; a query's text counts once a document, a file once.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The images and videos of the request leave no room for others.
    #[error(
        "the request's images and videos have {bytes} bytes of pixels and more, too much of the \
         {limit} that may be held; send several requests"
    )]
    TooManyPixels {
        /// Bytes of pixels of those that were decoded.
        bytes: usize,
        /// Bytes of pixels that may be held in all.
        limit: usize,
    },
    /// Something is wrong with the document vectors sent.
    #[error("document vectors: {problem}")]
    DocumentVectors {
        /// What is wrong, and with which.
        problem: String,
    },
    /// A number that must be within bounds is not.
    #[error("{what} must be {}, not {asked}", between(*bounds))]
    OutOfBounds {
        /// What the number is.
        what: &'static str,
        /// As asked.
        asked: usize,
        /// The smallest and the largest.
        bounds: (usize, usize),
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
    /// The queue is full.
    #[error("the server is overloaded; try again in {} s", retry_after.as_secs())]
    Overloaded {
        /// 1 to 60 s, from the depth of the queue.
        retry_after: Duration,
    },
    /// The network gave a vector that is not finite for this input.
    #[error("input {index}: the model's output is not finite")]
    NotFinite {
        /// Its place in the request, from 0.
        index: usize,
    },
    /// The device or an operation failed, or the batch panicked.
    #[error("the model failed: {reason}")]
    Failed {
        /// What happened.
        reason: String,
    },
    /// The server is shutting down and takes nothing new.
    #[error("the server is shutting down")]
    ShuttingDown,
}

fn between((smallest, largest): (usize, usize)) -> String {
    match largest {
        usize::MAX => format!("at least {smallest}"),
        _ => format!("between {smallest} and {largest}"),
    }
}

fn others_can(able: &[String]) -> String {
    if able.is_empty() { String::new() } else { format!("; this server's {} can", able.join(", ")) }
}

/// Whose fault an error is, and with it whether trying again helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The request had nothing in it.
    Empty,
    /// The request breaks a rule or a limit; trying again does not help.
    Request,
    /// The text could not be tokenised; trying again does not help.
    Tokenizer,
    /// Too much load; trying again later helps.
    Load,
    /// The model or device failed; trying again may help.
    Model,
    /// The server goes away; trying another one helps.
    Shutdown,
}

impl EngineError {
    /// A model cannot do this.
    pub const fn unsupported(what: &'static str) -> Self {
        Self::Unsupported { what, able: Vec::new() }
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
            Self::NotFinite { .. } | Self::Failed { .. } => Fault::Model,
            Self::ShuttingDown => Fault::Shutdown,
        }
    }
}
