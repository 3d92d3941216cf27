//! The size of an image from the header of its file. Nothing is decoded: whether a file can be
//! decoded, and to which size, is for the decoders to say.
//!
//! Must not know: pixels, where bytes came from.

use crate::decode::{Format, sniff};

#[cfg(test)]
mod tests;

/// What the header of an image file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageHeader {
    /// `png`, `jpeg`, `gif`, `webp`, `bmp` or `tiff`
    pub format: &'static str,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Bits of a pixel.
    pub bit_depth: usize,
}

impl ImageHeader {
    /// Reads the header of an image file; `None` if it has none of the formats that are decoded, or
    /// is truncated.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let (format, (width, height, bit_depth)) = match sniff(bytes)? {
            Format::Png => ("png", png(bytes)?),
            Format::Gif => ("gif", (little(bytes, 6, 2)?, little(bytes, 8, 2)?, 8)),
            Format::Bmp => ("bmp", bmp(bytes)?),
            Format::Tiff => ("tiff", tiff(bytes)?),
            Format::WebP => ("webp", webp(bytes)?),
            Format::Jpeg => ("jpeg", jpeg(bytes)?),
        };
        Some(Self { format, width, height, bit_depth })
    }

    /// Number of pixels.
    pub fn pixels(&self) -> usize {
        self.width.saturating_mul(self.height)
    }
}

/// A big-endian number of `count` bytes.
fn big(bytes: &[u8], at: usize, count: usize) -> Option<usize> {
    let bytes = bytes.get(at..at.checked_add(count)?)?;
    Some(bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
}

/// A little-endian number of `count` bytes.
fn little(bytes: &[u8], at: usize, count: usize) -> Option<usize> {
    let bytes = bytes.get(at..at.checked_add(count)?)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte)))
}

fn png(bytes: &[u8]) -> Option<(usize, usize, usize)> {
    let samples = match *bytes.get(25)? {
        2 => 3,
        4 => 2,
        6 => 4,
        _ => 1,
    };
    Some((big(bytes, 16, 4)?, big(bytes, 20, 4)?, samples * usize::from(*bytes.get(24)?)))
}

fn bmp(bytes: &[u8]) -> Option<(usize, usize, usize)> {
    if little(bytes, 14, 4)? == 12 {
        // The oldest header version, with two-byte numbers.
        return Some((little(bytes, 18, 2)?, little(bytes, 20, 2)?, little(bytes, 24, 2)?));
    }
    // The height is negative if rows start at the top.
    let height = little(bytes, 22, 4)? as u32 as i32;
    Some((little(bytes, 18, 4)?, height.unsigned_abs() as usize, little(bytes, 28, 2)?))
}

/// Reads the first directory of a TIFF file, of either byte order, classic or BigTIFF.
fn tiff(bytes: &[u8]) -> Option<(usize, usize, usize)> {
    let number = if bytes.starts_with(b"II") { little } else { big };
    // The directory's offset; the sizes of its length field, of an entry, and of a count or offset.
    let (start, head, entry, word) = match number(bytes, 2, 2)? {
        43 => (number(bytes, 8, 8)?, 8, 20, 8),
        _ => (number(bytes, 4, 4)?, 2, 12, 4),
    };
    let (mut width, mut height, mut bits, mut samples) = (None, None, 1, 1);
    for index in 0..number(bytes, start, head)? {
        let at = start.checked_add(head)?.checked_add(index.checked_mul(entry)?)?;
        let tag = number(bytes, at, 2)?;
        let (kind, count) = (number(bytes, at + 2, 2)?, number(bytes, at + 4, word)?);
        let size = match kind {
            3 => 2,
            4 => 4,
            16 => 8,
            _ => 1,
        };
        let inside = at + 4 + word;
        let here = count.checked_mul(size)? <= word;
        let first =
            || number(bytes, if here { inside } else { number(bytes, inside, word)? }, size);
        match tag {
            256 => width = Some(first()?),
            257 => height = Some(first()?),
            258 => bits = first()?,
            277 => samples = first()?,
            _ => {}
        }
    }
    Some((width?, height?, bits.saturating_mul(samples)))
}

fn webp(bytes: &[u8]) -> Option<(usize, usize, usize)> {
    match bytes.get(12..16)? {
        b"VP8 " => Some((little(bytes, 26, 2)? & 0x3fff, little(bytes, 28, 2)? & 0x3fff, 24)),
        b"VP8L" => {
            let bits = little(bytes, 21, 4)?;
            let depth = if bits >> 28 & 1 == 1 { 32 } else { 24 };
            Some(((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1, depth))
        }
        b"VP8X" => {
            let depth = if bytes.get(20)? & 0x10 != 0 { 32 } else { 24 };
            Some((little(bytes, 24, 3)? + 1, little(bytes, 27, 3)? + 1, depth))
        }
        _ => None,
    }
}

/// Reads the size from the frame header of a JPEG file.
fn jpeg(bytes: &[u8]) -> Option<(usize, usize, usize)> {
    let mut at = 2;
    loop {
        // Any number of 0xff bytes may precede a segment's marker.
        let marker = loop {
            match *bytes.get(at)? {
                0xff => at += 1,
                marker => break marker,
            }
        };
        at += 1;
        // Three of the markers in this range are not frame headers.
        if matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc) {
            let samples = usize::from(*bytes.get(at + 7)?);
            let depth = samples * usize::from(*bytes.get(at + 2)?);
            return Some((big(bytes, at + 5, 2)?, big(bytes, at + 3, 2)?, depth));
        }
        at += big(bytes, at, 2)?.max(2);
    }
}
