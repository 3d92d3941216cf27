//! Lists cached models with their sizes, and removes them.
//!
//! Must not know: the network.

use std::fs;
use std::path::Path;

use super::HubError;
use super::cache::{RepoCache, SnapshotState};

/// A cached model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its id.
    pub id: String,
    /// Bytes of its files, including partial ones.
    pub bytes: u64,
    /// The known branches and tags, each with the number of missing files.
    pub revisions: Vec<Revision>,
}

/// A branch or tag of a cached model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// Its name.
    pub name: String,
    /// The number of missing files of its checkpoint.
    pub lacks: usize,
}

/// The models of a cache, sorted by id. A cache that does not exist has none.
///
/// # Errors
/// A cache that cannot be read.
pub fn stored(cache: &Path) -> Result<Vec<Stored>, HubError> {
    let entries = match fs::read_dir(cache) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(HubError::cache(cache)(error)),
    };
    let mut models = Vec::new();
    for entry in entries {
        let entry = entry.map_err(HubError::cache(cache))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(name) = name.strip_prefix("models--") else { continue };
        // Names of owners contain no double dash.
        let id = name.replacen("--", "/", 1);
        models.push(Stored {
            bytes: bytes(&entry.path()),
            revisions: revisions(&entry.path(), &RepoCache::new(cache, &id)),
            id,
        });
    }
    models.sort_by(|one, other| one.id.cmp(&other.id));
    Ok(models)
}

/// Removes everything cached of a model, and returns whether there was anything.
///
/// # Errors
/// A cache that cannot be written.
pub fn remove(cache: &Path, id: &str) -> Result<bool, HubError> {
    RepoCache::new(cache, id).remove()
}

/// Bytes of the files in a folder. Targets of links are counted where they are.
fn bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(data) if data.is_dir() => bytes(&entry.path()),
        Ok(data) if data.is_file() => data.len(),
        _ => 0,
    });
    sizes.sum()
}

fn revisions(folder: &Path, cache: &RepoCache) -> Vec<Revision> {
    let mut names = Vec::new();
    names_below(&folder.join("refs"), "", &mut names);
    names.sort();
    let revisions = names.into_iter().filter_map(|name| {
        let commit = cache.commit(&name)?;
        let lacks = match cache.known(&commit) {
            SnapshotState::Lacks(files) => files.len(),
            SnapshotState::Whole | SnapshotState::Open => 0,
        };
        Some(Revision { name, lacks })
    });
    revisions.collect()
}

/// The names of files in a folder and its subfolders, with slashes: names of branches may have
/// some.
fn names_below(folder: &Path, before: &str, names: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = format!("{before}{}", entry.file_name().to_string_lossy());
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => names_below(&entry.path(), &format!("{name}/"), names),
            Ok(kind) if kind.is_file() => names.push(name),
            _ => {}
        }
    }
}
