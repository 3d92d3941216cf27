//! Reads drafts from `text`, `image` and `video`, or `content`, or `messages`, or a single part.
//!
//! Must not know: how files are fetched, any particular dialect.

use serde_json::Value;

use super::draft::{Draft, DraftPart, DraftVideo, Object, Problem, Sampling, unknown};
use super::parts::{IMAGES, PLACES, VIDEOS, content, conversation, part};
use super::sources::{images, videos};

impl Draft {
    /// Reads an object with `text`, `image` and `video`, or `content`, or `messages`, or one part
    /// with its `type`.
    ///
    /// # Errors
    /// An unknown key, a value of the wrong type, too many parts, or none.
    pub fn of(mut object: Object) -> Result<Self, Problem> {
        object.retain(|_, value| !value.is_null());
        let instruction = match object.remove("instruction") {
            None => None,
            Some(Value::String(text)) => Some(text),
            Some(_) => return Err("instruction must be a string".into()),
        };
        let sampling = Sampling::take(&mut object)?;
        let mut draft = if let Some(messages) = object.remove("messages") {
            conversation(messages)?
        } else if let Some(parts) = object.remove("content") {
            Self { parts: content(parts)?, instruction: None }.checked()?
        } else if object.contains_key("type") {
            let parts = part(Value::Object(std::mem::take(&mut object)))?;
            Self { parts, instruction: None }.checked()?
        } else {
            // An empty object is still an item: it is up to the model what to make of it.
            Self { parts: fields(&mut object)?, instruction: None }
        };
        if let Some(key) = object.keys().next() {
            return Err(unknown(key, "text, image, video, content, instruction, fps, max_frames"));
        }
        draft.instruction = instruction.or(draft.instruction);
        for part in &mut draft.parts {
            if let DraftPart::Video(video) = part {
                video.sampling = video.sampling.or(sampling);
            }
        }
        draft.counted()
    }
}

/// Takes the parts under `text`, `image` and `video`, or other names of these, out of an object:
/// videos, then images, then texts, as the reference does.
fn fields(object: &mut Object) -> Result<Vec<DraftPart>, Problem> {
    let mut parts = Vec::new();
    let video = |source| DraftPart::Video(DraftVideo { source, sampling: Sampling::default() });
    for key in VIDEOS {
        if let Some(value) = object.remove(key) {
            parts.extend(videos(value)?.into_iter().map(video));
        }
    }
    // An image may be given by its `url` or `bytes` alone, as Jina's clients send it.
    for key in IMAGES.iter().chain(&PLACES).copied() {
        if let Some(value) = object.remove(key) {
            let images = images(value).map_err(|problem| format!("{key}: {problem}"))?;
            parts.extend(images.into_iter().map(DraftPart::Image));
        }
    }
    match object.remove("text") {
        None => {}
        Some(Value::String(text)) => parts.push(DraftPart::Text(text)),
        Some(Value::Array(texts)) => {
            for text in texts {
                let Value::String(text) = text else { return Err(TEXTS.into()) };
                parts.push(DraftPart::Text(text));
            }
        }
        Some(_) => return Err(TEXTS.into()),
    }
    Ok(parts)
}

const TEXTS: &str = "text must be a string or a list of strings";
