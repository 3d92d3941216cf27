//! One repository in the cache shared by all Hub tools: `refs` map names to commits, `snapshots`
//! have a folder of links per commit, and these lead to `blobs`, named by their ETag.
//!
//! The rules are those of huggingface_hub (`file_download.py`, `_snapshot_download.py`).
//! Must not know: the network.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::HubError;
use super::files::{is_commit, is_needed, is_relative, is_weights};

/// In a snapshot's folder: the names of all files of its repository, one per line.
const LISTED: &str = ".proxima-complete";
/// The supported version of huggingface_hub's own lists.
const TREE_VERSION: u64 = 1;

/// Which of its repository's files a snapshot has.
#[derive(Debug, PartialEq, Eq)]
pub enum SnapshotState {
    /// All files that a checkpoint needs are there.
    Whole,
    /// These files are missing.
    Lacks(Vec<String>),
    /// It looks like a checkpoint; whether its repository has more files is not known.
    Open,
}

/// A repository's folder in the cache.
#[derive(Debug)]
pub struct RepoCache {
    folder: PathBuf,
    locks: PathBuf,
}

impl RepoCache {
    /// The folder of a model, which need not exist.
    pub fn new(cache: &Path, id: &str) -> Self {
        let name = format!("models--{}", id.replace('/', "--"));
        Self { locks: cache.join(".locks").join(&name), folder: cache.join(name) }
    }

    /// The commit of a revision, if it has a snapshot: a branch or tag is looked up in `refs`, the
    /// hash of a commit stands for itself.
    pub fn commit(&self, revision: &str) -> Option<String> {
        let named = fs::read_to_string(self.folder.join("refs").join(revision)).ok();
        let commit = named.map(|text| text.trim().to_owned());
        let commit = commit.or_else(|| is_commit(revision).then(|| revision.to_owned()))?;
        (is_commit(&commit) && self.snapshot(&commit).is_dir()).then_some(commit)
    }

    /// The folder of a commit's files.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// Whether a file of a commit is cached.
    pub fn has(&self, commit: &str, name: &str) -> bool {
        self.snapshot(commit).join(name).is_file()
    }

    /// The path of the blob with this ETag.
    pub fn blob(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(etag)
    }

    /// What is known about a commit's files: by a list of its repository's files if there is one,
    /// otherwise by the names of weights.
    pub fn known(&self, commit: &str) -> SnapshotState {
        let Some(names) = self.listed(commit) else {
            let lacks = self.weights_lacking(commit);
            return if lacks.is_empty() {
                SnapshotState::Open
            } else {
                SnapshotState::Lacks(lacks)
            };
        };
        let lacks = |name: &&String| is_needed(name, &names) && !self.has(commit, name);
        let lacks: Vec<String> = names.iter().filter(lacks).cloned().collect();
        if lacks.is_empty() { SnapshotState::Whole } else { SnapshotState::Lacks(lacks) }
    }

    /// The names of a repository's files: our own list, or that of huggingface_hub.
    fn listed(&self, commit: &str) -> Option<Vec<String>> {
        #[derive(Deserialize)]
        struct Tree {
            format_version: u64,
            files: BTreeMap<String, serde::de::IgnoredAny>,
        }
        let own = fs::read_to_string(self.snapshot(commit).join(LISTED)).unwrap_or_default();
        let own: Vec<String> = own.lines().map(str::to_owned).collect();
        if !own.is_empty() {
            return Some(own);
        }
        let tree = self.folder.join("trees").join(format!("{commit}.json"));
        let tree: Tree = serde_json::from_slice(&fs::read(tree).ok()?).ok()?;
        (tree.format_version == TREE_VERSION).then(|| tree.files.into_keys().collect())
    }

