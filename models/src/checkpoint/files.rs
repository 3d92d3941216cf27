//! Opens a checkpoint's files: regular files within a size limit, at paths within its folder.
//!
//! Must not know: what is in a file.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use serde::de::DeserializeOwned;

use super::CheckpointError;

/// Maximum size in bytes of a configuration file. The largest published ones (labels of a
/// classifier) are a few MB.
pub const CONFIG_BYTES_MAX: u64 = 16 << 20;
/// Maximum size in bytes of `tokenizer.json`. The largest published ones are about 35 MB.
pub const TOKENIZER_BYTES_MAX: u64 = 512 << 20;
/// Maximum size in bytes of an index of shards.
pub const INDEX_BYTES_MAX: u64 = 64 << 20;
/// Maximum size in bytes of a safetensors file.
pub const WEIGHTS_BYTES_MAX: u64 = 1 << 42;
/// Maximum size in bytes of a PyTorch pickle file, which is read into memory.
pub const PICKLE_BYTES_MAX: u64 = 2 << 30;

/// A regular file of at most `bytes_max` bytes, opened for reading. Symbolic links are followed,
/// since the Hub's cache consists of them.
///
/// It is opened without blocking and checked afterwards, so that a named pipe or a device can
/// neither hang the start nor be read endlessly.
///
/// # Errors
/// A missing file, something other than a file, or a file that is larger.
pub fn open(path: &Path, bytes_max: u64) -> Result<File, CheckpointError> {
    let file = options().open(path).map_err(|error| unreadable(path, &error))?;
    let metadata = file.metadata().map_err(|error| unreadable(path, &error))?;
    if !metadata.is_file() {
        return Err(CheckpointError::new(path, "it is not a regular file"));
    }
    let bytes = metadata.len();
    if bytes > bytes_max {
        let problem = format!("its {bytes} bytes are more than the limit of {bytes_max}");
        return Err(CheckpointError::new(path, problem));
    }
    Ok(file)
}

/// The bytes of a file, opened with [`open`].
///
/// # Errors
/// As [`open`], and a Git LFS pointer.
pub fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, CheckpointError> {
    let file = open(path, bytes_max)?;
    let mut bytes = Vec::new();
    // The limit also holds for a file that grows while it is read.
    let read = file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|error| unreadable(path, &error))?;
    if bytes.len() as u64 > bytes_max {
        let problem = format!("it has more bytes than the limit of {bytes_max}");
        return Err(CheckpointError::new(path, problem));
    }
    check_fetched(path, &bytes)?;
    Ok(bytes)
}

/// The error for a file that Git LFS has not fetched.
const NOT_FETCHED: &str =
    "it is a Git LFS pointer, not the file itself: run `git lfs pull` in its repository";

/// Checks that these bytes are not a Git LFS pointer, which a clone without LFS has instead of a
/// file.
///
/// # Errors
/// If they are one.
pub fn check_fetched(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    // https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
    if bytes.starts_with(b"version https://git-lfs.github.com/spec/") {
        return Err(CheckpointError::new(path, NOT_FETCHED));
    }
    Ok(())
}

/// A JSON file of at most [`CONFIG_BYTES_MAX`] bytes.
///
/// # Errors
/// As [`open`], and unexpected JSON.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, CheckpointError> {
    parse(path, &read(path, CONFIG_BYTES_MAX)?)
}

/// A JSON file, or `None` if it is absent.
///
/// # Errors
/// As [`read_json`].
pub fn read_json_if_there<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, CheckpointError> {
    if is_there(path) { read_json(path).map(Some) } else { Ok(None) }
}

/// The JSON in a file's bytes.
///
/// # Errors
/// Unexpected JSON.
pub fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, CheckpointError> {
    serde_json::from_slice(bytes)
        .map_err(|error| CheckpointError::new(path, format!("not the expected JSON: {error}")))
}

/// Whether the path exists. A dangling link does, so that it is refused rather than treated as
/// absent.
pub fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// The path of a folder that is named in a file of the checkpoint, relative to the checkpoint's
/// folder.
///
/// # Errors
/// A path that is absolute or leaves the checkpoint's folder.
pub fn within(dir: &Path, named_in: &Path, path: &str) -> Result<PathBuf, CheckpointError> {
    let inside = Path::new(path)
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    // A backslash is a separator on other systems.
    if !inside || path.contains(['\\', '\0']) {
        let problem = format!("path {path:?} must be relative and without \"..\"");
        return Err(CheckpointError::new(named_in, problem));
    }
    Ok(dir.join(path))
}

#[cfg(unix)]
fn options() -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NONBLOCK);
    options
}

#[cfg(not(unix))]
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true);
    options
}

fn unreadable(path: &Path, error: &io::Error) -> CheckpointError {
    let problem = match error.kind() {
        io::ErrorKind::NotFound => "the file is missing".to_owned(),
        _ => format!("the file cannot be read: {error}"),
    };
    CheckpointError::new(path, problem)
}
