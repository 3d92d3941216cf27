//! What can be wrong with an image or a video.
//!
//! Must not know: wire formats.

use thiserror::Error;

/// What is wrong with an image or a video. Always the caller's fault but for
/// [`MediaError::Reader`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MediaError {
    /// Not a format that is read.
    #[error("{what} is in no format that is read ({known})")]
    UnknownFormat {
        /// An image or a video.
        what: &'static str,
        /// Formats that are.
        known: &'static str,
    },
    /// Damaged, cut off, or not what it says.
    #[error("{what} cannot be decoded: {problem}")]
    Damaged {
        /// An image, a frame or a video.
        what: &'static str,
        /// What the decoder says.
        problem: String,
    },
    /// A panic of its decoder: a defect there, met by a file that is most likely damaged.
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
        /// Longer over shorter side.
        limit: usize,
    },
    /// No rows, columns or frames.
    #[error("{what} is empty")]
    Empty {
        /// An image, a frame or a video.
        what: &'static str,
    },
    /// More frames than are taken.
    #[error("{frames} frames are more than the limit of {limit}")]
    TooManyFrames {
        /// Frames sent or asked for.
        frames: usize,
        /// Frames a video may have.
        limit: usize,
    },
    /// So many images and videos wait that no other is decoded.
    #[error(
        "images and videos that wait hold more than {limit} bytes of pixels; try again, with fewer \
         of them in a request"
    )]
    Full {
        /// The limit in bytes.
        limit: usize,
    },
    /// Settings of a video that make no sense.
    #[error("{0}")]
    Sampling(String),
    /// Video files are not read by this server.
    #[error("{0}")]
    NoVideo(String),
    /// The program that reads video files failed.
    #[error("the video could not be read: {0}")]
    Reader(String),
}
