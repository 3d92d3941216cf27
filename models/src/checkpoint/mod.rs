//! Files on disk, read and validated.
//!
//! Must not know: the network, requests, devices.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a checkpoint could not be opened or loaded. Each says which file and what to do.
#[derive(Debug, Error)]
#[error("{path}: {problem}", path = path.display())]
pub struct CheckpointError {
    /// The file or folder.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
}

/// A checkpoint's files, opened but not yet made into a model.
#[derive(Debug)]
pub struct Checkpoint {
    #[allow(dead_code)]
    dir: PathBuf,
}

impl Checkpoint {
    /// Opens a folder in the Hugging Face layout.
    ///
    /// # Errors
    /// A file that is missing, damaged or contradicts another.
    pub fn open(dir: &Path) -> Result<Self, CheckpointError> {
        Ok(Self { dir: dir.to_owned() })
    }
}
