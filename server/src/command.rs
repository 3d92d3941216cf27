//! How commands end, and how they write their output.
//!
//! Must not know: which commands there are.

use std::io::Write as _;

/// Exit code of wrong usage or configuration (`EX_USAGE`).
pub const EXIT_USAGE: u8 = 64;
/// Exit code of a command that failed.
pub const EXIT_FAILURE: u8 = 1;
/// Exit code of a server whose device failed for good (`EX_UNAVAILABLE`).
pub const EXIT_DEVICE: u8 = 69;

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandError {
    /// The reason, as a sentence.
    pub message: String,
    /// The exit code.
    pub code: u8,
}

impl CommandError {
    /// Wrong usage or configuration.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: EXIT_USAGE }
    }

    /// A device failed for good while it was serving.
    pub fn device(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: EXIT_DEVICE }
    }

    /// The command was used correctly but failed.
    pub fn failure(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: EXIT_FAILURE }
    }
}

/// Writes a command's output to standard output.
///
/// # Errors
/// If standard output cannot be written.
pub fn write_out(text: &str) -> Result<(), CommandError> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| CommandError::failure(format!("standard output: {error}")))
}
