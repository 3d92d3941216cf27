//! The interface of video file readers.
//!
//! Must not know: how files are read, which frames a model wants.

use std::fmt;
use std::sync::Arc;

use super::MediaError;

/// Properties of a video file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VideoInfo {
    /// Number of frames of the first video stream.
    pub frames: usize,
    /// Average frames per second.
    pub fps: f64,
    /// Columns of a frame.
    pub width: usize,
    /// Rows of a frame.
    pub height: usize,
}

/// Receives a decoded frame: its index in the file and its pixels, `[height][width][3]`.
pub type TakeFrame<'a> = dyn FnMut(usize, &[u8]) -> Result<(), MediaError> + 'a;

/// Reads video files. Called from several CPU threads at once.
pub trait VideoReader: fmt::Debug + Send + Sync {
    /// A reader for the videos of one input, if they share a limit.
    fn of_input(&self) -> Option<Arc<dyn VideoReader>> {
        None
    }

    /// The properties of a file.
    ///
    /// # Errors
    /// A file that is not a video.
    fn probe(&self, file: &[u8]) -> Result<VideoInfo, MediaError>;

    /// Decodes `frames` (unique indices, ascending) to 8-bit RGB of the size in `info`.
    ///
    /// # Errors
    /// A corrupt file, one that takes too long, or an error of `take`.
    fn read(
        &self,
        file: &[u8],
        info: &VideoInfo,
        frames: &[usize],
        take: &mut TakeFrame<'_>,
    ) -> Result<(), MediaError>;
}
