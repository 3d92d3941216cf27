//! Images and videos as they were sent: encoded, not looked into.
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

    /// SHA-256 of its bytes, computed when first asked for.
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

/// A video and how to sample it.
#[derive(Debug, Clone, PartialEq)]
pub struct Video {
    /// Its frames.
    pub source: VideoSource,
    /// Frames taken of each second of a file; `None` takes the model's own.
    pub fps: Option<f64>,
    /// Frames taken of a file at most; `None` takes the model's own.
    pub frames_max: Option<usize>,
}

/// Where a video's frames are.
#[derive(Debug, Clone, PartialEq)]
pub enum VideoSource {
    /// Image files, in order.
    Frames(Vec<Arc<MediaFile>>),
    /// One file: a video, or an animated image.
    File(Arc<MediaFile>),
}

impl Video {
    /// Its files.
    pub fn files(&self) -> &[Arc<MediaFile>] {
        match &self.source {
            VideoSource::Frames(frames) => frames,
            VideoSource::File(file) => std::slice::from_ref(file),
        }
    }
}
