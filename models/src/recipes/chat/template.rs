//! Checks that a checkpoint's own `chat_template` writes the built-in chat.
//!
//! Must not know: tokens, requests, which recipe uses it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};

use minijinja::value::Serde;

use crate::checkpoint::{Checkpoint, CheckpointError, read_json_if_there};
use crate::recipes::chat_template;
use crate::recipes::jinja::{Template, TemplateInput};

/// Refuses a template that writes a different chat. It renders a system turn and a user turn of
/// texts, an image and a video; the result must equal what the recipes write.
///
/// # Errors
/// Such a template, one that cannot be rendered, files that put inputs into no chat, or an
/// unreadable file.
pub fn check(checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
    let modules = checkpoint.sentence_transformers();
    if modules.is_some_and(|modules| modules.takes_messages == Some(false)) {
        return Err(CheckpointError::new(
            checkpoint.dir(),
            "its modality_config has no \"message\", so sentence-transformers applies no chat \
             template to inputs, which is not supported",
        ));
    }
    let Some((path, template)) = read(checkpoint)? else { return Ok(()) };
    let part = |kind: &str, content: &str| json!({ "type": kind, kind: content });
    let messages = [
        json!({ "role": "system", "content": [part("text", "A system.")] }),
        json!({ "role": "user", "content": [
            part("text", "one "),
            part("image", "file"),
            part("text", " two\n"),
            part("video", "file"),
            part("text", "three"),
        ] }),
    ];
    let messages = messages.into_iter().map(|message| Serde(&message).into()).collect();
    let built_in = "<|im_start|>system\nA system.<|im_end|>\n<|im_start|>user\n\
        one <|vision_start|><|image_pad|><|vision_end|> two\n\
        <|vision_start|><|video_pad|><|vision_end|>three<|im_end|>\n<|im_start|>assistant\n";
    let tokens = BTreeMap::new();
    let chat = TemplateInput { messages, bytes: 0, add_generation_prompt: true, tokens: &tokens };
    let problem = match Template::new(&template).and_then(|template| template.render(chat)) {
        Ok(chat) if chat == built_in => return Ok(()),
        Ok(_) => "its chat_template produces a different chat from the built-in one of Qwen3-VL, \
                  which is not supported"
            .to_owned(),
        Err(problem) => format!(
            "its chat_template cannot be rendered, so it cannot be compared with the built-in one: \
             {problem}"
        ),
    };
    Err(CheckpointError::new(path, problem))
}

/// The template that transformers' processor uses, and its file.
fn read(checkpoint: &Checkpoint) -> Result<Option<(PathBuf, String)>, CheckpointError> {
    let (path, template) = chat_template::read(checkpoint)?;
    let is_of_tokenizer = path.ends_with("tokenizer_config.json");
    if !is_of_tokenizer {
        return Ok(template.map(|template| (path, template)));
    }
    for name in ["chat_template.json", "processor_config.json"] {
        let path = checkpoint.transformer_dir().join(name);
        let content: Option<Value> = read_json_if_there(&path)?;
        let template = content.as_ref().and_then(|content| content["chat_template"].as_str());
        if let Some(template) = template {
            return Ok(Some((path, template.to_owned())));
        }
    }
    Ok(template.map(|template| (path, template)))
}
