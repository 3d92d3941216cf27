//! Models of the Hugging Face Hub: found in the cache that all its tools share, or downloaded into
//! it.
//!
//! Must not know: what is in a model's files.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use proxima_models::checkpoint::LENGTH_FILES;
use sha2::{Digest as _, Sha256};

use crate::cli::CommandError;
use crate::config::HubSettings;

/// Written beside a snapshot's files when all are there and whole.
const COMPLETE: &str = ".proxima-complete";
/// Times a broken download is gone on with.
const RETRIES: usize = 5;

/// Whether this is an id like `OWNER/NAME`.
pub fn is_model_id(id: &str) -> bool {
    let parts: Vec<&str> = id.split('/').collect();
    let valid = |part: &&str| {
        let letters = part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        !part.is_empty() && letters && !part.starts_with('.') && !part.contains("..")
    };
    (1..=2).contains(&parts.len()) && parts.iter().all(valid)
}

/// Whether a checkpoint needs this file of its repository.
fn is_needed(name: &str) -> bool {
    let (folder, file) = name.rsplit_once('/').unwrap_or(("", name));
    let module = folder.split_once('_').is_some_and(|(number, rest)| {
        !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) && !rest.contains('/')
    });
    let json = [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "modules.json",
        "config_sentence_transformers.json",
        "adapter_config.json",
        "preprocessor_config.json",
        "video_preprocessor_config.json",
        "processor_config.json",
        "model.safetensors.index.json",
        "sparse_linear.pt",
        "sparse_linear.safetensors",
        "colbert_linear.pt",
        "colbert_linear.safetensors",
    ];
    let weights = file == "model.safetensors"
        || (file.starts_with("model-") && file.ends_with(".safetensors"));
    (folder.is_empty() || module)
        && (json.contains(&file) || LENGTH_FILES.contains(&file) || weights)
}

/// The Hub and its cache.
pub struct Hub {
    settings: HubSettings,
    cache: Cache,
}

impl Hub {
    /// The Hub of these settings.
    pub fn new(settings: &HubSettings) -> Self {
        Self { settings: settings.clone(), cache: Cache::new(settings.cache.clone()) }
    }

    /// The folder of a model, downloaded if it is not there whole.
    ///
    /// # Errors
    /// A model that is not to be had, or a download that is damaged.
    pub fn pull(&self, id: &str, revision: &str) -> Result<PathBuf, CommandError> {
        if !is_model_id(id) {
            return Err(CommandError::usage(format!("{id:?} is not a model id like OWNER/NAME")));
        }
        let repo = Repo::with_revision(id.to_owned(), RepoType::Model, revision.to_owned());
        let found = self.cache.repo(repo.clone()).get("config.json");
        let snapshot = found.and_then(|path| path.parent().map(Path::to_owned));
        if self.settings.offline {
            return snapshot.ok_or_else(|| {
                let message = format!(
                    "{id} is not in {} and the network is off; download it first with `proxima pull {id}`",
                    self.settings.cache.display()
                );
                CommandError::failure(message)
            });
        }
        match snapshot {
            Some(snapshot) if snapshot.join(COMPLETE).exists() => Ok(snapshot),
            _ => self.download(id, repo),
        }
    }

    fn download(&self, id: &str, repo: Repo) -> Result<PathBuf, CommandError> {
        let failed = |error: &ApiError| CommandError::failure(explain(id, error));
        let api = self.api().map_err(|error| failed(&error))?.repo(repo);
        let info = api.info().map_err(|error| failed(&error))?;
        let names: Vec<&str> = info.siblings.iter().map(|file| file.rfilename.as_str()).collect();
        let needed: Vec<&str> = names.iter().copied().filter(|name| is_needed(name)).collect();
        if !needed.iter().any(|name| name.ends_with(".safetensors") && !name.contains('/')) {
            let message = format!(
                "{id} has no safetensors weights; convert them with `safetensors` and use the folder"
            );
            return Err(CommandError::failure(message));
        }
        let mut snapshot = None;
        for name in needed {
            let path = fetch(&api, name).map_err(|problem| match problem {
                FetchError::Api(error) => failed(&error),
                FetchError::Damaged => CommandError::failure(format!(
                    "{name} of {id} was damaged on the way and removed; try again"
                )),
                FetchError::Io(error) => CommandError::failure(format!("{name} of {id}: {error}")),
            })?;
            if name == "config.json" {
                snapshot = path.parent().map(Path::to_owned);
            }
        }
        let snapshot =
            snapshot.ok_or_else(|| CommandError::failure(format!("{id} has no config.json")))?;
        File::create(snapshot.join(COMPLETE))
            .map_err(|error| CommandError::failure(format!("{}: {error}", snapshot.display())))?;
        Ok(snapshot)
    }

    fn api(&self) -> Result<Api, ApiError> {
        let mut builder = ApiBuilder::from_cache(self.cache.clone())
            .with_retries(RETRIES)
            .with_token(self.settings.token.clone());
        if let Some(endpoint) = &self.settings.endpoint {
            builder = builder.with_endpoint(endpoint.clone());
        }
        builder.build()
    }
}

enum FetchError {
    Api(ApiError),
    Io(io::Error),
    Damaged,
}

/// A file of the cache, downloaded if needed, and its content checked where the Hub names its hash.
fn fetch(api: &ApiRepo, name: &str) -> Result<PathBuf, FetchError> {
    let path = api.get(name).map_err(FetchError::Api)?;
    let blob = fs::canonicalize(&path).map_err(FetchError::Io)?;
    // Large files are stored under their SHA-256.
    let hash = blob.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if hash.len() != 64 || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(path);
    }
    let mut hasher = Sha256::new();
    let mut file = File::open(&blob).map_err(FetchError::Io)?;
    io::copy(&mut file, &mut HashWriter(&mut hasher)).map_err(FetchError::Io)?;
    let found: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if found.eq_ignore_ascii_case(&hash) {
        return Ok(path);
    }
    fs::remove_file(&blob).map_err(FetchError::Io)?;
    // The pointer leads nowhere now; a file system without links has only the blob.
    let _ = fs::remove_file(&path);
    Err(FetchError::Damaged)
}

struct HashWriter<'a>(&'a mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a failure means for somebody who wants the model.
fn explain(id: &str, error: &ApiError) -> String {
    let text = error.to_string();
    let has = |code: &str| text.contains(code);
    if has("401") || has("403") {
        format!("{id} needs a key, or there is no such model: set HF_TOKEN ({text})")
    } else if has("404") {
        format!("the Hub has no model {id}, or not this revision or file ({text})")
    } else {
        format!("{id} could not be downloaded: {text}; check the network, or use a local folder")
    }
}

#[cfg(test)]
mod tests;
