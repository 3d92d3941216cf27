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

/// An image, or frames of a video that are seen together, resized: 8-bit RGB.
///
/// Two are equal if their digests are. Equal digests mean equal pixels; equal pixels of different
/// files may have different ones.
pub struct Pixels {
    width: usize,
    height: usize,
    /// `[frames][height][width][3]`
    data: Vec<u8>,
    digest: [u8; 32],
}

impl Pixels {
    /// Pixels `[frames][height][width][3]`.
    ///
    /// # Panics
    /// If `data` is empty or not of whole frames.
    pub fn new(width: usize, height: usize, data: Vec<u8>) -> Self {
        let mut digest = Sha256::new();
        digest.update((width as u64).to_le_bytes());
        digest.update((height as u64).to_le_bytes());
        digest.update(&data);
        Self::of(width, height, data, digest.finalize().into())
    }

    /// The same, with a digest of all that they are made from: it is there sooner than one of the
    /// pixels, of which there are many more bytes than of most files.
    ///
    /// # Panics
    /// If `data` is empty or not of whole frames.
    pub fn of(width: usize, height: usize, data: Vec<u8>, digest: [u8; 32]) -> Self {
        let frame = width * height * 3;
        assert!(!data.is_empty() && data.len().is_multiple_of(frame), "whole frames");
        LIVE_BYTES.fetch_add(data.len(), Ordering::Relaxed);
        Self { width, height, data, digest }
    }

    /// Bytes that all there are hold.
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

    /// Number of frames: 1 of an image.
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

    /// SHA-256 of sizes and numbers, or of what they are made from.
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

/// The frames of a video that a network is given.
#[derive(Debug, Clone, PartialEq)]
pub struct Clip {
    /// Groups of frames that are seen together, all of one size.
    pub groups: Vec<Arc<Pixels>>,
    /// When each group is shown: the mean of its first and last frame's times, in seconds.
    pub seconds: Vec<f64>,
}

impl Clip {
    /// Bytes it holds.
    pub fn bytes(&self) -> usize {
        self.groups.iter().map(|group| group.bytes()).sum()
    }
}
