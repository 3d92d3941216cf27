//! Animated images, frame by frame, as a player shows them: each frame is drawn over what the
//! previous ones left, on white where transparent.
//!
//! Must not know: which frames a network wants.

use super::{Problem, Size, guarded};
use crate::memory_budget::Reservation;

/// Frames per second if a file gives no durations.
const FPS: f64 = 10.0;

/// An open animated image.
pub(in super::super) struct Animation<'a> {
    /// Number of frames.
    pub frames: usize,
    /// Average frames per second.
    pub fps: f64,
    /// Size of a frame.
    pub size: Size,
    /// Pixels that must be drawn for all frames.
    pub drawn: usize,
    reader: Box<dyn Frames + 'a>,
    /// Memory reserved for a frame and for what is computed from it.
    _held: Reservation,
}

/// What is known about an animated image before any frame is drawn.
pub(super) struct Length {
    pub frames: usize,
    pub seconds: f64,
    /// See [`Animation::drawn`].
    pub drawn: usize,
}

/// Draws frames one after another and returns those that are wanted, as RGB.
pub(super) trait Frames {
    fn next(&mut self, wanted: bool) -> Result<Option<Vec<u8>>, Problem>;
}

impl<'a> Animation<'a> {
    pub(super) fn new(
        length: &Length,
        size: Size,
        reader: Box<dyn Frames + 'a>,
        held: Reservation,
    ) -> Self {
        let &Length { frames, seconds, drawn } = length;
        let fps = if seconds > 0.0 { frames as f64 / seconds } else { FPS };
        Self { frames, fps, size, drawn, reader, _held: held }
    }

    /// Draws the next frame and, if it is wanted, returns it, `[height][width][3]`.
    pub(in super::super) fn next(&mut self, wanted: bool) -> Result<Option<Vec<u8>>, Problem> {
        guarded(|| self.reader.next(wanted))
    }
}
