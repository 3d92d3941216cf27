//! Checks that a checkpoint's own `chat_template` is the built-in chat.
//!
//! Must not know: tokens, requests.

use super::{HEAD, INSTRUCTION, TAIL};
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::recipes::chat_template;

/// Refuses a template that would put pairs into a different chat. A template for conversations, as
/// first published with Qwen3-Reranker, does not tell how pairs are formatted. It is accepted
/// unless the files are those of a sentence-transformers cross-encoder, which applies any template
/// to pairs and uses no chat if there is none.
///
/// # Errors
/// Such a template, a cross-encoder that uses no chat or structured messages, or an unreadable
/// file.
pub fn check(checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
    let (path, template) = chat_template::read(checkpoint)?;
    let modules = checkpoint.sentence_transformers().filter(|modules| modules.is_cross_encoder);
    let without_chat =
        modules.is_some_and(|modules| template.is_none() || modules.takes_messages == Some(false));
    let is_known = template.is_none_or(|template| {
        is_published(&template) || (modules.is_none() && is_of_turns(&template))
    });
    let structured =
        modules.is_some_and(|modules| modules.message_format.as_deref() == Some("structured"));
    let problem = if structured {
        "sentence-transformers gives the parts of this cross-encoder's messages to its \
         chat_template (format is \"structured\"), which is not supported"
    } else if without_chat {
        "sentence-transformers applies no chat template to the pairs of this cross-encoder, as it \
         has no chat_template or no modality \"message\", which is not supported"
    } else if is_known {
        return Ok(());
    } else {
        "its chat_template may differ from the built-in one of Qwen3-Reranker; only an exact copy \
         of the published one is accepted"
    };
    Err(CheckpointError::new(path, problem))
}

/// Whether a template is the one for pairs published with Qwen3-Reranker.
pub fn is_published(template: &str) -> bool {
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
    // Jinja strips one of the trailing newlines.
    template.strip_suffix('\n') == Some(published.concat().as_str())
}

/// Whether a template is for turns of user and assistant, and has no slots for a pair.
fn is_of_turns(template: &str) -> bool {
    let names = |role: &str| {
        ['\'', '"'].iter().any(|quote| template.contains(&format!("{quote}{role}{quote}")))
    };
    names("user") && names("assistant") && !names("query") && !names("document")
}
