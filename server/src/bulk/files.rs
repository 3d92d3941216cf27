//! Reads the files that records name: a command run locally may read them.
//!
//! Must not know: how records are read.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use proxima_models::{Content, MediaFile};

use crate::dialects::items::Source;

/// The content of a record, with its files read.
///
/// # Errors
/// A file cannot be read.
pub fn read(content: Content<Source>, folder: &Path) -> Result<Content, String> {
    match content {
        Content::Text(text) => Ok(Content::Text(text)),
        Content::Item(item) => {
            Ok(Arc::unwrap_or_clone(item).try_map(|source| file(source, folder))?.into())
        }
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
