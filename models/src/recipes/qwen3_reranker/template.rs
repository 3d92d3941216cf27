//! Whether a checkpoint's own `chat_template` is the chat that is built in.
//!
//! Must not know: tokens, requests.

use serde_json::Value;

use super::{HEAD, INSTRUCTION, TAIL};
use crate::checkpoint::files::{self, CONFIG_BYTES_MAX, is_there};
use crate::checkpoint::{Checkpoint, CheckpointError};

/// Refuses a template that would write a pair into another chat than the one that is built in. One
/// of conversations, as Qwen3-Reranker was first published with, says nothing of how pairs are put.
/// sentence-transformers puts pairs into no chat where a cross-encoder of its own has no template.
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
    let modules = checkpoint.sentence_transformers().filter(|modules| modules.is_cross_encoder);
    let without_chat =
        modules.is_some_and(|it| template.is_none() || it.takes_messages == Some(false));
    let problem = if without_chat {
        "sentence-transformers puts the pairs of this cross-encoder into no chat, as it has no \
         chat_template or no modality \"message\", and that is not served"
    } else if template.is_none_or(|template| is_published(&template) || is_of_turns(&template)) {
        return Ok(());
    } else {
        "its chat_template may differ from Qwen3-Reranker's, which is built in; only the published \
         one, letter by letter, is known to be the same"
    };
    Err(CheckpointError::new(path, problem))
}

/// The template of `tokenizer_config.json`: one, or that of several which is the default.
fn of_config(checkpoint: &Checkpoint) -> Option<String> {
    let template = match &checkpoint.tokenizer_config()["chat_template"] {
        Value::Array(all) => &all.iter().find(|it| it["name"] == "default")?["template"],
        one => one,
    };
    template.as_str().map(str::to_owned)
}

/// Whether a template is that of pairs which Qwen3-Reranker is published with.
fn is_published(template: &str) -> bool {
    let first_of = |name: &str, role: &str, default: &str| {
        format!(
            "{{%- set {name} = messages | selectattr(\"role\", \"eq\", \"{role}\") | \
             map(attribute=\"content\") | first{default} -%}}\n"
        )
    };
    let published = [
        &first_of("instruction", "system", &format!(" | default(\"{INSTRUCTION}\")")),
        &first_of("query_text", "query", ""),
        &first_of("document_text", "document", ""),
        HEAD,
        "<Instruct>: {{ instruction }}\n<Query>: {{ query_text }}\n<Document>: {{ document_text }}",
        TAIL,
    ];
    template.trim_end() == published.concat().trim_end()
}

/// Whether a template is one of turns between user and assistant, which has no place for a pair.
fn is_of_turns(template: &str) -> bool {
    let names =
        |role: &str| ['\'', '"'].iter().any(|it| template.contains(&format!("{it}{role}{it}")));
    names("user") && names("assistant") && !names("query") && !names("document")
}
