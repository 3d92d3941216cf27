//! Files on disk, read and validated.
//!
//! Must not know: the network, requests, devices, architectures.

pub(crate) mod files;
pub mod keys;
mod leftovers;
mod sentence;
mod similarity;
mod uses;
mod weights;

use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;
use thiserror::Error;

use files::is_there;
use keys::{ConfigFile, Key, Rule, config as tables};

pub(crate) use files::{read_json, read_json_if_there};
pub use keys::Warning;
pub(crate) use sentence::torch_class;
pub use sentence::{
    DenseModule, LENGTH_FILES, LogitScore, ModuleStep, PoolingModule, SentenceTransformers, Splade,
    Subject,
};
pub use similarity::SimilarityFunction;
pub use uses::{Handling, KeyUse};
pub use weights::{PICKLE, Weights};

/// Why a checkpoint could not be opened or loaded. Each names the file and says what to do.
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

/// The `model_type` of a table of vectors, whose files have none.
pub const STATIC: &str = "static";

/// A checkpoint's files, opened but not yet made into a model.
#[derive(Debug)]
pub struct Checkpoint {
    dir: PathBuf,
    transformer_dir: PathBuf,
    config: Value,
    tokenizer_config: Value,
    sentence_transformers: Option<SentenceTransformers>,
    weights: Weights,
    /// Warnings about the files read so far.
    warnings: Vec<Warning>,
}

/// Checks `special_tokens_map.json`. If `tokenizer_config.json` has no `added_tokens_decoder`,
/// transformers passes all of its keys to the tokenizer as arguments; here only its tokens are
/// read.
///
/// # Errors
/// A key that is not a token's and differs from `tokenizer_config.json`.
fn check_tokens_map(
    dir: &Path,
    transformer_dir: &Path,
    config: &Value,
    warnings: &mut Vec<Warning>,
) -> Result<(), CheckpointError> {
    let path = transformer_dir.join("special_tokens_map.json");
    if config.get("added_tokens_decoder").is_some() {
        return Ok(());
    }
    let Some(Value::Object(mut keys)) = read_json_if_there(&path)? else { return Ok(()) };
    keys.retain(|key, _| !(key.ends_with("_token") || key.ends_with("_special_tokens")));
    for (key, value) in &keys {
        let rule =
            keys::files::TOKENIZER.iter().find(|(known, _)| known == key).map(|(_, rule)| rule);
        let is_read = matches!(rule, Some(Rule::Used | Rule::Refused(_)));
        if is_read && config.get(key) != Some(value) {
            let problem = format!("{key} is read from tokenizer_config.json only; set it there");
            return Err(CheckpointError::new(path, problem));
        }
    }
    let file = ConfigFile { dir, path: &path };
    file.check(&Value::Object(keys), &[keys::files::TOKENIZER], warnings)
}

impl Checkpoint {
    /// Opens a folder in the Hugging Face layout: `config.json`, `tokenizer.json`, safetensors (one
    /// file, or shards with an index), and the files of sentence-transformers if present.
    ///
    /// # Errors
    /// A file that is missing, damaged or contradicts another.
    pub fn open(dir: &Path) -> Result<Self, CheckpointError> {
        if !dir.is_dir() {
            return Err(CheckpointError::new(dir, "there is no such folder"));
        }
        let mut warnings = Vec::new();
        let sentence_transformers = SentenceTransformers::open(dir, &mut warnings)?;
        let transformer_dir = match &sentence_transformers {
            Some(modules) => modules.transformer_dir.clone(),
            None => dir.to_owned(),
        };
        adapter(dir)?;
        adapter(&transformer_dir)?;
        // As in sentence-transformers, the other files of a table of vectors are not read.
        let is_static = sentence_transformers.as_ref().is_some_and(|modules| modules.is_static);
        let path = transformer_dir.join("config.json");
        let config: Value = match is_static {
            true => serde_json::json!({ "model_type": STATIC }),
            false => read_json(&path)?,
        };
        if config.get("quantization_config").is_some_and(|value| !value.is_null()) {
            let problem = "quantised checkpoints are not supported; use the float one";
            return Err(CheckpointError::new(path, problem));
        }
        let path = transformer_dir.join("tokenizer_config.json");
        let tokenizer_config = match is_static {
            true => Value::Null,
            false => read_json_if_there(&path)?.unwrap_or(Value::Null),
        };
        if !tokenizer_config.is_null() {
            let mut content = tokenizer_config.clone();
            // A model may have tokens under its own keys.
            if let Some(keys) = content.as_object_mut() {
                keys.retain(|key, value| {
                    !(key.ends_with("_token") && (value.is_string() || value.is_object()))
                });
            }
            let file = ConfigFile { dir, path: &path };
            file.check(&content, &[keys::files::TOKENIZER], &mut warnings)?;
        }
        if !is_static {
            check_tokens_map(dir, &transformer_dir, &tokenizer_config, &mut warnings)?;
        }
        Ok(Self {
            weights: Weights::open(&transformer_dir)?,
            dir: dir.to_owned(),
            transformer_dir,
            config,
            tokenizer_config,
            sentence_transformers,
            warnings,
        })
    }

