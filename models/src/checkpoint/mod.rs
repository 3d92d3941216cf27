//! Files on disk, read and validated.
//!
//! Must not know: the network, requests, devices, architectures.

mod sentence;
mod weights;

use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;
use thiserror::Error;

pub use sentence::{DenseModule, LogitScore, SentenceTransformers, Splade};
pub use weights::Weights;

/// Why a checkpoint could not be opened or loaded. Each says which file and what to do.
#[derive(Debug, Error)]
#[error("{path}: {problem}", path = path.display())]
pub struct CheckpointError {
    /// The file or folder.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
}

impl CheckpointError {
    /// An error about a file.
    pub fn new(path: impl Into<PathBuf>, problem: impl Into<String>) -> Self {
        Self { path: path.into(), problem: problem.into() }
    }
}

/// A checkpoint's files, opened but not yet made into a model.
#[derive(Debug)]
pub struct Checkpoint {
    dir: PathBuf,
    transformer_dir: PathBuf,
    config: Value,
    sentence_transformers: Option<SentenceTransformers>,
    weights: Weights,
}

impl Checkpoint {
    /// Opens a folder in the Hugging Face layout: `config.json`, `tokenizer.json`, safetensors
    /// (one file or shards with an index), and the files of sentence-transformers where there are
    /// some.
    ///
    /// # Errors
    /// A file that is missing, damaged or contradicts another.
    pub fn open(dir: &Path) -> Result<Self, CheckpointError> {
        if !dir.is_dir() {
            return Err(CheckpointError::new(dir, "there is no such folder"));
        }
        let sentence_transformers = SentenceTransformers::open(dir)?;
        let transformer_dir = match &sentence_transformers {
            Some(modules) => dir.join(&modules.transformer_path),
            None => dir.to_owned(),
        };
        let config: Value = read_json(&transformer_dir.join("config.json"))?;
        let checkpoint = Self {
            weights: Weights::open(&transformer_dir)?,
            dir: dir.to_owned(),
            transformer_dir,
            config,
            sentence_transformers,
        };
        if checkpoint.config.get("quantization_config").is_some_and(|value| !value.is_null()) {
            let problem = "quantised checkpoints are not served; use the float one";
            return Err(checkpoint.config_error(problem));
        }
        Ok(checkpoint)
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where `tokenizer.json` and its companions are.
    pub fn transformer_dir(&self) -> &Path {
        &self.transformer_dir
    }

    /// `model_type` of `config.json`, empty if there is none.
    pub fn model_type(&self) -> &str {
        self.config.get("model_type").and_then(Value::as_str).unwrap_or_default()
    }

    /// `architectures` of `config.json`.
    pub fn architectures(&self) -> Vec<&str> {
        let names = self.config.get("architectures").and_then(Value::as_array);
        names.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// Names of a classifier's outputs, in order: `id2label` of `config.json`, or as many `LABEL_n`
    /// as `num_labels` says (2, as transformers takes it, if nothing does).
    pub fn labels(&self) -> Vec<String> {
        if let Some(names) = self.config.get("id2label").and_then(Value::as_object) {
            let mut labels: Vec<(usize, String)> = names
                .iter()
                .filter_map(|(id, name)| Some((id.parse().ok()?, name.as_str()?.to_owned())))
                .collect();
            labels.sort();
            return labels.into_iter().map(|(_, name)| name).collect();
        }
        let count = self.config.get("num_labels").and_then(Value::as_u64).unwrap_or(2);
        (0..count).map(|label| format!("LABEL_{label}")).collect()
    }

    /// A boolean of `config.json`, or of its part about texts.
    pub fn said(&self, name: &str) -> Option<bool> {
        let of_texts = self.config.get("text_config");
        let found =
            [Some(&self.config), of_texts].into_iter().flatten().find_map(|it| it.get(name));
        found.and_then(Value::as_bool)
    }

    /// A boolean of `config.json`, false if it is not there.
    pub fn flag(&self, name: &str) -> bool {
        self.config.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// Names the checkpoint goes by, lower case: its folder's and `_name_or_path`. A last hint,
    /// where its files leave open what it is.
    pub fn names(&self) -> String {
        let dir = fs::canonicalize(&self.dir).unwrap_or_else(|_| self.dir.clone());
        let mut names: Vec<String> =
            dir.iter().rev().take(3).map(|part| part.to_string_lossy().to_lowercase()).collect();
        // A Hub cache has `models--owner--name/snapshots/revision`.
        if names.get(1).is_none_or(|parent| parent != "snapshots") {
            names.truncate(1);
        }
        let known = self.config.get("_name_or_path").and_then(Value::as_str);
        names.extend(known.map(str::to_lowercase));
        names.join(" ")
    }

    /// A part of its own file beside the weights, `name.safetensors` or `name.pt`, if there is one.
    ///
    /// # Errors
    /// A file that is damaged.
    pub fn part(&self, name: &str) -> Result<Option<Weights>, CheckpointError> {
        let paths = ["safetensors", "pt"].map(|kind| self.dir.join(format!("{name}.{kind}")));
        let found = paths.iter().find(|path| path.exists());
        found.map(|path| Weights::of_file(path)).transpose()
    }

    /// Ids of the tokenizer's special tokens but the mask: they stand for no word.
    ///
    /// # Errors
    /// If there is no such file.
    pub fn special_ids(&self) -> Result<Vec<u32>, CheckpointError> {
        let tokenizer: Value = read_json(&self.transformer_dir.join("tokenizer.json"))?;
        let added = tokenizer.get("added_tokens").and_then(Value::as_array);
        let special = added.into_iter().flatten().filter(|token| {
            let content = token.get("content").and_then(Value::as_str).unwrap_or_default();
            let special = token.get("special").and_then(Value::as_bool).unwrap_or(false);
            special && !content.to_lowercase().contains("mask")
        });
        Ok(special.filter_map(|it| it.get("id")?.as_u64()).map(|id| id as u32).collect())
    }

    /// `config.json` as a family's own type.
    ///
    /// # Errors
    /// A field that is missing or of the wrong type.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T, CheckpointError> {
        T::deserialize(&self.config).map_err(|error| self.config_error(error.to_string()))
    }

    /// An error about `config.json`.
    pub fn config_error(&self, problem: impl Into<String>) -> CheckpointError {
        CheckpointError::new(self.transformer_dir.join("config.json"), problem)
    }

    /// The files of sentence-transformers, if the checkpoint has them.
    pub fn sentence_transformers(&self) -> Option<&SentenceTransformers> {
        self.sentence_transformers.as_ref()
    }

    /// The transformer's tensors.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }
}

/// What is said of a file whose bytes Git LFS has not fetched.
const NOT_FETCHED: &str =
    "it is a pointer of Git LFS, not the file itself: run `git lfs pull` in its repository";

/// Whether these bytes are what a clone without Git LFS has in place of a large file.
///
/// # Errors
/// If they are.
pub(crate) fn check_fetched(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    // https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
    if bytes.starts_with(b"version https://git-lfs.github.com/spec/") {
        return Err(CheckpointError::new(path, NOT_FETCHED));
    }
    Ok(())
}

/// Reads a JSON file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, CheckpointError> {
    let bytes = fs::read(path).map_err(|error| {
        let problem = match error.kind() {
            std::io::ErrorKind::NotFound => "the file is missing".to_owned(),
            _ => format!("the file cannot be read: {error}"),
        };
        CheckpointError::new(path, problem)
    })?;
    check_fetched(path, &bytes)?;
    serde_json::from_slice(&bytes)
        .map_err(|error| CheckpointError::new(path, format!("not the JSON expected: {error}")))
}

/// Reads a JSON file that need not be there.
pub(crate) fn read_json_if_there<T: DeserializeOwned>(
    path: &Path,
) -> Result<Option<T>, CheckpointError> {
    if path.exists() { read_json(path).map(Some) } else { Ok(None) }
}
