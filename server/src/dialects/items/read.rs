//! Reads items from `text`, `image` and `video`, or `content`, or `messages`, or a single part.
//!
//! Must not know: how files are fetched, any particular dialect.

use std::sync::Arc;

use proxima_models::{Item, Part, Video};
use serde_json::Value;

use super::parts::{FILE_KEYS, IMAGES, VIDEOS, content, conversation, part};
use super::pending::{Object, Sampling, Source, checked, counted, unknown};
use super::sources::{images, videos};

/// Reads an object with `text`, `image` and `video`, or `content`, or `messages`, or one part with
/// its `type`.
///
/// # Errors
/// An unknown key, a value of the wrong type, too many parts, or none.
pub fn read_item(mut object: Object) -> Result<Item<Source>, String> {
    object.retain(|_, value| !value.is_null());
    let instruction = match object.remove("instruction") {
        None => None,
        Some(Value::String(text)) => Some(text),
        Some(_) => return Err("instruction must be a string".into()),
    };
    let title = match object.remove("title") {
        None => None,
        Some(Value::String(title)) => Some(title),
        Some(_) => return Err("title must be a string".into()),
    };
    let sampling = Sampling::take(&mut object)?;
    let mut item = if let Some(messages) = object.remove("messages") {
        conversation(messages)?
    } else if let Some(parts) = object.remove("content") {
        checked(content(parts)?.into())?
    } else if object.contains_key("type") {
        checked(part(Value::Object(std::mem::take(&mut object)))?.into())?
    } else {
        // An empty object is still an item: it is up to the model what to make of it.
        fields(&mut object)?.into()
    };
    if let Some(key) = object.keys().next() {
        return Err(unknown(
            key,
            "text, image, video, content, instruction, title, fps, max_frames",
        ));
    }
    item.instruction = instruction.or(item.instruction);
    item.title = title;
    for part in &mut item.parts {
        if let Part::Video(video) = part {
            let Video { fps, frames_max, .. } = Arc::make_mut(video);
            *fps = fps.or(sampling.fps);
            *frames_max = frames_max.or(sampling.frames_max);
        }
    }
    counted(item)
}

/// Takes the parts under `text`, `image` and `video`, or other names of these, out of an object:
/// videos, then images, then texts, as the reference does.
fn fields(object: &mut Object) -> Result<Vec<Part<Source>>, String> {
    let mut parts = Vec::new();
    for key in VIDEOS {
        if let Some(value) = object.remove(key) {
            for source in videos(value)? {
                parts.push(Part::Video(Arc::new(Sampling::default().of(source))));
            }
        }
    }
    // An image may be given by its `url` or `bytes` alone, as Jina's clients send it.
    for key in IMAGES.iter().chain(&FILE_KEYS).copied() {
        if let Some(value) = object.remove(key) {
            let images = images(value).map_err(|problem| format!("{key}: {problem}"))?;
            parts.extend(images.into_iter().map(Part::Image));
        }
    }
    match object.remove("text") {
        None => {}
        Some(Value::String(text)) => parts.push(Part::Text(text.into())),
        Some(Value::Array(texts)) => {
            for text in texts {
                let Value::String(text) = text else { return Err(TEXTS.into()) };
                parts.push(Part::Text(text.into()));
            }
        }
        Some(_) => return Err(TEXTS.into()),
    }
    Ok(parts)
}

const TEXTS: &str = "text must be a string or a list of strings";
