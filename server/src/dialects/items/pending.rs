//! A multi-part input as it was sent, before any of its files is fetched.
//!
//! Must not know: how files are fetched, any particular dialect.

use proxima_models::{Content, Input};
use serde_json::Value;

/// Maximum parts of one item.
const PARTS_MAX: usize = 1024;
/// Maximum images and videos of one item, not counting frames.
const MEDIA_MAX: usize = 64;
/// Maximum frames of one item's videos that are sent as images.
const FRAMES_MAX: usize = 768;

/// A JSON object as it was sent.
pub type Object = serde_json::Map<String, Value>;

/// What is wrong with an item; completes a sentence that begins with the item's name.
pub type Problem = String;

/// Where the bytes of a file are.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// A data URI, a URL, or base64.
    Written(String),
    /// The bytes themselves.
    Bytes(Vec<u8>),
}

/// A part of a [`Draft`].
#[derive(Debug, Clone, PartialEq)]
pub enum DraftPart {
    /// A text.
    Text(String),
    /// An image.
    Image(Source),
    /// A video.
    Video(DraftVideo),
}

/// A video whose files are not fetched yet.
#[derive(Debug, Clone, PartialEq)]
pub struct DraftVideo {
    /// Its frames.
    pub source: DraftFrames,
    /// How it is sampled.
    pub sampling: Sampling,
}

/// Where a video's frames are.
#[derive(Debug, Clone, PartialEq)]
pub enum DraftFrames {
    /// Images, in order.
    Frames(Vec<Source>),
    /// One file.
    File(Source),
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
    pub fn take(object: &mut Object) -> Result<Self, Problem> {
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

    /// This sampling, falling back to that of `other`.
    pub fn or(self, other: Self) -> Self {
        Self { fps: self.fps.or(other.fps), frames_max: self.frames_max.or(other.frames_max) }
    }
}

/// A multi-part input whose files are not fetched yet.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Draft {
    /// Its parts, in order.
    pub parts: Vec<DraftPart>,
    /// Its own instruction.
    pub instruction: Option<String>,
}

impl Draft {
    /// An item of one image.
    pub fn image(source: Source) -> Self {
        Self { parts: vec![DraftPart::Image(source)], instruction: None }
    }

    /// Checks that it has parts, and not too many.
    pub fn checked(self) -> Result<Self, Problem> {
        if self.parts.is_empty() {
            return Err("it has no text, image or video".into());
        }
        self.counted()
    }

    /// Checks that it does not have too many parts.
    pub(super) fn counted(self) -> Result<Self, Problem> {
        let (parts, media, frames) = (self.parts.len(), self.media(), self.frames());
        if parts > PARTS_MAX {
            return Err(format!("{parts} parts are more than the limit of {PARTS_MAX}"));
        }
        if media > MEDIA_MAX {
            return Err(format!(
                "{media} images and videos are more than the limit of {MEDIA_MAX}"
            ));
        }
        if frames > FRAMES_MAX {
            return Err(format!("{frames} frames are more than the limit of {FRAMES_MAX}"));
        }
        Ok(self)
    }

    /// The number of images and videos.
    fn media(&self) -> usize {
        self.parts.iter().filter(|part| !matches!(part, DraftPart::Text(_))).count()
    }

    /// The number of video frames that were sent as images.
    fn frames(&self) -> usize {
        let frames = self.parts.iter().map(|part| match part {
            DraftPart::Video(DraftVideo { source: DraftFrames::Frames(frames), .. }) => {
                frames.len()
            }
            _ => 0,
        });
        frames.sum()
    }

    /// The number of files needed.
    pub fn files(&self) -> usize {
        let files = self.parts.iter().map(|part| match part {
            DraftPart::Text(_) => 0,
            DraftPart::Image(_) => 1,
            DraftPart::Video(video) => match &video.source {
                DraftFrames::Frames(frames) => frames.len(),
                DraftFrames::File(_) => 1,
            },
        });
        files.sum()
    }

    /// Its text, if it is a single text and nothing else.
    pub fn into_text(mut self) -> Result<String, Self> {
        if self.instruction.is_some() || self.parts.len() != 1 {
            return Err(self);
        }
        match self.parts.pop() {
            Some(DraftPart::Text(text)) => Ok(text),
            other => {
                self.parts.extend(other);
                Err(self)
            }
        }
    }
}

/// A value that is ready, or one that needs files first.
#[derive(Debug, Clone, PartialEq)]
pub enum Drafted<T> {
    /// Ready.
    Ready(T),
    /// It needs files, or is more than a text.
    Item(Draft),
}

impl From<Draft> for Drafted<Input> {
    fn from(draft: Draft) -> Self {
        draft.into_text().map_or_else(Self::Item, |text| Self::Ready(Input::Text(text)))
    }
}

impl From<Draft> for Drafted<Content> {
    fn from(draft: Draft) -> Self {
        draft.into_text().map_or_else(Self::Item, |text| Self::Ready(text.into()))
    }
}

/// The problem of an unknown key, which is shortened if it is long.
pub fn unknown(key: &str, known: &str) -> Problem {
    // The Hub's own clients send these for sentence similarity.
    let hint = match key {
        "source_sentence" | "sentences" => "; POST /similarity compares sentences",
        _ => "",
    };
    format!("the key {key:.40?} does not belong there; known are {known}{hint}")
}
