//! Starts the engine's threads, with a helpful error if the system cannot.
//!
//! Must not know: what they do.

use std::io;
use std::thread::Builder;

use thiserror::Error;

/// The system cannot start a thread.
#[derive(Debug, Error)]
#[error(
    "cannot start a thread for the engine ({source}): raise the limits on processes (`ulimit -u`, \
     the pids limit of a container) and memory"
)]
pub struct NoThread {
    source: io::Error,
}

/// Starts a thread.
///
/// # Errors
/// If the system cannot start one.
pub fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> Result<(), NoThread> {
    spawn_as(Builder::new().name(name), work)
}

fn spawn_as(builder: Builder, work: impl FnOnce() + Send + 'static) -> Result<(), NoThread> {
    builder.spawn(work).map(drop).map_err(|source| NoThread { source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_cannot_be_started_is_an_error_with_a_sentence() {
        // No machine has this much memory for a stack.
        let builder = Builder::new().stack_size(1 << 60);
        let error = spawn_as(builder, || {}).expect_err("no memory").to_string();
        assert!(error.starts_with("cannot start a thread for the engine ("), "{error}");
        assert!(error.contains("ulimit -u"), "{error}");
    }
}
