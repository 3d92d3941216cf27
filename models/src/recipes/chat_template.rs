//! A checkpoint's own `chat_template`, which sentence-transformers puts texts and pairs through
//! where the transformer takes messages.
//!
//! Must not know: tokens, requests, what any one template says.

use std::path::PathBuf;

use serde_json::Value;

use crate::checkpoint::files::{self, CONFIG_BYTES_MAX, is_there};
use crate::checkpoint::{Checkpoint, CheckpointError};

/// The file that a template is in, or would be, and the template.
///
/// # Errors
/// A file that cannot be read.
pub fn read(checkpoint: &Checkpoint) -> Result<(PathBuf, Option<String>), CheckpointError> {
    let dir = checkpoint.transformer_dir();
    let own = dir.join("chat_template.jinja");
    if is_there(&own) {
        let bytes = files::read(&own, CONFIG_BYTES_MAX)?;
        return Ok((own, Some(String::from_utf8_lossy(&bytes).into_owned())));
    }
    Ok((dir.join("tokenizer_config.json"), of_config(checkpoint)))
}

/// The template of `tokenizer_config.json`: one, or that of several which is the default.
fn of_config(checkpoint: &Checkpoint) -> Option<String> {
    let template = match &checkpoint.tokenizer_config()["chat_template"] {
        Value::Array(all) => &all.iter().find(|it| it["name"] == "default")?["template"],
        one => one,
    };
    template.as_str().map(str::to_owned)
}

/// Refuses a template that sentence-transformers would use, for a recipe that makes no chat. It
/// uses one where its files give the transformer the modality `message`, and for a `cross_encoder`
/// also where there are no files of its class.
///
/// # Errors
/// Such a template.
pub fn refuse(checkpoint: &Checkpoint, cross_encoder: bool) -> Result<(), CheckpointError> {
    let takes = match checkpoint.sentence_transformers() {
        None => cross_encoder,
        // Its class for cross-encoders does not read the files of others.
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
            "sentence-transformers puts this model's texts into its chat_template, as its modality \
             is \"message\" or is not said, and that is not served; remove the template if the \
             model was trained without it",
        )),
    }
}
