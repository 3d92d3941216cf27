//! Multi-part inputs as they were sent, before any of their files is fetched: where their files
//! are, and the limits of their parts.
//!
//! Must not know: how files are fetched, any particular dialect.

use proxima_models::{Item, Part, Video, VideoSource};
use serde_json::Value;

/// Maximum parts of one item.
const PARTS_MAX: usize = 1024;
/// Maximum images and videos of one item, not counting frames.
const MEDIA_MAX: usize = 64;
/// Maximum frames of one item's videos that are sent as images.
const FRAMES_MAX: usize = 768;

/// A JSON object as it was sent.
pub type Object = serde_json::Map<String, Value>;

/// Where the bytes of a file are.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// A data URI, a URL, or base64.
    Written(String),
    /// The bytes themselves.
    Bytes(Vec<u8>),
}

/// How a video is sampled.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sampling {
    /// Frames taken per second of a file.
    pub fps: Option<f64>,
    /// Maximum frames taken of a file.
    pub frames_max: Option<usize>,
}

impl Sampling {
    /// Takes `fps` and `max_frames` out of an object.
    pub fn take(object: &mut Object) -> Result<Self, String> {
        let fps = match object.remove("fps") {
            None | Some(Value::Null) => None,
            Some(value) => match value.as_f64() {
                Some(fps) if fps > 0.0 => Some(fps),
                _ => return Err("fps must be a number above 0".into()),
            },
        };
        let frames_max = match object.remove("max_frames") {
            None | Some(Value::Null) => None,
            Some(value) => match value.as_u64().and_then(|count| usize::try_from(count).ok()) {
                Some(count) if count > 0 => Some(count),
                _ => return Err("max_frames must be a whole number, at least 1".into()),
            },
        };
        Ok(Self { fps, frames_max })
    }

    /// The video of these files, sampled so.
    pub fn of<F>(self, source: VideoSource<F>) -> Video<F> {
        Video { source, fps: self.fps, frames_max: self.frames_max }
    }
}

/// Checks that an item has parts, and not too many.
///
/// # Errors
/// It has none, or too many.
pub fn checked(item: Item<Source>) -> Result<Item<Source>, String> {
    if item.parts.is_empty() {
        return Err("it has no text, image or video".into());
    }
    counted(item)
}

/// Checks that an item does not have too many parts.
///
/// # Errors
/// It has too many parts, images and videos, or frames.
pub fn counted(item: Item<Source>) -> Result<Item<Source>, String> {
    let (parts, mut media, mut frames) = (item.parts.len(), 0, 0);
    for part in &item.parts {
        media += usize::from(!matches!(part, Part::Text(_)));
        if let Part::Video(video) = part
            && let VideoSource::Frames(files) = &video.source
        {
            frames += files.len();
        }
    }
    if parts > PARTS_MAX {
        return Err(format!("{parts} parts are more than the limit of {PARTS_MAX}"));
    }
    if media > MEDIA_MAX {
        return Err(format!("{media} images and videos are more than the limit of {MEDIA_MAX}"));
    }
    if frames > FRAMES_MAX {
        return Err(format!("{frames} frames are more than the limit of {FRAMES_MAX}"));
    }
    Ok(item)
}

/// The problem of an unknown key, which is shortened if it is long.
pub fn unknown(key: &str, known: &str) -> String {
    // The Hub's own clients send these for sentence similarity.
    let hint = match key {
        "source_sentence" | "sentences" => "; POST /similarity compares sentences",
        _ => "",
    };
    format!("the key {key:.40?} is unknown here; known are {known}{hint}")
}
