//! Models of the Hugging Face Hub: found in the cache shared by all Hub tools, or downloaded into
//! it, following the rules of huggingface_hub.
//!
//! Must not know: what a model's files contain.

mod cache;
mod client;
mod error;
mod files;
mod partial;
mod stored;

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use proxima_models::Progress;

use crate::command::CommandError;
use cache::{RepoCache, SnapshotState};
use client::{At, HubClient, RemoteFile};
use partial::Partial;

pub use error::HubError;
pub use files::{is_model_id, is_revision};
pub use stored::{Revision, Stored, remove, stored};

/// Retries after an error that may be transient; for a download, only failures in a row that
/// brought no bytes count.
const RETRIES: u32 = 4;
/// The first wait before a retry; it doubles with each further failure.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// huggingface_hub's timeout for a response, and for its next bytes.
pub const TIMEOUT: Duration = Duration::from_secs(10);
/// Where models are downloaded from, and where they are stored.
#[derive(Clone)]
pub struct HubSettings {
    /// The folder of the Hub cache.
    pub cache: PathBuf,
    /// The Hub's address, unless it is the public one.
    pub endpoint: Option<String>,
    /// An access token for private models.
    pub token: Option<String>,
    /// Use only what is in the cache, and no network.
    pub offline: bool,
    /// Timeout for the start of a response from the Hub.
    pub etag_timeout: Duration,
    /// Timeout for a download that brings no bytes.
    pub download_timeout: Duration,
}

impl Default for HubSettings {
    fn default() -> Self {
        Self {
            cache: PathBuf::new(),
            endpoint: None,
            token: None,
            offline: false,
            etag_timeout: TIMEOUT,
            download_timeout: TIMEOUT,
        }
    }
}

impl std::fmt::Debug for HubSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HubSettings")
            .field("cache", &self.cache)
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.as_ref().map(|_| "hidden"))
            .field("offline", &self.offline)
            .finish()
    }
}

/// The Hub and its cache.
pub struct Hub {
    settings: HubSettings,
    retry_pause: Duration,
}

impl Hub {
    /// A Hub with these settings.
    pub fn new(settings: &HubSettings) -> Self {
        Self { settings: settings.clone(), retry_pause: RETRY_PAUSE }
    }

    /// The folder of a model at a branch, tag or commit; missing files are downloaded, and their
    /// bytes counted in `progress`. If the Hub cannot be reached or refuses, a usable snapshot of
    /// the revision in the cache is returned.
    ///
    /// # Errors
    /// An invalid id or revision, or a model that is not available, as a sentence.
    pub fn pull(
        &self,
        id: &str,
        revision: &str,
        progress: &Progress,
    ) -> Result<PathBuf, CommandError> {
        if !is_model_id(id) {
            return Err(CommandError::usage(format!("{id:?} is not a model id like OWNER/NAME")));
        }
        if !is_revision(revision) {
            let message = format!("{revision:?} is not the name of a branch, tag or commit");
            return Err(CommandError::usage(message));
        }
        let cache = RepoCache::new(&self.settings.cache, id);
        let cached = cache.commit(revision).map(|commit| {
            let known = cache.known(&commit);
            (cache.snapshot(&commit), known)
        });
        if self.settings.offline {
            return self.offline(id, revision, cached);
        }
        if let Some((snapshot, SnapshotState::Whole)) = cached {
            return Ok(snapshot);
        }
        let usable = cached.filter(|(_, known)| *known == SnapshotState::Open);
        // A snapshot that can be served anyway does not wait for an unreachable Hub.
        let retries = if usable.is_some() { 0 } else { RETRIES };
        let older = usable.as_ref().and_then(|(snapshot, _)| snapshot.file_name()?.to_str());
        let download = Download { hub: self, cache: &cache, id, older, retries, progress };
        match (download.run(revision), usable) {
            (Ok(snapshot), _) => Ok(snapshot),
            (Err(error), Some((snapshot, _))) if error.leaves_the_cache() => {
                tracing::warn!("{id}: {error}; using what the cache has: {}", snapshot.display());
                Ok(snapshot)
            }
            (Err(error), _) => {
                let has_token = self.settings.token.is_some();
                Err(CommandError::failure(error.explain(id, revision, has_token)))
            }
        }
    }

    fn offline(
        &self,
        id: &str,
        revision: &str,
        cached: Option<(PathBuf, SnapshotState)>,
    ) -> Result<PathBuf, CommandError> {
        let advice = format!("download it first with `proxima pull {id}@{revision}`");
        let problem = match cached {
            Some((snapshot, SnapshotState::Whole | SnapshotState::Open)) => return Ok(snapshot),
            Some((snapshot, SnapshotState::Lacks(names))) => {
                format!("{} lacks {} and", snapshot.display(), names.join(", "))
            }
            None => {
                let cache = self.settings.cache.display();
                format!("{id} at revision {revision} is not in {cache} and")
            }
        };
        Err(CommandError::failure(format!("{problem} the network is off; {advice}")))
    }
}

/// The download of a model.
struct Download<'a> {
    hub: &'a Hub,
    cache: &'a RepoCache,
    id: &'a str,
    /// The cached commit of the revision, if it can be served.
    older: Option<&'a str>,
    retries: u32,
    progress: &'a Progress,
}

