//! Documents given back in answers: texts and addresses, not megabytes of files.
//!
//! Must not know: any one dialect.

use serde_json::Value;

use super::draft::Object;
use super::sources::is_url;

/// Bytes of an address that is given back.
const ADDRESS_MAX: usize = 2048;

/// Whether an object is more than what models of texts take: an image or a video, or content with
/// a part that is not a text. Other keys are nothing to a document.
pub fn has_media(object: &Object) -> bool {
    let has = |key: &str| object.get(key).is_some_and(|value| !value.is_null());
    // An address beside a text is where it was found.
    let bare = ["url", "bytes", "type", "messages"];
    if has("image") || has("video") || (!has("text") && bare.into_iter().any(has)) {
        return true;
    }
    match object.get("content") {
        Some(Value::Array(parts)) => !parts.iter().all(is_text),
        Some(Value::String(_) | Value::Object(_)) => !has("text"),
        _ => false,
    }
}

/// Whether a part of content is a text and nothing else.
fn is_text(part: &Value) -> bool {
    let kind = part.get("type").and_then(Value::as_str).unwrap_or("text");
    matches!(kind, "text" | "input_text") && part.get("text").is_some_and(Value::is_string)
}

/// An object as it is given back: without files, with addresses.
pub fn echo(object: &Object) -> Object {
    let kept = object.iter().filter_map(|(key, value)| match key.as_str() {
        "content" => Some((key.clone(), Value::Array(echo_parts(value)))),
        "image" | "video" | "bytes" | "url" => Some((key.clone(), address(value)?)),
        _ => Some((key.clone(), value.clone())),
    });
    kept.collect()
}

/// Parts of content as they are given back.
pub fn echo_parts(content: &Value) -> Vec<Value> {
    let part = |part: &Value| match part {
        Value::Object(part) => echo_part(part),
        Value::String(text) => Value::from(text.as_str()),
        _ => Value::Null,
    };
    match content {
        Value::Array(parts) => parts.iter().map(part).collect(),
        one => vec![part(one)],
    }
}

/// A part as it is given back.
pub fn echo_part(part: &Object) -> Value {
    let kept = part.iter().filter_map(|(key, value)| match key.as_str() {
        "type" | "text" => Some((key.clone(), value.clone())),
        _ => Some((key.clone(), address(value)?)),
    });
    Value::Object(kept.collect())
}

/// What of a value are addresses; `None` if there are none.
fn address(value: &Value) -> Option<Value> {
    match value {
        Value::String(text) if is_url(text) && text.len() <= ADDRESS_MAX => Some(value.clone()),
        Value::Array(values) => {
            let kept: Vec<Value> = values.iter().filter_map(address).collect();
            (!kept.is_empty()).then_some(Value::Array(kept))
        }
        Value::Object(object) => {
            let url = address(object.get("url")?)?;
            Some(Value::Object([("url".to_owned(), url)].into_iter().collect()))
        }
        _ => None,
    }
}
