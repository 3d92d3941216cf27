//! Parts of a message's content, and conversations.
//!
//! Must not know: how files are fetched, any particular dialect.

use std::sync::Arc;

use proxima_models::{Item, Part};
use serde_json::Value;

use super::pending::{Object, Sampling, Source, checked, unknown};
use super::sources::{source, videos};

/// Types of text parts.
pub const TEXTS: [&str; 2] = ["text", "input_text"];
/// Types of image parts, and the keys of their content.
pub const IMAGES: [&str; 4] = ["image_url", "image", "image_base64", "input_image"];
/// Types of video parts, and the keys of their content.
pub const VIDEOS: [&str; 4] = ["video_url", "video", "video_base64", "input_video"];
/// Whether a part's type, or a key, denotes an image or a video.
pub fn is_of_media(name: &str) -> bool {
    IMAGES.contains(&name) || VIDEOS.contains(&name)
}

/// Other keys that may hold an image or a video.
pub const FILE_KEYS: [&str; 2] = ["url", "bytes"];
/// Keys that have no effect here.
const HARMLESS: [&str; 3] = ["detail", "uuid", "cache_control"];

const SERVED: &str =
    "text, image_url, image, input_image, image_base64, video_url, video and video_base64";

/// The parts of a message's content: a text, a part, or a list of parts.
pub fn content(value: Value) -> Result<Vec<Part<Source>>, String> {
    match value {
        Value::String(text) => Ok(vec![Part::Text(text.into())]),
        Value::Array(values) => {
            let mut parts = Vec::with_capacity(values.len());
            for (index, value) in values.into_iter().enumerate() {
                parts.extend(part(value).map_err(|problem| format!("part {index}: {problem}"))?);
            }
            Ok(parts)
        }
        value @ Value::Object(_) => part(value),
        _ => Err("content must be a string or a list of parts".into()),
    }
}

/// One part; if it states no type, its keys determine it. A video part may be several videos.
pub fn part(value: Value) -> Result<Vec<Part<Source>>, String> {
    let mut object = match value {
        Value::Object(object) => object,
        Value::String(text) => return Ok(vec![Part::Text(text.into())]),
        _ => return Err("a part must be an object with a type".into()),
    };
    object.retain(|key, value| !value.is_null() && !HARMLESS.contains(&key.as_str()));
    let kind = kind(&mut object)?;
    let kind = kind.as_str();
    let (parts, known) = if TEXTS.contains(&kind) {
        let text = match object.remove("text") {
            Some(Value::String(text)) => Part::Text(text.into()),
            _ => return Err(format!("a part of type {kind} needs a string \"text\"")),
        };
        (vec![text], "type and text")
    } else if IMAGES.contains(&kind) {
        let file = payload(&mut object, kind, &IMAGES)?;
        (vec![Part::Image(source(file)?)], "type and a key named after the type")
    } else if VIDEOS.contains(&kind) {
        let file = payload(&mut object, kind, &VIDEOS)?;
        let sampling = Sampling::take(&mut object)?;
        let videos = videos(file)?.into_iter();
        let videos = videos.map(|source| Part::Video(Arc::new(sampling.of(source))));
        (videos.collect(), "type, a key named after the type, fps and max_frames")
    } else {
        return Err(format!("parts of type {kind:.40?} are not supported; use {SERVED}"));
    };
    match object.keys().next() {
        Some(key) => Err(unknown(key, known)),
        None => Ok(parts),
    }
}

/// Takes the type out of a part.
fn kind(object: &mut Object) -> Result<String, String> {
    match object.remove("type") {
        Some(Value::String(kind)) => Ok(kind),
        Some(_) => Err("the type of a part must be a string".into()),
        None => {
            let kinds = TEXTS.iter().chain(&IMAGES).chain(&VIDEOS);
            let kind = kinds.copied().find(|kind| object.contains_key(*kind));
            kind.map(str::to_owned).ok_or_else(|| format!("a part needs a type: {SERVED}"))
        }
    }
}

/// Takes the content out of a part of this type, from the key of that name or one of these.
fn payload(object: &mut Object, kind: &str, keys: &[&str]) -> Result<Value, String> {
    let keys = std::iter::once(&kind).chain(keys).chain(&FILE_KEYS);
    let found = keys.copied().find(|key| object.contains_key(*key));
    let value = found.and_then(|key| object.remove(key));
    value.ok_or_else(|| format!("a part of type {kind} needs a key {kind:?}"))
}

/// The item of a conversation: the parts of a user message, optionally after a system message,
/// which is the instruction, and before an empty assistant message.
pub fn conversation(value: Value) -> Result<Item<Source>, String> {
    let Value::Array(messages) = value else {
        return Err("messages must be a list of objects with role and content".into());
    };
    let (mut item, mut asked) = (Item::default(), false);
    for (index, message) in messages.into_iter().enumerate() {
        let named = |problem: String| format!("message {index}: {problem}");
        let (role, parts) = message_of(message).map_err(named)?;
        match role.as_str() {
            "system" | "developer" if item.instruction.is_none() => {
                item.instruction = Some(texts(&parts).ok_or_else(|| {
                    named("a system message is the instruction: it may have texts only".into())
                })?);
            }
            "user" if !asked => {
                item.parts = parts;
                asked = true;
            }
            "assistant" if texts(&parts).is_some_and(|text| text.is_empty()) => {}
            "assistant" => return Err(named("an assistant message must be empty".into())),
            "system" | "developer" | "user" => {
                return Err(named(format!(
                    "a second message of role {role}; an input is one user message, with at most \
                     one system message before it"
                )));
            }
            _ => {
                let message = format!("role {role:.40?} is unknown; use system, user or assistant");
                return Err(named(message));
            }
        }
    }
    if !asked {
        return Err("there is no user message".into());
    }
    checked(item)
}

/// The role of a message, and its parts.
fn message_of(message: Value) -> Result<(String, Vec<Part<Source>>), String> {
    let Value::Object(mut message) = message else {
        return Err("expected an object with role and content".into());
    };
    let Some(Value::String(role)) = message.remove("role") else {
        return Err("it has no role".into());
    };
    let parts = match message.remove("content") {
        None | Some(Value::Null) => Vec::new(),
        Some(value) => content(value)?,
    };
    Ok((role, parts))
}

/// All texts concatenated, if there is nothing else.
fn texts(parts: &[Part<Source>]) -> Option<String> {
    let texts = parts.iter().map(|part| match part {
        Part::Text(text) => Some(&**text),
        _ => None,
    });
    texts.collect()
}
