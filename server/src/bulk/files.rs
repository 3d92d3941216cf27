//! Reads the files that records name: a command run locally may read them.
//!
//! Must not know: how records are read.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use proxima_models::{Input, MediaFile};

use super::read::Body;
use crate::dialects::items::Source;

/// The input of a record, with its files read.
///
/// # Errors
/// A file cannot be read.
pub fn input(body: Body, folder: &Path) -> Result<Input, String> {
    match body {
        Body::Text(text) => Ok(Input::Text(text)),
        Body::Item(item) => Ok(item.try_map(|source| file(source, folder))?.into()),
    }
}

fn file(source: Source, folder: &Path) -> Result<Arc<MediaFile>, String> {
    let bytes = match source {
        Source::Bytes(bytes) => bytes,
        Source::Written(path) => {
            // Joining an absolute path replaces the folder.
            let path = folder.join(path);
            fs::read(&path).map_err(|error| format!("{:.200}: {error}", path.display()))?
        }
    };
    Ok(Arc::new(MediaFile::new(bytes)))
}
