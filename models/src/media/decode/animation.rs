//! Animated images, frame by frame, as a player shows them: each frame laid over what its
//! predecessors left, transparent parts on white.
//!
//! Must not know: which frames a network wants.

use super::gif;
use super::webp::{self, WebP};
use super::{Format, Problem, guarded, sniff};

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
    reader: Box<dyn Frames + 'a>,
}

/// What gives frames one after the other, as RGB; only those that are wanted.
pub(super) trait Frames {
    fn next(&mut self, wanted: bool) -> Result<Option<Vec<u8>>, Problem>;
}

impl Frames for WebP<'_> {
    fn next(&mut self, wanted: bool) -> Result<Option<Vec<u8>>, Problem> {
        let rgba = self.frame()?;
        Ok(wanted.then(|| self.to_rgb(rgba)))
    }
}

impl<'a> Animation<'a> {
    pub(super) fn new(
        frames: usize,
        seconds: f64,
        size: (usize, usize),
        reader: Box<dyn Frames + 'a>,
    ) -> Self {
        let fps = if seconds > 0.0 { frames as f64 / seconds } else { FPS };
        Self { frames, fps, size, reader }
    }

    /// The next frame, `[height][width][3]`, if it is wanted; it is drawn in any case.
    pub(in super::super) fn next(&mut self, wanted: bool) -> Result<Option<Vec<u8>>, Problem> {
        guarded(|| self.reader.next(wanted))
    }
}

/// A file as an animation, if it is an animated image.
pub(in super::super) fn animation(
    bytes: &[u8],
    pixels_max: usize,
) -> Result<Option<Animation<'_>>, Problem> {
    guarded(|| match sniff(bytes) {
        Some(Format::Gif) => gif::animation(bytes, pixels_max),
        Some(Format::WebP) => webp::animation(bytes, pixels_max),
        _ => Ok(None),
    })
}