    /// Checks `config.json` and the family's other files against their key tables. Returns all
    /// warnings so far.
    ///
    /// # Errors
    /// A key whose value is out of bounds or not served.
    pub fn check_keys(
        &self,
        config: &[Key],
        others: &[(&str, &[&[Key]])],
    ) -> Result<Vec<Warning>, CheckpointError> {
        let mut warnings = self.warnings.clone();
        let path = self.transformer_dir.join("config.json");
        let file = ConfigFile { dir: &self.dir, path: &path };
        // A family's own table takes precedence over the shared ones.
        let tables = [config, tables::COMMON, tables::GENERATING];
        file.check(&self.config, &tables, &mut warnings)?;
        for (name, tables) in others {
            let path = self.transformer_dir.join(name);
            if let Some(content) = read_json_if_there::<Value>(&path)? {
                let file = ConfigFile { dir: &self.dir, path: &path };
                file.check(&content, tables, &mut warnings)?;
            }
        }
        Ok(warnings)
    }

    /// A warning about tensors that nothing has read so far, except those known to be irrelevant.
    ///
    /// # Errors
    /// More layers than were read.
    pub fn check_unused(&self) -> Result<Option<Warning>, CheckpointError> {
        leftovers::check(&self.weights).map_err(|problem| self.config_error(problem))
    }