impl Download<'_> {
    fn run(&self, revision: &str) -> Result<PathBuf, HubError> {
        let client = HubClient::new(&self.hub.settings)?;
        let list = self.retried(|| client.list(self.id, revision))?;
        let commit = list.sha.clone();
        let (cache, at) = (self.cache, At { id: self.id, commit: &commit });
        let names = list.names();
        if is_adapter(&names) {
            return Err(self.adapter(&client, at));
        }
        let mut missing = self.needed(&names)?;
        missing.retain(|name| !cache.has(&commit, name));
        if missing.is_empty() {
            // With nothing to download, a cache that cannot be written is no error.
            if let Err(error) = cache.note_commit(revision, &commit) {
                tracing::debug!("{error}");
            }
            cache.note_listed(&commit, &names);
            return Ok(cache.snapshot(&commit));
        }
        self.take(&client, at, &missing).map_err(|error| match error {
            HubError::Cache { .. } if self.older.is_some_and(|older| older != commit) => {
                HubError::CannotUpdate(Box::new(error))
            }
            error => error,
        })?;
        // Last, so that the revision stays as it was until all files are there.
        cache.note_commit(revision, &commit)?;
        cache.note_listed(&commit, &names);
        Ok(cache.snapshot(&commit))
    }

    /// Downloads the files that the cache lacks.
    fn take(&self, client: &HubClient, at: At<'_>, missing: &[&str]) -> Result<(), HubError> {
        let mut files = Vec::with_capacity(missing.len());
        for name in missing {
            files.push((name, self.retried(|| client.look_up(at, name))?));
        }
        let total = files.iter().filter_map(|(_, file)| file.size).sum();
        self.progress.set(0, total);
        tracing::info!("{}: downloading {:.1} MB", self.id, total as f64 / 1e6);
        for (name, file) in &files {
            self.fetch(client, name, file)?;
            self.cache.link(at.commit, name, &file.etag)?;
        }
        Ok(())
    }

    /// The error for an adapter, which names the base model if the adapter's own file is available.
    fn adapter(&self, client: &HubClient, at: At<'_>) -> HubError {
        let is_available = self.cache.has(at.commit, ADAPTER)
            || self
                .take(client, at, &[ADAPTER])
                .inspect_err(|error| tracing::debug!("{error}"))
                .is_ok();
        let folder = self.cache.snapshot(at.commit);
        let read = is_available.then(|| proxima_models::checkpoint::adapter(&folder));
        match read {
            Some(Err(problem)) => HubError::NoCheckpoint(problem.problem),
            _ => HubError::NoCheckpoint(
                "it is an adapter of another model, and adapters are not supported; merge it into \
                 its base (merge_and_unload) and serve the result"
                    .to_owned(),
            ),
        }
    }

    /// The files that a checkpoint needs.
    fn needed<'n>(&self, names: &'n [String]) -> Result<Vec<&'n str>, HubError> {
        let needed = names.iter().map(String::as_str).filter(|name| files::is_needed(name, names));
        let needed: Vec<&str> = needed.collect();
        if !needed.iter().any(|name| name.rsplit('/').next().is_some_and(files::is_weights)) {
            let problem = "it has no safetensors weights; convert them with `safetensors` and use \
                           the folder";
            return Err(HubError::NoCheckpoint(problem.to_owned()));
        }
        if !needed.iter().any(|name| name.rsplit('/').next() == Some("config.json")) {
            return Err(HubError::NoCheckpoint("it has no config.json".to_owned()));
        }
        Ok(needed)
    }

    /// Downloads a file into the cache, unless its blob is there already.
    fn fetch(&self, client: &HubClient, name: &str, file: &RemoteFile) -> Result<(), HubError> {
        let blob = self.cache.blob(&file.etag);
        RepoCache::make_parent(&blob)?;
        let _lock = self.cache.lock(&file.etag);
        if blob.is_file() {
            self.progress.add(file.size.unwrap_or(0));
            return Ok(());
        }
        let mut partial = Partial::beside(&blob)?;
        if file.size.is_some_and(|size| partial.length > size) {
            partial.restart()?;
        }
        self.progress.add(partial.length);
        let mut failures = 0;
        while file.size != Some(partial.length) {
            let before = partial.length;
            let result = client.download(file, &mut partial, self.progress);
            let result = result.and_then(|()| match file.size {
                Some(size) if partial.length < size => {
                    let problem = format!("{name} ended after {} of {size} bytes", partial.length);
                    Err(HubError::Unreachable(problem))
                }
                _ => Ok(()),
            });
            failures = if partial.length > before { 0 } else { failures + 1 };
            match result {
                Ok(()) => break,
                Err(error) if error.may_pass() && failures <= self.retries => {
                    tracing::warn!("{}: {error}; trying again", self.id);
                    self.pause(failures);
                }
                Err(error) => return Err(error),
            }
        }
        let whole = file.size.is_none_or(|size| size == partial.length);
        if !whole || !partial.has_hash(&file.etag)? {
            partial.discard();
            return Err(HubError::Damaged(name.to_owned()));
        }
        partial.finish(&blob)
    }

    /// Retries `ask` while its error may be transient.
    fn retried<T>(&self, ask: impl Fn() -> Result<T, HubError>) -> Result<T, HubError> {
        let mut failures = 0;
        loop {
            match ask() {
                Err(error) if error.may_pass() && failures < self.retries => {
                    tracing::warn!("{}: {error}; trying again", self.id);
                    self.pause(failures);
                    failures += 1;
                }
                result => return result,
            }
        }
    }

    fn pause(&self, failures: u32) {
        thread::park_timeout(self.hub.retry_pause * 2u32.saturating_pow(failures));
    }
}

/// The file in which an adapter names its base model.
const ADAPTER: &str = "adapter_config.json";

/// Whether a repository with these files has an adapter instead of a model.
fn is_adapter(names: &[String]) -> bool {
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    let is_weights = |name: &String| name.rsplit('/').next().is_some_and(files::is_weights);
    let weights = names.iter().any(|name| files::is_needed(name, names) && is_weights(name));
    has(ADAPTER) && !(has("config.json") && weights)
}

#[cfg(test)]
mod tests;
