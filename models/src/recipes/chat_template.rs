//! A checkpoint's own `chat_template`, which sentence-transformers applies to texts and pairs if
//! the transformer takes messages.
//!
//! Must not know: tokens, requests, the content of any template.

use std::path::PathBuf;

use serde_json::Value;

use crate::checkpoint::files::{self, CONFIG_BYTES_MAX, is_there};
use crate::checkpoint::{Checkpoint, CheckpointError};

/// Where transformers keeps further templates; one of the name `default` replaces the others.
const FURTHER: &str = "additional_chat_templates";
const SEVERAL: &str = "there are several chat_templates, or a named one, for which \
    sentence-transformers formats messages differently, which is not supported; keep only one, as \
    chat_template.jinja";

/// The file that holds the template, or would hold it, and the template.
///
/// # Errors
/// A file that cannot be read, or several templates.
pub fn read(checkpoint: &Checkpoint) -> Result<(PathBuf, Option<String>), CheckpointError> {
    let dir = checkpoint.transformer_dir();
    let further = dir.join(FURTHER);
    if is_there(&further) {
        return Err(CheckpointError::new(further, SEVERAL));
    }
    let own = dir.join("chat_template.jinja");
    if is_there(&own) {
        let bytes = files::read(&own, CONFIG_BYTES_MAX)?;
        return Ok((own, Some(String::from_utf8_lossy(&bytes).into_owned())));
    }
    let path = dir.join("tokenizer_config.json");
    match &checkpoint.tokenizer_config()["chat_template"] {
        Value::Null => Ok((path, None)),
        Value::String(template) => Ok((path, Some(template.clone()))),
        _ => Err(CheckpointError::new(path, SEVERAL)),
    }
}

/// For recipes without a chat: refuses a template that sentence-transformers would apply. It
/// applies one if its files list the modality `message` for the transformer, and, for a
/// `cross_encoder`, also if there are no files of that class.
///
/// # Errors
/// Such a template.
pub fn refuse(checkpoint: &Checkpoint, cross_encoder: bool) -> Result<(), CheckpointError> {
    let takes = match checkpoint.sentence_transformers() {
        None => cross_encoder,
        // The class for cross-encoders ignores the files of other classes.
        Some(modules) if cross_encoder && !modules.is_cross_encoder => true,
        Some(modules) => modules.takes_messages == Some(true),
    };
    if !takes {
        return Ok(());
    }
    let (path, template) = read(checkpoint)?;
    match template {
        None => Ok(()),
        Some(_) => Err(CheckpointError::new(
            path,
            "sentence-transformers applies this model's chat_template to texts, as its modality is \
             \"message\" or unspecified, which is not supported; remove the template if the model \
             was trained without it",
        )),
    }
}