    /// Missing weight files that an index names; `model.safetensors` if there is neither that file
    /// nor an index.
    fn weights_lacking(&self, commit: &str) -> Vec<String> {
        #[derive(Deserialize)]
        struct Index {
            weight_map: BTreeMap<String, String>,
        }
        let snapshot = self.snapshot(commit);
        let entries = fs::read_dir(&snapshot).into_iter().flatten().flatten();
        let folders = entries.map(|entry| entry.path()).filter(|path| path.is_dir());
        for folder in std::iter::once(snapshot.clone()).chain(folders) {
            let index = fs::read(folder.join("model.safetensors.index.json"));
            let index = index.ok().and_then(|bytes| serde_json::from_slice::<Index>(&bytes).ok());
            if folder.join("model.safetensors").is_file() {
                return Vec::new();
            }
            if let Some(index) = index {
                let mut names: Vec<String> = index.weight_map.into_values().collect();
                names.sort();
                names.dedup();
                names.retain(|name| !is_weights(name) || !folder.join(name).is_file());
                return names;
            }
        }
        vec!["model.safetensors".to_owned()]
    }

    /// Stores the names of a repository's files, so that its snapshot needs no network from now on.
    /// If the cache cannot be written, the Hub is asked again next time.
    pub fn note_listed(&self, commit: &str, names: &[String]) {
        let path = self.snapshot(commit).join(LISTED);
        if let Err(error) = replace(&path, names.join("\n").as_bytes()) {
            tracing::debug!("{}: {error}", path.display());
        }
    }

    /// Stores the commit of a branch or tag, if it is new.
    ///
    /// # Errors
    /// A cache that cannot be written.
    pub fn note_commit(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        let path = self.folder.join("refs").join(revision);
        let known = fs::read_to_string(&path).is_ok_and(|text| text.trim() == commit);
        if revision == commit || known {
            return Ok(());
        }
        replace(&path, commit.as_bytes()).map_err(HubError::cache(path))
    }

    /// Creates the parent folder of a path.
    ///
    /// # Errors
    /// A cache that cannot be written.
    pub fn make_parent(path: &Path) -> Result<(), HubError> {
        let parent = path.parent().unwrap_or(path);
        fs::create_dir_all(parent).map_err(HubError::cache(parent))
    }

    /// Waits until no other process downloads this blob. The lock is that of huggingface_hub;
    /// correctness does not depend on it, since files are moved into place whole.
    pub fn lock(&self, etag: &str) -> Option<File> {
        fs::create_dir_all(&self.locks).ok()?;
        let file = File::create(self.locks.join(format!("{etag}.lock"))).ok()?;
        file.lock().ok()?;
        Some(file)
    }

    /// Removes the folder and its locks, and returns whether it existed.
    ///
    /// # Errors
    /// A cache that cannot be written.
    pub fn remove(&self) -> Result<bool, HubError> {
        match fs::remove_dir_all(&self.folder) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(HubError::cache(&self.folder)(error)),
        }
        // Remaining locks are those of a running download, or nobody's.
        let _ = fs::remove_dir_all(&self.locks);
        Ok(true)
    }

    /// Links a file of a commit to its blob.
    ///
    /// # Errors
    /// A cache that cannot be written.
    pub fn link(&self, commit: &str, name: &str, etag: &str) -> Result<(), HubError> {
        debug_assert!(is_relative(name), "checked by whoever has the list");
        let path = self.snapshot(commit).join(name);
        Self::make_parent(&path)?;
        // There may be a dangling link.
        let _ = fs::remove_file(&path);
        let up = "../".repeat(2 + name.split('/').count() - 1);
        let blob = self.blob(etag);
        let linked = symlink(&format!("{up}blobs/{etag}"), &path)
            // A file system without symbolic links gets a copy.
            .or_else(|_| fs::copy(&blob, &path).map(drop));
        linked.map_err(HubError::cache(path))
    }
}

#[cfg(unix)]
fn symlink(target: &str, path: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

#[cfg(not(unix))]
fn symlink(_: &str, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Writes a file atomically: readers see all of it, or what was there before.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    // Readable by all users who share the cache, like its other files.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    }
    file.persist(path).map(drop).map_err(|error| error.error)
}
