//! Why a body cannot be decoded.
//!
//! Must not know: codings, how bodies are read.

use std::fmt;

/// The body, still encoded, already exceeds the limit of a decoded body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body is larger than allowed")]
pub struct TooLarge;

/// Why a body cannot be decoded.
#[derive(Debug)]
pub enum DecodeError {
    /// It broke off, or exceeds a limit.
    Body(axum::Error),
    /// It is not valid in its coding.
    Coding(&'static str, String),
    /// Still encoded, it already exceeds the limit of a decoded body.
    TooLarge(TooLarge),
    /// The task that decoded it panicked.
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
