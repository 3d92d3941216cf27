//! Images and videos as written in JSON.
//!
//! Must not know: how files are fetched, any particular dialect.

use proxima_models::VideoSource;
use serde_json::Value;

use super::pending::{Source, unknown};

/// File extensions of images and videos.
const IMAGE_ENDS: [&str; 10] =
    ["png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff", "ico", "avif"];
const VIDEO_ENDS: [&str; 11] =
    ["mp4", "m4v", "mov", "avi", "mkv", "webm", "mpg", "mpeg", "flv", "wmv", "ts"];

const EXPECTED: &str =
    "expected a data URI, a URL or base64, as a string or as {\"url\": ..} or {\"bytes\": ..}";

/// One file: a string, or an object with its `url` or `bytes`.
pub fn source(value: Value) -> Result<Source, String> {
    let mut object = match value {
        Value::String(text) => return Ok(Source::Written(text)),
        Value::Object(object) => object,
        _ => return Err(EXPECTED.into()),
    };
    let written = (object.remove("url"), object.remove("bytes"));
    // OpenAI's clients add it: the resolution to look at.
    object.remove("detail");
    if let Some(key) = object.keys().next() {
        return Err(unknown(key, "url and bytes"));
    }
    match written {
        (Some(Value::String(text)), None) | (None, Some(Value::String(text))) => {
            Ok(Source::Written(text))
        }
        _ => Err(EXPECTED.into()),
    }
}

/// One image or a list of them.
pub fn images(value: Value) -> Result<Vec<Source>, String> {
    match value {
        Value::Array(images) => listed("image", images),
        one => Ok(vec![source(one)?]),
    }
}

fn listed(what: &str, values: Vec<Value>) -> Result<Vec<Source>, String> {
    let sources = values.into_iter().enumerate().map(|(index, value)| {
        source(value).map_err(|problem: String| format!("{what} {index}: {problem}"))
    });
    sources.collect()
}

/// The videos of a value. A string or object is one file. A list whose first entry is an image is
/// one video of frames; if that entry is a list or a video, each entry is a video.
///
/// Everything counts as an image except what is recognisably a video: a data URI of a type other
/// than `image/`, a URL without an image's extension, a path with a video's extension; an object
/// only if its URL has a video's extension or is such a data URI.
pub fn videos(value: Value) -> Result<Vec<VideoSource<Source>>, String> {
    let several = match value {
        Value::Array(entries) => match entries.first() {
            None => return Err("video is an empty list".into()),
            Some(first) if is_image(first) => {
                return Ok(vec![VideoSource::Frames(listed("frame", entries)?)]);
            }
            Some(_) => entries,
        },
        one => {
            let file = source(one).map_err(|problem| format!("video: {problem}"))?;
            return Ok(vec![VideoSource::File(file)]);
        }
    };
    let video = |(index, value)| {
        let video = match value {
            Value::Array(frames) if frames.is_empty() => Err("it is an empty list".into()),
            Value::Array(frames) => listed("frame", frames).map(VideoSource::Frames),
            one => source(one).map(VideoSource::File),
        };
        video.map_err(|problem: String| format!("video {index}: {problem}"))
    };
    several.into_iter().enumerate().map(video).collect()
}

/// Whether the first entry of a list makes it the frames of one video.
fn is_image(value: &Value) -> bool {
    match value {
        Value::String(text) if is_url(text) => ends(text.trim(), &IMAGE_ENDS),
        Value::String(text) => !is_other_data(text.trim()) && !ends(text.trim(), &VIDEO_ENDS),
        Value::Object(object) => match object.get("url") {
            Some(Value::String(url)) => {
                !is_other_data(url.trim()) && !ends(url.trim(), &VIDEO_ENDS)
            }
            _ => true,
        },
        _ => false,
    }
}

/// Whether a text is an `http` or `https` URL.
pub fn is_url(text: &str) -> bool {
    let text = text.trim_start();
    let begins = |scheme: &str| {
        text.get(..scheme.len()).is_some_and(|head| head.eq_ignore_ascii_case(scheme))
    };
    begins("http://") || begins("https://")
}

/// Whether a text is a data URI of anything but an image.
fn is_other_data(text: &str) -> bool {
    text.starts_with("data:") && !text.starts_with("data:image/")
}

/// Whether a path, or the path of a URL, has one of these extensions.
fn ends(url: &str, with: &[&str]) -> bool {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let end = path.rsplit('/').next().and_then(|name| name.rsplit_once('.'));
    end.is_some_and(|(_, end)| with.iter().any(|known| end.eq_ignore_ascii_case(known)))
}
