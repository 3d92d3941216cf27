//! Decodes image files to 8-bit RGB, as Pillow's `Image.open` and the reference's `to_rgb` do: the
//! first bytes tell the format, EXIF orientation is ignored, alpha is blended onto white for RGBA
//! and dropped for other modes.
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
use super::memory_budget::{MemoryBudget, Reservation};
use super::size::Size;
use super::sizes::RATIO_MAX;

pub(super) use animation::Animation;

/// Supported formats, for messages.
pub(super) const KNOWN: &str = "PNG, JPEG, GIF, WebP, BMP, TIFF";

/// A decoded image: 8-bit RGB `[height][width][3]`.
#[derive(Debug)]
pub(super) struct Picture {
    pub size: Size,
    pub rgb: Vec<u8>,
    /// Memory reserved for it and for what is computed from it.
    pub held: Reservation,
}

/// Limits of decoding.
pub(super) struct DecodeLimits<'a> {
    /// Maximum pixels of an image or a frame.
    pub pixels_max: usize,
    /// The budget from which memory is reserved before decoding.
    pub budget: &'static MemoryBudget,
    /// Size of the budget in bytes.
    pub bytes_max: usize,
    /// Bytes needed to process a decoded image of a size, including the image.
    pub after: &'a dyn Fn(Size) -> usize,
}

#[cfg(test)]
impl DecodeLimits<'static> {
    /// For tests: a limit on pixels, none on memory.
    fn of(pixels_max: usize) -> Self {
        static HERE: MemoryBudget = MemoryBudget::new();
        Self { pixels_max, budget: &HERE, bytes_max: usize::MAX, after: &|_| 0 }
    }
}

impl DecodeLimits<'_> {
    /// Reserves memory for an image of this size, blocking: `bytes`, the most its decoder holds
    /// (including the image), or what processing it needs if that is more.
    fn take(&self, size: Size, bytes: usize) -> Reservation {
        self.budget.take(bytes.max((self.after)(size)), self.bytes_max)
    }
}

/// Supported formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Png,
    Jpeg,
    Gif,
    WebP,
    Bmp,
    Tiff,
}

/// The format, judging by a file's first bytes.
pub(crate) fn sniff(bytes: &[u8]) -> Option<Format> {
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

/// An error, before it is known whether it is of an image, a frame or a video.
#[derive(Debug)]
pub(super) enum Problem {
    /// Corrupt, truncated or not supported.
    Damaged(String),
    /// The decoder panicked.
    GaveUp,
    /// No rows or columns.
    Empty,
    /// An error with its own variant.
    Media(MediaError),
}

impl Problem {
    /// A file that a decoder rejects.
    fn damaged(problem: impl ToString) -> Self {
        Self::Damaged(problem.to_string())
    }

    /// The error of `what`.
    pub(super) fn of(self, what: &'static str) -> MediaError {
        match self {
            Self::Damaged(problem) => MediaError::Damaged { what, problem },
            Self::GaveUp => MediaError::GaveUp { what },
            Self::Empty => MediaError::Empty { what },
            Self::Media(error) => error,
        }
    }
}

/// Decodes an image, or the first frame of an animated one.
pub(super) fn decode(bytes: &[u8], limits: &DecodeLimits<'_>) -> Result<Picture, Problem> {
    let Some(format) = sniff(bytes) else { return Err(unknown(bytes, "an image")) };
    guarded(|| match format {
        Format::Png => png::decode(bytes, limits),
        Format::Jpeg => jpeg::decode(bytes, limits),
        Format::Gif => gif::decode(bytes, limits),
        Format::WebP => webp::decode(bytes, limits),
        Format::Bmp => bmp::decode(bytes, limits),
        Format::Tiff => tiff::decode(bytes, limits),
    })
}

/// The error for bytes of no known format.
pub(super) fn unknown(bytes: &[u8], what: &'static str) -> Problem {
    if bytes.is_empty() {
        return Problem::Empty;
    }
    Problem::Media(MediaError::UnknownFormat { what, known: KNOWN })
}

/// Turns a decoder's panic, which is a bug in that decoder, into an error.
fn guarded<T>(decode: impl FnOnce() -> Result<T, Problem>) -> Result<T, Problem> {
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or(Err(Problem::GaveUp))
}

/// Number of pixels of an image of this size, if it may be decoded.
fn check_size(size: Size, pixels_max: usize) -> Result<usize, Problem> {
    let Size { width, height } = size;
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

/// Opens a file as an animation, if it is an animated image.
pub(super) fn animation<'a>(
    bytes: &'a [u8],
    limits: &DecodeLimits<'_>,
) -> Result<Option<Animation<'a>>, Problem> {
    guarded(|| match sniff(bytes) {
        Some(Format::Gif) => gif::animation(bytes, limits),
        Some(Format::WebP) => webp::animation(bytes, limits),
        _ => Ok(None),
    })
}

#[cfg(test)]
mod tests;
