//! Reads the files that records name: a command run locally may read them.
//!
//! Must not know: how records are read.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use proxima_models::{Input, Item, MediaFile, Part, Video, VideoSource};

use super::read::Body;
use crate::dialects::items::{Draft, DraftFrames, DraftPart, Source};

/// The input of a record, with its files read.
///
/// # Errors
/// A file cannot be read.
pub fn input(body: Body, folder: &Path) -> Result<Input, String> {
    match body {
        Body::Text(text) => Ok(Input::Text(text)),
        Body::Item(draft) => Ok(Input::Item(Arc::new(item(draft, folder)?))),
    }
}

fn item(draft: Draft, folder: &Path) -> Result<Item, String> {
    let read = |source| file(source, folder);
    let parts = draft.parts.into_iter().map(|part| match part {
        DraftPart::Text(text) => Ok(Part::Text(text.into())),
        DraftPart::Image(source) => read(source).map(Part::Image),
        DraftPart::Video(video) => {
            let source = match video.source {
                DraftFrames::File(source) => VideoSource::File(read(source)?),
                DraftFrames::Frames(frames) => {
                    VideoSource::Frames(frames.into_iter().map(read).collect::<Result<_, _>>()?)
                }
            };
            let (fps, frames_max) = (video.sampling.fps, video.sampling.frames_max);
            Ok(Part::Video(Arc::new(Video { source, fps, frames_max })))
        }
    });
    Ok(Item { parts: parts.collect::<Result<_, String>>()?, instruction: draft.instruction })
}

fn file(source: Source, folder: &Path) -> Result<Arc<MediaFile>, String> {
    let bytes = match source {
        Source::Bytes(bytes) => bytes,
        Source::Written(path) => {
            // Joining an absolute path replaces the folder.
            let path = folder.join(path);
            fs::read(&path).map_err(|error| format!("{:.200}: {error}", path.display()))?
        }
    };
    Ok(Arc::new(MediaFile::new(bytes)))
}