    /// `tokenizer_config.json`; null if absent.
    pub fn tokenizer_config(&self) -> &Value {
        &self.tokenizer_config
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The folder of `tokenizer.json` and its companions.
    pub fn transformer_dir(&self) -> &Path {
        &self.transformer_dir
    }

    /// `model_type` of `config.json`; empty if absent.
    pub fn model_type(&self) -> &str {
        self.config.get("model_type").and_then(Value::as_str).unwrap_or_default()
    }

    /// `architectures` of `config.json`.
    pub fn architectures(&self) -> Vec<&str> {
        let names = self.config.get("architectures").and_then(Value::as_array);
        names.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// Whether it has a classification head, according to `architectures` or, if there are none,
    /// its tensors.
    pub fn classifies(&self) -> bool {
        const HEADS: [&str; 3] =
            ["classifier.weight", "classifier.out_proj.weight", "score.weight"];
        match &self.architectures()[..] {
            [] => HEADS.iter().any(|name| self.weights.contains(name)),
            names => names.iter().any(|name| name.ends_with("ForSequenceClassification")),
        }
    }

    /// Names of a classifier's outputs, in order: `id2label` of `config.json` or, as in
    /// transformers, `LABEL_0`, `LABEL_1`, ... if `num_labels` differs from its length (two labels
    /// if neither is set).
    ///
    /// # Errors
    /// Labels that are not numbered from 0, each once, or too many labels.
    pub fn labels(&self) -> Result<Vec<String>, CheckpointError> {
        let limit = tables::LABELS_MAX;
        let too_many = |count: u64| {
            let problem = format!("{count} labels are more than the supported {limit}");
            Err(self.config_error(problem))
        };
        let named = match self.config.get("id2label") {
            None | Some(Value::Null) => None,
            Some(Value::Object(names)) => Some(names),
            Some(_) => return Err(self.config_error("id2label must be an object")),
        };
        let count = self.config.get("num_labels").and_then(Value::as_u64);
        let named = named.filter(|named| count.is_none_or(|count| count == named.len() as u64));
        let Some(named) = named else {
            return match count.unwrap_or(2) {
                0 => Err(self.config_error("num_labels is 0")),
                count if count > limit as u64 => too_many(count),
                count => Ok((0..count).map(|label| format!("LABEL_{label}")).collect()),
            };
        };
        if named.len() > limit {
            return too_many(named.len() as u64);
        }
        let mut labels: Vec<Option<String>> = vec![None; named.len()];
        for (id, name) in named {
            let slot = id.parse().ok().and_then(|id: usize| labels.get_mut(id));
            let text = match name {
                Value::String(name) => Some(name.clone()),
                Value::Number(number) => Some(number.to_string()),
                _ => None,
            };
            match (slot, text) {
                (Some(slot @ None), Some(name)) => *slot = Some(name),
                _ => {
                    let problem = format!(
                        "id2label: {id:?} is {name}; labels must be strings numbered from 0 to {}",
                        named.len() - 1
                    );
                    return Err(self.config_error(problem));
                }
            }
        }
        let labels: Option<Vec<String>> = labels.into_iter().collect();
        labels
            .filter(|labels| !labels.is_empty())
            .ok_or_else(|| self.config_error("id2label names no label"))
    }

    /// A string in `config.json`, at this path of keys.
    pub fn text(&self, path: &[&str]) -> Option<&str> {
        let found = path.iter().try_fold(&self.config, |value, key| value.get(key));
        found.and_then(Value::as_str)
    }

    /// Whether `config.json` has this key with a value other than null.
    pub fn has(&self, name: &str) -> bool {
        self.config.get(name).is_some_and(|value| !value.is_null())
    }

    /// The value of a key of `config.json`.
    pub fn config_key(&self, name: &str) -> Option<&Value> {
        self.config.get(name)
    }

    /// Whether `config.json` has this key with the value null.
    pub fn is_null(&self, name: &str) -> bool {
        self.config.get(name).is_some_and(Value::is_null)
    }

    /// A boolean in `config.json`, or in its `text_config`.
    pub fn said(&self, name: &str) -> Option<bool> {
        let of_texts = self.config.get("text_config");
        let found = [Some(&self.config), of_texts]
            .into_iter()
            .flatten()
            .find_map(|config| config.get(name));
        found.and_then(Value::as_bool)
    }

    /// A boolean in `config.json`; false if absent.
    pub fn flag(&self, name: &str) -> bool {
        self.config.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// The name of the checkpoint's folder, or of the model in a Hub cache, in lower case.
    pub fn own_name(&self) -> String {
        let dir = fs::canonicalize(&self.dir).unwrap_or_else(|_| self.dir.clone());
        let part = |up: usize| dir.iter().rev().nth(up).map(|part| part.to_string_lossy());
        // In a Hub cache the path is `models--owner--name/snapshots/revision`.
        let is_cache = part(1).is_some_and(|parent| parent == "snapshots");
        let name = part(if is_cache { 2 } else { 0 }).unwrap_or_default().to_lowercase();
        name.rsplit("--").next().unwrap_or_default().to_owned()
    }

    /// Names of the checkpoint, in lower case: [its own](Self::own_name) and `_name_or_path`. The
    /// last resort if its files do not tell what it is.
    pub fn names(&self) -> String {
        let known = self.config.get("_name_or_path").and_then(Value::as_str).unwrap_or_default();
        format!("{} {}", self.own_name(), known.to_lowercase())
    }

    /// Tensors of an extra file beside the weights, `name.safetensors` or `name.pt`, if there is
    /// one.
    ///
    /// # Errors
    /// A damaged file.
    pub fn part(&self, name: &str) -> Result<Option<Weights>, CheckpointError> {
        let paths = ["safetensors", "pt"].map(|kind| self.dir.join(format!("{name}.{kind}")));
        let found = paths.iter().find(|path| is_there(path));
        found.map(|path| Weights::of_file(path)).transpose()
    }

    /// `config.json` as a family's own type.
    ///
    /// # Errors
    /// A missing field, or one of the wrong type.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T, CheckpointError> {
        serde_path_to_error::deserialize(&self.config)
            .map_err(|error| self.config_error(error.to_string()))
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

/// Refuses a folder with an adapter, whose weights would have to be merged into the model's.
///
/// # Errors
/// If there is one; the error names its base model and says what to do.
pub fn adapter(dir: &Path) -> Result<(), CheckpointError> {
    let path = dir.join("adapter_config.json");
    let Some(config) = read_json_if_there::<Value>(&path)? else { return Ok(()) };
    let kind = config.get("peft_type").and_then(Value::as_str).unwrap_or("PEFT");
    let base = config.get("base_model_name_or_path").and_then(Value::as_str);
    let base = base.unwrap_or("a model it does not name");
    let problem = if is_there(&dir.join("config.json")) {
        format!(
            "next to the model is a {kind} adapter of {base}, and adapters are not supported; \
             merge it into the model (merge_and_unload), or remove it to serve the model without it"
        )
    } else {
        format!(
            "this is a {kind} adapter of {base}, not a model, and adapters are not supported; \
             merge it into its base (merge_and_unload) and serve the result"
        )
    };
    Err(CheckpointError::new(path, problem))
}
