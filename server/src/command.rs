//! How commands end and where they write what they were asked for.
//!
//! Must not know: which commands there are.

use std::io::Write as _;

/// Exit code of wrong usage or configuration (`EX_USAGE`).
pub const EXIT_USAGE: u8 = 64;
/// Exit code of a command that failed.
pub const EXIT_FAILURE: u8 = 1;
/// Exit code of a server whose device failed for good (`EX_UNAVAILABLE`).
pub const EXIT_DEVICE: u8 = 69;

/// Why a command did not do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandError {
    /// A sentence.
    pub message: String,
    /// The exit code.
    pub code: u8,
}

impl CommandError {
    /// Something is wrong with how the command was asked.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: EXIT_USAGE }
    }

    /// A device failed for good while it was served from.
    pub fn device(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: EXIT_DEVICE }
    }

    /// The command was asked rightly and failed.
    pub fn failure(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: EXIT_FAILURE }
    }
}

/// Writes what a command was asked for to standard output.
///
/// # Errors
/// A standard output that does not take it.
pub fn write_out(text: &str) -> Result<(), CommandError> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| CommandError::failure(format!("standard output: {error}")))
}
