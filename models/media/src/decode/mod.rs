//! From the bytes of an image file to 8-bit RGB, as Pillow's `Image.open` and the reference's
//! `to_rgb` have it: the format is told by the first bytes, EXIF orientation is left alone, alpha
//! of RGBA is laid on white and dropped elsewhere.
//!
//! Must not know: sizes a network wants, videos, caches.

mod animation;
mod bmp;
mod gif;
mod jpeg;
mod modes;
mod png;
mod tiff;
mod webp;

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::MediaError;
use super::room::{Held, Room};
use super::sizes::{RATIO_MAX, Size};

pub(super) use animation::Animation;

/// What may be sent.
pub(super) const KNOWN: &str = "PNG, JPEG, GIF, WebP, BMP, TIFF";

/// A decoded image: 8-bit RGB `[height][width][3]`.
#[derive(Debug)]
pub(super) struct Picture {
    pub width: usize,
    pub height: usize,
    pub rgb: Vec<u8>,
    /// Room for it and for what is made of it.
    pub held: Held,
}

/// What decoding may take.
pub(super) struct Bounds<'a> {
    /// Pixels of an image or a frame.
    pub pixels_max: usize,
    /// Where room is taken before anything is decoded.
    pub room: &'static Room,
    /// Bytes of room there are.
    pub bytes_max: usize,
    /// Bytes that are needed to go on with a decoded picture of a size, the picture among them.
    pub after: &'a dyn Fn(Size) -> usize,
}

#[cfg(test)]
impl Bounds<'static> {
    /// Those of tests: so many pixels, and as much room as there may be.
    fn of(pixels_max: usize) -> Self {
        static HERE: Room = Room::new();
        Self { pixels_max, room: &HERE, bytes_max: usize::MAX, after: &|_| 0 }
    }
}

impl Bounds<'_> {
    /// Room for a picture of this size, whose decoder holds so many bytes at most, the picture
    /// among them. Waits until there is some.
    fn take(&self, size: Size, bytes: usize) -> Held {
        self.room.take(bytes.max((self.after)(size)), self.bytes_max)
    }
}

/// Formats that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Png,
    Jpeg,
    Gif,
    WebP,
    Bmp,
    Tiff,
}

/// The format that a file's first bytes name.
pub(super) fn sniff(bytes: &[u8]) -> Option<Format> {
    match bytes {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some(Format::Png),
        [0xff, 0xd8, 0xff, ..] => Some(Format::Jpeg),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Format::Gif),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Format::WebP),
        [b'B', b'M', ..] => Some(Format::Bmp),
        [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Some(Format::Tiff),
        _ => None,
    }
}

/// What is wrong, before it is known of what: an image, or a frame.
#[derive(Debug)]
pub(super) enum Problem {
    /// Damaged, cut off, or of a kind that is not read.
    Damaged(String),
    /// A decoder's panic.
    GaveUp,
    /// No rows or columns.
    Empty,
    /// What has a variant of its own.
    Media(MediaError),
}

impl Problem {
    /// A file that a decoder refuses.
    fn damaged(problem: impl ToString) -> Self {
        Self::Damaged(problem.to_string())
    }

    /// The error of an image or a frame.
    pub(super) fn of(self, what: &'static str) -> MediaError {
        match self {
            Self::Damaged(problem) => MediaError::Damaged { what, problem },
            Self::GaveUp => MediaError::GaveUp { what },
            Self::Empty => MediaError::Empty { what },
            Self::Media(error) => error,
        }
    }
}

/// Decodes an image; of an animated one its first frame.
pub(super) fn decode(bytes: &[u8], bounds: &Bounds<'_>) -> Result<Picture, Problem> {
    let Some(format) = sniff(bytes) else { return Err(unknown(bytes, "an image")) };
    guarded(|| match format {
        Format::Png => png::decode(bytes, bounds),
        Format::Jpeg => jpeg::decode(bytes, bounds),
        Format::Gif => gif::decode(bytes, bounds),
        Format::WebP => webp::decode(bytes, bounds),
        Format::Bmp => bmp::decode(bytes, bounds),
        Format::Tiff => tiff::decode(bytes, bounds),
    })
}

/// The error for bytes of no known format.
pub(super) fn unknown(bytes: &[u8], what: &'static str) -> Problem {
    if bytes.is_empty() {
        return Problem::Empty;
    }
    Problem::Media(MediaError::UnknownFormat { what, known: KNOWN })
}

/// Takes a panic of a decoder, which is a defect of that decoder, for an error.
fn guarded<T>(decode: impl FnOnce() -> Result<T, Problem>) -> Result<T, Problem> {
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or(Err(Problem::GaveUp))
}

/// Pixels of an image of this size, if it may be decoded.
fn check_size(width: usize, height: usize, pixels_max: usize) -> Result<usize, Problem> {
    if width == 0 || height == 0 {
        return Err(Problem::Empty);
    }
    let (long, short) = (width.max(height), width.min(height));
    if long / short > RATIO_MAX || (long / short == RATIO_MAX && long % short > 0) {
        return Err(Problem::Media(MediaError::AspectRatio { width, height, limit: RATIO_MAX }));
    }
    match width.checked_mul(height) {
        Some(pixels) if pixels <= pixels_max => Ok(pixels),
        _ => Err(Problem::Media(MediaError::TooManyPixels { width, height, limit: pixels_max })),
    }
}

/// A file as an animation, if it is an animated image.
pub(super) fn animation<'a>(
    bytes: &'a [u8],
    bounds: &Bounds<'_>,
) -> Result<Option<Animation<'a>>, Problem> {
    guarded(|| match sniff(bytes) {
        Some(Format::Gif) => gif::animation(bytes, bounds),
        Some(Format::WebP) => webp::animation(bytes, bounds),
        _ => Ok(None),
    })
}

#[cfg(test)]
mod tests;
