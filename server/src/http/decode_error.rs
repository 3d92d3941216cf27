//! Why a body cannot be decoded.
//!
//! Must not know: codings, how bodies are read.

use std::fmt;

/// A body is larger as it is sent than it may be once it is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body is larger than allowed")]
pub struct TooLarge;

/// Why a body cannot be decoded.
#[derive(Debug)]
pub enum DecodeError {
    /// It broke off, or is larger than allowed.
    Body(axum::Error),
    /// It is not of its coding.
    Coding(&'static str, String),
    /// Encoded it is larger than it may be decoded.
    TooLarge(TooLarge),
    /// Whoever decoded it has panicked.
    Lost,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Body(error) => error.fmt(f),
            Self::Coding(coding, problem) => write!(f, "it is not valid {coding}: {problem}"),
            Self::TooLarge(error) => error.fmt(f),
            Self::Lost => f.write_str("it could not be decoded"),
        }
    }
}

impl std::error::Error for DecodeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::TooLarge(error) => Some(error),
            _ => None,
        }
    }
}
