//! What is done with every key of a checkpoint's configuration files.
//!
//! Must not know: what a family computes, how values are checked.

use std::path::Path;

use serde_json::{Map, Value};

use super::keys::{Key, Rule, config, files as tables};
use super::sentence::LENGTH_FILES;
use super::{Checkpoint, CheckpointError, files};

/// What is done with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handling {
    /// It is read, or checked to be what the code computes.
    Read,
    /// It does not change results; why.
    NoEffect(&'static str),
    /// It is in no table and ignored.
    Unknown,
}

/// A key of a file, and what is done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyUse {
    /// The file, relative to the checkpoint's folder.
    pub file: String,
    /// The key, preceded by those of the objects that contain it.
    pub key: String,
    /// What is done with it.
    pub handling: Handling,
}

impl Checkpoint {
    /// All keys of its configuration files, with what its family (`config`: its own keys of
    /// `config.json`; `others`: its other files) does with them.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn key_uses(
        &self,
        config: &[Key],
        others: &[(&str, &[&[Key]])],
    ) -> Result<Vec<KeyUse>, CheckpointError> {
        let mut uses = Vec::new();
        let transformer = self.transformer_dir();
        let mut add = |path: &Path, tables: &[&[Key]]| {
            let Some(content) = files::read_json_if_there::<Value>(path)? else { return Ok(()) };
            let file = path.strip_prefix(self.dir()).unwrap_or(path).to_string_lossy().into_owned();
            if let Value::Object(keys) = &content {
                add_uses(&file, "", keys, tables, &mut uses);
            }
            Ok(())
        };
        add(&transformer.join("config.json"), &[config, config::COMMON, config::GENERATING])?;
        for (name, tables) in others {
            add(&transformer.join(name), tables)?;
        }
        add(&transformer.join("tokenizer_config.json"), &[tables::TOKENIZER])?;
        let settings = self.dir().join("config_sentence_transformers.json");
        add(&settings, &[tables::SENTENCE_TRANSFORMERS])?;
        for name in LENGTH_FILES {
            add(&transformer.join(name), &[tables::TRANSFORMER])?;
        }
        for (folder, kind) in self.modules()? {
            if let Some(table) = module_table(&kind) {
                add(&self.dir().join(folder).join("config.json"), &[table])?;
            }
        }
        Ok(uses)
    }

    /// The path and type of each module of sentence-transformers.
    fn modules(&self) -> Result<Vec<(String, String)>, CheckpointError> {
        let path = self.dir().join("modules.json");
        let entries: Vec<Value> = files::read_json_if_there(&path)?.unwrap_or_default();
        let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        Ok(entries.iter().map(|entry| (text(entry, "path"), text(entry, "type"))).collect())
    }
}

/// The keys of a module's `config.json`, by its type; `None` for modules without one of their own.
fn module_table(kind: &str) -> Option<&'static [Key]> {
    match kind.rsplit('.').next()? {
        "Pooling" => Some(tables::POOLING),
        "Dense" => Some(tables::DENSE),
        "Normalize" => Some(tables::NORMALIZE),
        "Dropout" => Some(tables::DROPOUT),
        "LayerNorm" => Some(tables::LAYER_NORM),
        "LogitScore" => Some(tables::LOGIT_SCORE),
        "SpladePooling" => Some(tables::SPLADE_POOLING),
        _ => None,
    }
}

/// Adds the keys of an object; `within` is the object's name followed by a dot.
fn add_uses(
    file: &str,
    within: &str,
    keys: &Map<String, Value>,
    tables: &[&[Key]],
    uses: &mut Vec<KeyUse>,
) {
    for (key, value) in keys {
        let name = format!("{within}{key}");
        let rule = tables.iter().copied().flatten().find(|(known, _)| known == key);
        let handling = match (rule.map(|(_, rule)| rule), value) {
            (Some(Rule::Object(inner) | Rule::Closed(inner)), Value::Object(keys)) => {
                add_uses(file, &format!("{name}."), keys, inner, uses);
                continue;
            }
            (Some(Rule::NoEffect(why)), _) => Handling::NoEffect(why),
            (Some(_), _) => Handling::Read,
            // A tokenizer's tokens are read by whatever key they have.
            (None, Value::String(_) | Value::Object(_))
                if key.ends_with("_token") && file.ends_with("tokenizer_config.json") =>
            {
                Handling::Read
            }
            (None, _) => Handling::Unknown,
        };
        uses.push(KeyUse { file: file.to_owned(), key: name, handling });
    }
}
