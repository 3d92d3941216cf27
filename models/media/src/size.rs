//! The size of an image or a frame.
//!
//! Must not know: what has that size.

use std::fmt;

/// Width and height in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    /// Number of columns.
    pub width: usize,
    /// Number of rows.
    pub height: usize,
}

impl Size {
    /// A size of `width` columns and `height` rows.
    pub(crate) const fn new(width: usize, height: usize) -> Self {
        Self { width, height }
    }

    /// Number of pixels. The product fits: a size is checked before it is used.
    pub(crate) const fn pixels(self) -> usize {
        self.width * self.height
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {}", self.width, self.height)
    }
}
