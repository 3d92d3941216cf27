//! Documents that are objects: which of them are items rather than texts with metadata, and how
//! they are returned: with texts and URLs, without the bytes of files.
//!
//! Must not know: any particular dialect.

use serde_json::Value;

use super::parts::{FILE_KEYS, is_of_media};
use super::pending::Object;
use super::sources::is_url;

/// Maximum bytes of a returned URL.
const ADDRESS_MAX: usize = 2048;

/// Whether an object is read as an item, where every key counts, rather than as a text whose other
/// keys are ignored.
pub fn is_item(object: &Object) -> bool {
    let has = |key: &str| object.get(key).is_some_and(|value| !value.is_null());
    let listed = |key: &str| object.get(key).is_some_and(Value::is_array);
    // A URL next to a text states where the text was found.
    let bare = ["url", "bytes", "type", "messages", "content"];
    has_media(object)
        || listed("content")
        || listed("messages")
        || (!has("text") && bare.into_iter().any(has))
}

/// Whether an object has an image or a video. A URL alone is neither.
pub fn has_media(object: &Object) -> bool {
    object.iter().any(|(key, value)| match key.as_str() {
        _ if value.is_null() => false,
        key if is_of_media(key) => true,
        "bytes" => !(value.is_number() || value.is_boolean()),
        "url" => is_data(value),
        "content" | "messages" => holds_media(value),
        _ => false,
    })
}

/// Whether a part, a message, or an entry of a list has an image or a video.
fn holds_media(value: &Value) -> bool {
    match value {
        Value::Object(object) => {
            let kind = object.get("type").and_then(Value::as_str).unwrap_or_default();
            has_media(object) || (is_of_media(kind) && object.contains_key("url"))
        }
        Value::Array(values) => values.iter().any(holds_media),
        _ => false,
    }
}

/// Whether the value given for a URL is a file itself.
fn is_data(value: &Value) -> bool {
    match value {
        Value::String(text) => {
            text.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"))
        }
        Value::Array(values) => values.iter().any(is_data),
        Value::Object(object) => {
            object.contains_key("bytes") || object.get("url").is_some_and(is_data)
        }
        _ => false,
    }
}

/// An object as it is returned: without files, with URLs.
pub fn echo(object: &Object) -> Object {
    let kept = object.iter().filter_map(|(key, value)| match key.as_str() {
        "content" => Some((key.clone(), echo_content(value))),
        "messages" => Some((key.clone(), echo_messages(value))),
        file if is_of_media(file) || FILE_KEYS.contains(&file) => {
            Some((key.clone(), address(value)?))
        }
        _ => Some((key.clone(), value.clone())),
    });
    kept.collect()
}

fn echo_messages(messages: &Value) -> Value {
    let message = |message: &Value| match message {
        Value::Object(message) => Value::Object(echo(message)),
        _ => Value::Null,
    };
    match messages {
        Value::Array(messages) => messages.iter().map(message).collect(),
        one => message(one),
    }
}

fn echo_content(content: &Value) -> Value {
    match content {
        Value::String(_) => content.clone(),
        content => Value::Array(echo_parts(content)),
    }
}

/// Parts of content as they are returned.
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

/// A part as it is returned.
pub fn echo_part(part: &Object) -> Value {
    let kept = part.iter().filter_map(|(key, value)| match key.as_str() {
        "type" | "text" => Some((key.clone(), value.clone())),
        _ => Some((key.clone(), address(value)?)),
    });
    Value::Object(kept.collect())
}

/// The URLs in a value; `None` if there are none.
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
