//! Seeded random checkpoints of published configurations, in the published layout.
//!
//! Must not know: the network, the clock.

use std::path::{Path, PathBuf};

use crate::checkpoint::CheckpointError;

/// The names [`write`] knows, in the order shown to users.
pub fn names() -> Vec<&'static str> {
    vec![
        "qwen3-embedding-0.6b",
        "qwen3-embedding-4b",
        "qwen3-embedding-8b",
        "tiny-qwen3",
        "tiny-bert",
    ]
}

/// How to make a random checkpoint.
#[derive(Debug, Clone)]
pub struct SynthOptions {
    /// Same seed, same bytes.
    pub seed: u64,
    /// A `tokenizer.json` (or a folder with one) to copy; `None` makes a byte-level tokenizer (Qwen3)
    /// or a small WordPiece one (BERT).
    pub tokenizer: Option<PathBuf>,
}

/// Writes the checkpoint `name` into `dir`, which is made if needed and must be empty.
///
/// # Errors
/// An unknown name, a tokenizer that cannot be read, a folder that is not empty, or a failed write.
pub fn write(name: &str, dir: &Path, options: &SynthOptions) -> Result<(), CheckpointError> {
    let _ = (name, options);
    Err(CheckpointError { path: dir.to_owned(), problem: "not written yet".into() })
}
