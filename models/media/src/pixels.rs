//! Decoded and resized pixels, ready for a vision network.
//!
//! Must not know: file formats, networks.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::{Digest, Sha256};

/// See [`Pixels::live_bytes`].
static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);

/// An image, or video frames that the network sees together: resized, 8-bit RGB.
///
/// Compared by digest. Equal digests mean equal pixels; equal pixels of different files may have
/// different digests.
pub struct Pixels {
    width: usize,
    height: usize,
    /// `[frames][height][width][3]`
    data: Vec<u8>,
    digest: [u8; 32],
}

impl Pixels {
    /// Wraps pixels `[frames][height][width][3]` and computes their digest.
    ///
    /// # Panics
    /// If `data` is empty or not a whole number of frames.
    pub fn new(width: usize, height: usize, data: Vec<u8>) -> Self {
        let mut digest = Sha256::new();
        digest.update((width as u64).to_le_bytes());
        digest.update((height as u64).to_le_bytes());
        digest.update(&data);
        Self::of(width, height, data, digest.finalize().into())
    }

    /// Like [`new`](Self::new), with a digest of everything the pixels are computed from. That is
    /// faster than hashing the pixels, since most files are much smaller.
    ///
    /// # Panics
    /// If `data` is empty or not a whole number of frames.
    pub fn of(width: usize, height: usize, data: Vec<u8>, digest: [u8; 32]) -> Self {
        let frame = width * height * 3;
        assert!(!data.is_empty() && data.len().is_multiple_of(frame), "whole frames");
        LIVE_BYTES.fetch_add(data.len(), Ordering::Relaxed);
        Self { width, height, data, digest }
    }

    /// Bytes held by all `Pixels` of the process.
    pub fn live_bytes() -> usize {
        LIVE_BYTES.load(Ordering::Relaxed)
    }

    /// Columns of a frame.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows of a frame.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Number of frames; 1 for an image.
    pub fn frames(&self) -> usize {
        self.data.len() / (self.width * self.height * 3)
    }

    /// A frame, `[height][width][3]`.
    pub fn frame(&self, frame: usize) -> &[u8] {
        let size = self.width * self.height * 3;
        &self.data[frame * size..(frame + 1) * size]
    }

    /// Bytes it holds.
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    /// SHA-256 of size and pixels, or of what they are computed from.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
}

impl Drop for Pixels {
    fn drop(&mut self) {
        LIVE_BYTES.fetch_sub(self.data.len(), Ordering::Relaxed);
    }
}

impl PartialEq for Pixels {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Pixels {}

impl Hash for Pixels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

impl fmt::Debug for Pixels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pixels({} x {} x {})", self.frames(), self.width, self.height)
    }
}

/// The frames of a video that the network takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Clip {
    /// Groups of frames that the network sees together, all of one size.
    pub groups: Vec<Arc<Pixels>>,
    /// The time of each group in seconds: the mean of its first and last frame's times.
    pub seconds: Vec<f64>,
}

impl Clip {
    /// Bytes it holds.
    pub fn bytes(&self) -> usize {
        self.groups.iter().map(|group| group.bytes()).sum()
    }
}
