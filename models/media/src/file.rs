//! Images and videos as sent: encoded and not inspected.
//!
//! Must not know: formats, pixels.

use std::fmt;
use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};

/// The bytes of an image or video file.
pub struct MediaFile {
    bytes: Vec<u8>,
    digest: OnceLock<[u8; 32]>,
}

impl MediaFile {
    /// A file of these bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, digest: OnceLock::new() }
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of its bytes, computed on first use.
    pub fn digest(&self) -> &[u8; 32] {
        self.digest.get_or_init(|| Sha256::digest(&self.bytes).into())
    }
}

impl From<Vec<u8>> for MediaFile {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(bytes)
    }
}

impl PartialEq for MediaFile {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl fmt::Debug for MediaFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MediaFile({} bytes)", self.bytes.len())
    }
}

/// A video of files `F` and how to sample it.
#[derive(Debug, Clone, PartialEq)]
pub struct Video<F = Arc<MediaFile>> {
    /// Its frames.
    pub source: VideoSource<F>,
    /// Frames sampled per second of a file; `None` for the model's default.
    pub fps: Option<f64>,
    /// Maximum frames sampled from a file; `None` for the model's default.
    pub frames_max: Option<usize>,
}

/// Where a video's frames come from.
#[derive(Debug, Clone, PartialEq)]
pub enum VideoSource<F = Arc<MediaFile>> {
    /// Image files, in order.
    Frames(Vec<F>),
    /// One file: a video, or an animated image.
    File(F),
}

impl<F> Video<F> {
    /// Its files.
    pub fn files(&self) -> &[F] {
        match &self.source {
            VideoSource::Frames(frames) => frames,
            VideoSource::File(file) => std::slice::from_ref(file),
        }
    }
}
