//! Animated images, frame by frame, as a player shows them: each frame laid over what its
//! predecessors left, transparent parts on white.
//!
//! Must not know: which frames a network wants.

use super::{Problem, guarded};
use crate::room::Held;

/// Frames a second where a file does not say.
const FPS: f64 = 10.0;

/// An animated image that is open.
pub(in super::super) struct Animation<'a> {
    /// Frames it has.
    pub frames: usize,
    /// Frames a second, on average.
    pub fps: f64,
    /// Columns and rows.
    pub size: (usize, usize),
    /// Pixels that drawing all frames takes.
    pub drawn: usize,
    reader: Box<dyn Frames + 'a>,
    /// Room for a frame and for what is made of it.
    _held: Held,
}

/// What is known of an animated image before any of its frames is drawn.
pub(super) struct Length {
    pub frames: usize,
    pub seconds: f64,
    /// See [`Animation::drawn`].
    pub drawn: usize,
}

/// What gives frames one after the other, as RGB; only those that are wanted.
pub(super) trait Frames {
    fn next(&mut self, wanted: bool) -> Result<Option<Vec<u8>>, Problem>;
}

impl<'a> Animation<'a> {
    pub(super) fn new(
        length: &Length,
        size: (usize, usize),
        reader: Box<dyn Frames + 'a>,
        held: Held,
    ) -> Self {
        let &Length { frames, seconds, drawn } = length;
        let fps = if seconds > 0.0 { frames as f64 / seconds } else { FPS };
        Self { frames, fps, size, drawn, reader, _held: held }
    }

    /// The next frame, `[height][width][3]`, if it is wanted; it is drawn in any case.
    pub(in super::super) fn next(&mut self, wanted: bool) -> Result<Option<Vec<u8>>, Problem> {
        guarded(|| self.reader.next(wanted))
    }
}
