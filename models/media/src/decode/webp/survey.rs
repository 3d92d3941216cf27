//! Checks the sizes of the images in a WebP file: the decoder allocates what a lossy image's own
//! header says, and only then compares it with the container.
//!
//! Finds images as the decoder does: the first of a still file, and those of an animation's
//! consecutive frames.
//!
//! Must not know: pixels.

use super::{Problem, Size};

/// What is known about the images in a file.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Survey {
    /// Bytes of the largest lossless image or losslessly coded alpha.
    pub lossless: usize,
}

/// A RIFF chunk: a name, a size and contents.
struct RiffChunk {
    name: [u8; 4],
    /// Offset of its contents.
    start: usize,
    size: usize,
}

impl RiffChunk {
    fn at(bytes: &[u8], at: usize) -> Option<Self> {
        let head = bytes.get(at..)?.first_chunk::<8>()?;
        let [name @ .., a, b, c, d] = *head;
        Some(Self { name, start: at + 8, size: u32::from_le_bytes([a, b, c, d]) as usize })
    }

    /// Offset of the next chunk; a chunk of odd size is padded by a byte.
    fn end(&self) -> usize {
        self.start + self.size.next_multiple_of(2)
    }

    /// The bytes of its contents that are in the file.
    fn size_in(&self, bytes: &[u8]) -> usize {
        self.size.min(bytes.len().saturating_sub(self.start))
    }
}

/// The two lowest bits of losslessly coded alpha's first byte.
const CODED: u8 = 1;

const DAMAGED: &str = "an image in it does not have the size that the file declares";

/// Checks the images of a file: one of the size of the canvas, or those of `frames` frames.
///
/// # Errors
/// A lossy image whose size is not what the container says, or a frame of odd length.
pub(super) fn survey(bytes: &[u8], canvas: Size, frames: Option<usize>) -> Result<Survey, Problem> {
    let mut found = Survey::default();
    // After `RIFF`, a size and `WEBP`.
    let first = 12;
    let Some(frames) = frames else {
        let (mut at, mut seen) = (first, false);
        while let Some(chunk) = RiffChunk::at(bytes, at) {
            let is_image = matches!(&chunk.name, b"VP8 " | b"VP8L");
            if !(is_image && seen) {
                found.image(bytes, &chunk, canvas)?;
            }
            seen |= is_image;
            at = chunk.end();
        }
        return Ok(found);
    };
    let mut at = first;
    while let Some(chunk) = RiffChunk::at(bytes, at).filter(|chunk| &chunk.name != b"ANMF") {
        at = chunk.end();
    }
    for _ in 0..frames {
        let Some(frame) = RiffChunk::at(bytes, at).filter(|chunk| &chunk.name == b"ANMF") else {
            break;
        };
        if frame.size % 2 == 1 {
            // The decoder would continue a byte before the next chunk.
            return Err(Problem::damaged("a frame in it has an odd number of bytes"));
        }
        found.frame(bytes, &frame)?;
        at = frame.end();
    }
    Ok(found)
}

impl Survey {
    /// Checks an image or its alpha.
    fn image(&mut self, bytes: &[u8], chunk: &RiffChunk, size: Size) -> Result<(), Problem> {
        match &chunk.name {
            b"VP8 " if lossy_size(bytes, chunk.start) != Some(size) => {
                Err(Problem::damaged(DAMAGED))
            }
            // Here the decoder itself checks the size before it allocates.
            b"VP8L" => {
                self.lossless = self.lossless.max(chunk.size_in(bytes));
                Ok(())
            }
            b"ALPH" if bytes.get(chunk.start).is_some_and(|byte| byte & 3 == CODED) => {
                self.lossless = self.lossless.max(chunk.size_in(bytes));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Checks a frame: a position, a size, a duration, blending flags, and an image.
    fn frame(&mut self, bytes: &[u8], frame: &RiffChunk) -> Result<(), Problem> {
        let side = |at: usize| {
            let part = bytes.get(frame.start + at..)?.first_chunk::<3>()?;
            Some(u32::from_le_bytes([part[0], part[1], part[2], 0]) as usize + 1)
        };
        let (Some(width), Some(height)) = (side(6), side(9)) else { return Ok(()) };
        let Some(chunk) = RiffChunk::at(bytes, frame.start + 16) else { return Ok(()) };
        self.image(bytes, &chunk, Size::new(width, height))?;
        if &chunk.name != b"ALPH" {
            return Ok(());
        }
        match RiffChunk::at(bytes, chunk.end()) {
            // The decoder reads it as a lossy image, whatever its name.
            Some(image) => {
                self.image(bytes, &RiffChunk { name: *b"VP8 ", ..image }, Size::new(width, height))
            }
            None => Ok(()),
        }
    }
}

/// The size in the header of the lossy image at this offset.
fn lossy_size(bytes: &[u8], start: usize) -> Option<Size> {
    let [_, _, _, _, _, _, size @ ..] = bytes.get(start..)?.first_chunk::<10>()?;
    let side = |low, high| usize::from(u16::from_le_bytes([low, high]) & 0x3fff);
    Some(Size::new(side(size[0], size[1]), side(size[2], size[3])))
}
