//! What is asked of whoever reads video files.
//!
//! Must not know: how they are read, which frames a model wants.

use std::fmt;
use std::sync::Arc;

use super::MediaError;

/// What a video file says of itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VideoInfo {
    /// Frames of the first video stream.
    pub frames: usize,
    /// Frames a second, on average.
    pub fps: f64,
    /// Columns of a frame.
    pub width: usize,
    /// Rows of a frame.
    pub height: usize,
}

/// Takes a decoded frame: its place in the file and its pixels, `[height][width][3]`.
pub type TakeFrame<'a> = dyn FnMut(usize, &[u8]) -> Result<(), MediaError> + 'a;

/// Reads video files. Called on CPU threads, several at a time.
pub trait VideoReader: fmt::Debug + Send + Sync {
    /// A reader for the videos of one input, if these share a limit.
    fn of_input(&self) -> Option<Arc<dyn VideoReader>> {
        None
    }

    /// What a file says of itself.
    ///
    /// # Errors
    /// A file that is no video.
    fn probe(&self, file: &[u8]) -> Result<VideoInfo, MediaError>;

    /// Decodes some frames (ascending places, each once), 8-bit RGB of the size that `info` says.
    ///
    /// # Errors
    /// A damaged file, one that takes too long, or what `take` says.
    fn read(
        &self,
        file: &[u8],
        info: &VideoInfo,
        frames: &[usize],
        take: &mut TakeFrame<'_>,
    ) -> Result<(), MediaError>;
}
