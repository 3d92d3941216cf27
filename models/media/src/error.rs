//! Errors of images and videos.
//!
//! Must not know: wire formats.

use thiserror::Error;

/// Why an image or a video cannot be used. The caller's fault, except for [`MediaError::Full`] and
/// [`MediaError::Reader`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MediaError {
    /// Not a supported format.
    #[error("{what} is not in a supported format ({known})")]
    UnknownFormat {
        /// An image or a video.
        what: &'static str,
        /// The supported formats.
        known: &'static str,
    },
    /// Corrupt, truncated, or not what it claims to be.
    #[error("{what} cannot be decoded: {problem}")]
    Damaged {
        /// An image, a frame or a video.
        what: &'static str,
        /// The decoder's message.
        problem: String,
    },
    /// Its decoder panicked: a bug there, most likely triggered by a corrupt file.
    #[error("{what} cannot be decoded: the decoder gave up")]
    GaveUp {
        /// An image, a frame or a video.
        what: &'static str,
    },
    /// More pixels than an image may have.
    #[error("{width} x {height} pixels are more than the limit of {limit}")]
    TooManyPixels {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
        /// Pixels an image may have.
        limit: usize,
    },
    /// Too long and narrow.
    #[error("{width} x {height} pixels: the longer side may be at most {limit} times the shorter")]
    AspectRatio {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
        /// Largest ratio of the longer side to the shorter.
        limit: usize,
    },
    /// No rows, columns or frames.
    #[error("{what} is empty")]
    Empty {
        /// An image, a frame or a video.
        what: &'static str,
    },
    /// More frames than allowed.
    #[error("{frames} frames are more than the limit of {limit}")]
    TooManyFrames {
        /// Frames sent or requested.
        frames: usize,
        /// Frames a video may have.
        limit: usize,
    },
    /// Decoded images and videos hold too much memory for another to be decoded.
    #[error(
        "waiting images and videos hold more than {limit} bytes of pixels; try again, with fewer \
         per request"
    )]
    Full {
        /// The limit in bytes.
        limit: usize,
    },
    /// Invalid sampling settings, or frames that cannot be sampled together.
    #[error("{0}")]
    Sampling(String),
    /// This server reads no video files.
    #[error("{0}")]
    NoVideo(String),
    /// The video reader failed.
    #[error("the video could not be read: {0}")]
    Reader(String),
}
