//! The sizes that images inside a WebP file have: its decoder makes room for what a lossy image
//! says of itself, and compares that with what the file says of it when it is read.
//!
//! Finds images as the decoder finds them: of a still file the first, of an animated one those of
//! frames that follow each other.
//!
//! Must not know: pixels.

use super::Problem;

/// What the images inside are like.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Survey {
    /// Bytes of the largest lossless image, or of alpha that is coded like one.
    pub lossless: usize,
}

/// A part of a file: a name, a size, and what is in it.
struct Chunk {
    name: [u8; 4],
    /// Where its contents begin.
    start: usize,
    size: usize,
}

impl Chunk {
    fn at(bytes: &[u8], at: usize) -> Option<Self> {
        let head = bytes.get(at..)?.first_chunk::<8>()?;
        let [name @ .., a, b, c, d] = *head;
        Some(Self { name, start: at + 8, size: u32::from_le_bytes([a, b, c, d]) as usize })
    }

    /// Where the next begins: behind a byte that makes the size even.
    fn end(&self) -> usize {
        self.start + self.size.next_multiple_of(2)
    }

    /// What of it lies in the file.
    fn size_in(&self, bytes: &[u8]) -> usize {
        self.size.min(bytes.len().saturating_sub(self.start))
    }
}

/// What alpha that is coded like a lossless image begins with, in its two lowest bits.
const CODED: u8 = 1;

const DAMAGED: &str = "an image in it is not of the size that the file says";

/// Looks at the images of a file: at one of the size of the canvas, or at so many frames.
///
/// # Errors
/// A lossy image that is of another size than the file says.
pub(super) fn survey(
    bytes: &[u8],
    canvas: (usize, usize),
    frames: Option<usize>,
) -> Result<Survey, Problem> {
    let mut found = Survey::default();
    // Behind RIFF, a size and WEBP.
    let first = 12;
    let Some(frames) = frames else {
        let (mut at, mut seen) = (first, false);
        while let Some(chunk) = Chunk::at(bytes, at) {
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
    while let Some(chunk) = Chunk::at(bytes, at).filter(|chunk| &chunk.name != b"ANMF") {
        at = chunk.end();
    }
    for _ in 0..frames {
        let Some(frame) = Chunk::at(bytes, at).filter(|chunk| &chunk.name == b"ANMF") else {
            break;
        };
        if frame.size % 2 == 1 {
            // The decoder would go on a byte before the next.
            return Err(Problem::damaged("a frame in it is of an odd number of bytes"));
        }
        found.frame(bytes, &frame)?;
        at = frame.end();
    }
    Ok(found)
}

impl Survey {
    /// An image, or its alpha.
    fn image(&mut self, bytes: &[u8], chunk: &Chunk, size: (usize, usize)) -> Result<(), Problem> {
        match &chunk.name {
            b"VP8 " if lossy_size(bytes, chunk.start) != Some(size) => {
                Err(Problem::damaged(DAMAGED))
            }
            // The decoder itself looks at the size before it makes room.
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

    /// A frame: a place, a size, a time and how to lay it, and an image.
    fn frame(&mut self, bytes: &[u8], frame: &Chunk) -> Result<(), Problem> {
        let side = |at: usize| {
            let part = bytes.get(frame.start + at..)?.first_chunk::<3>()?;
            Some(u32::from_le_bytes([part[0], part[1], part[2], 0]) as usize + 1)
        };
        let (Some(width), Some(height)) = (side(6), side(9)) else { return Ok(()) };
        let Some(chunk) = Chunk::at(bytes, frame.start + 16) else { return Ok(()) };
        self.image(bytes, &chunk, (width, height))?;
        if &chunk.name != b"ALPH" {
            return Ok(());
        }
        match Chunk::at(bytes, chunk.end()) {
            // Whatever its name is, the decoder reads it as a lossy image.
            Some(image) => self.image(bytes, &Chunk { name: *b"VP8 ", ..image }, (width, height)),
            None => Ok(()),
        }
    }
}

/// The size that a lossy image at this place says it has.
fn lossy_size(bytes: &[u8], start: usize) -> Option<(usize, usize)> {
    let [_, _, _, _, _, _, size @ ..] = bytes.get(start..)?.first_chunk::<10>()?;
    let side = |low, high| usize::from(u16::from_le_bytes([low, high]) & 0x3fff);
    Some((side(size[0], size[1]), side(size[2], size[3])))
}
