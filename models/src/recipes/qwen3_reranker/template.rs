//! Whether a checkpoint's own `chat_template` is the chat that is built in.
//!
//! Must not know: tokens, requests.

use serde_json::Value;

use super::{HEAD, INSTRUCTION, TAIL};
use crate::checkpoint::files::{self, CONFIG_BYTES_MAX, is_there};
use crate::checkpoint::{Checkpoint, CheckpointError};

/// Refuses a template of queries and documents that writes another chat. One of conversations, as
/// Qwen3-Reranker was first published with, says nothing of how pairs are put.
pub fn check(checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
    let dir = checkpoint.transformer_dir();
    let own = dir.join("chat_template.jinja");
    let (path, template) = match is_there(&own) {
        true => {
            let bytes = files::read(&own, CONFIG_BYTES_MAX)?;
            (own, Some(String::from_utf8_lossy(&bytes).into_owned()))
        }
        false => (dir.join("tokenizer_config.json"), of_config(checkpoint)),
    };
    match template.is_none_or(|template| is_built_in(&template)) {
        true => Ok(()),
        false => {
            let problem = "its chat_template differs from Qwen3-Reranker's, which is built in";
            Err(CheckpointError::new(path, problem))
        }
    }
}

/// The template of `tokenizer_config.json`: one, or that of several which is the default.
fn of_config(checkpoint: &Checkpoint) -> Option<String> {
    let template = match &checkpoint.tokenizer_config()["chat_template"] {
        Value::Array(all) => &all.iter().find(|it| it["name"] == "default")?["template"],
        one => one,
    };
    template.as_str().map(str::to_owned)
}

/// Whether a template is not one of pairs, or has the texts of the built-in chat.
fn is_built_in(template: &str) -> bool {
    let template = bare(template);
    let has = |text: &str| template.contains(text);
    let names = |role: &str| has(&format!("'{role}'")) || has(&format!("\"{role}\""));
    if !(names("query") && names("document")) {
        return true;
    }
    let instruction = bare(INSTRUCTION);
    let ends = ["\"", "'", "<"];
    has(&bare(HEAD))
        && has(&bare(TAIL))
        && ends.iter().any(|end| has(&format!("{instruction}{end}")))
}

/// A text without white space, which templates write in several ways, and without escapes.
fn bare(text: &str) -> String {
    let text = text.replace("\\n", "").replace("\\\"", "\"");
    text.split_whitespace().collect()
}
