//! JPEG files: baseline and progressive; grey, YCbCr, RGB, CMYK and YCCK.
//!
//! Read by the decoder that Pillow uses, libjpeg-turbo, in the copy of it that `mozjpeg` carries:
//! chroma that is smoothed otherwise when it is enlarged moves what a network sees. Only what lies
//! far outside 0..=255, as in damaged blocks, may be cut otherwise than by Pillow's: vector code
//! (used if the build found nasm) and plain code differ there.
//!
//! Must not know: other formats.

use std::any::Any;
use std::io::{self, BufRead, Read};
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};

use memchr::memchr;
use mozjpeg::{ColorSpace, Decompress};

use super::{Bounds, Picture, Problem, Size, check_size, modes};

#[cfg(test)]
mod tests;

/// Scans of a progressive file at most: each walks over every block.
pub(super) const SCANS_MAX: usize = 128;

const CUT_OFF: &str = "it is cut off";

/// The marker at the end of an image.
const END: u8 = 0xd9;
/// The marker that begins a scan.
const SCAN: u8 = 0xda;
/// The markers that begin an image of a kind that is read.
const BASELINE: u8 = 0xc0;
const EXTENDED: u8 = 0xc1;
const PROGRESSIVE: u8 = 0xc2;

pub(super) fn decode(bytes: &[u8], bounds: &Bounds<'_>) -> Result<Picture, Problem> {
    let Scans { count, buffered } = scans(bytes);
    if count > SCANS_MAX {
        return Err(Problem::damaged(format!("it has more than {SCANS_MAX} scans")));
    }
    caught(|| {
        let decoder = open(bytes)?;
        let size = decoder.size();
        let pixels = check_size(size.0, size.1, bounds.pixels_max)?;
        let layers = decoder.components().len();
        let space = match layers {
            1 => ColorSpace::JCS_GRAYSCALE,
            3 => ColorSpace::JCS_RGB,
            4 => ColorSpace::JCS_CMYK,
            _ => return Err(Problem::damaged(format!("its {layers} layers are not read"))),
        };
        let converted = if layers == 3 { 0 } else { 3 };
        let coefficients = if buffered { coefficients(size, layers) } else { 0 };
        let held = bounds.take(size, pixels * (layers + converted) + coefficients);
        let data = numbers(decoder, space, layers)?;
        let rgb = match layers {
            1 => modes::grey(data.into_iter()),
            3 => data,
            // Pillow takes inks to be stored inverted, as Adobe does.
            _ => modes::cmyk(&inverted(data)),
        };
        Ok(Picture { width: size.0, height: size.1, rgb, held })
    })
}

/// Numbers as they are stored, of an image of so many layers and columns, and of a number of rows
/// in this range.
pub(super) fn stored(
    bytes: &[u8],
    columns: usize,
    rows: &RangeInclusive<usize>,
    layers: usize,
) -> Result<Vec<u8>, Problem> {
    caught(|| {
        let decoder = open(bytes)?;
        let (width, height) = decoder.size();
        if width != columns || !rows.contains(&height) {
            return Err(Problem::damaged("an image in it is not of the size that the file says"));
        }
        if decoder.components().len() != layers || !matches!(layers, 1 | 3 | 4) {
            return Err(Problem::damaged("an image in it has not the layers that the file says"));
        }
        let space = decoder.color_space();
        numbers(decoder, space, layers)
    })
}

/// What the library knows when it has read what precedes the first scan.
fn open(bytes: &[u8]) -> Result<Decompress<Source<'_>>, Problem> {
    Decompress::new_reader(Source { bytes, at: 0 }).map_err(Problem::damaged)
}

/// All numbers, in a colour space of so many layers.
fn numbers(
    decoder: Decompress<Source<'_>>,
    space: ColorSpace,
    layers: usize,
) -> Result<Vec<u8>, Problem> {
    let (width, height) = decoder.size();
    let mut decoder = decoder.to_colorspace(space).map_err(Problem::damaged)?;
    let data: Vec<u8> = decoder.read_scanlines().map_err(Problem::damaged)?;
    // What follows the first scan is read as well: Pillow refuses a file without an end.
    decoder.finish().map_err(Problem::damaged)?;
    if data.len() != width * height * layers {
        return Err(Problem::damaged("it has not the pixels it promises"));
    }
    Ok(data)
}

/// Bytes of all coefficients of an image, which are kept where a scan has not all of a block.
pub(super) fn coefficients((width, height): Size, layers: usize) -> usize {
    // Blocks of eight, four of them side by side at most.
    let whole = width.next_multiple_of(32) * height.next_multiple_of(32);
    whole * layers * size_of::<i16>()
}

/// The library leaves by unwinding, without the panic hook, when it refuses a file.
fn caught<T>(read: impl FnOnce() -> Result<T, Problem>) -> Result<T, Problem> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|cause| Err(reason(&*cause)))
}

fn inverted(mut data: Vec<u8>) -> Vec<u8> {
    data.iter_mut().for_each(|number| *number = 255 - *number);
    data
}

/// Why the library, or a panic, ended a decode.
fn reason(cause: &(dyn Any + Send)) -> Problem {
    let message = cause.downcast_ref::<String>();
    match message.and_then(|message| message.strip_prefix("libjpeg fatal error: ")) {
        // What the library makes of any error of a source.
        Some("Input file read error") => Problem::damaged(CUT_OFF),
        Some(message) => Problem::damaged(message),
        None => Problem::GaveUp,
    }
}

/// A file whose end is an error: at an end of file the library would make up an end of image, and
/// paint what is missing grey.
struct Source<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl BufRead for Source<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match &self.bytes[self.at..] {
            [] => Err(io::Error::other(CUT_OFF)),
            rest => Ok(rest),
        }
    }

    fn consume(&mut self, read: usize) {
        self.at = (self.at + read).min(self.bytes.len());
    }
}

impl Read for Source<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(into)?;
        self.consume(read);
        Ok(read)
    }
}

/// How a file is stored.
#[derive(Debug, PartialEq)]
pub(super) struct Scans {
    /// Passes over the image.
    pub count: usize,
    /// Whether the first has not all of the image, so that all is kept until the last.
    pub buffered: bool,
}

/// The scans of a file, found as the library finds markers: by going to the next one.
pub(super) fn scans(bytes: &[u8]) -> Scans {
    let (mut found, mut rest) = (Scans { count: 0, buffered: false }, bytes);
    let mut layers = 0;
    while let Some(at) = memchr(0xff, rest) {
        let Some(&marker) = rest.get(at + 1) else { break };
        // After a byte 0xff that only fills, that byte begins the next pair.
        rest = &rest[at + if marker == 0xff { 1 } else { 2 }..];
        match marker {
            END => break,
            // These have no length: a number that is no marker, restarts, a start, and kinds that
            // are reserved.
            0x00..0xc0 | 0xd0..=0xd8 | 0xff => continue,
            SCAN => {
                found.count += 1;
                found.buffered |= rest.get(2).is_some_and(|&number| number < layers);
            }
            PROGRESSIVE => found.buffered = true,
            BASELINE | EXTENDED => layers = rest.get(7).copied().unwrap_or_default(),
            _ => {}
        }
        let [high, low, ..] = *rest else { break };
        rest = rest.get(usize::from(u16::from_be_bytes([high, low]))..).unwrap_or_default();
    }
    found
}

/// Turns the first three of each `N` numbers from YCbCr to RGB, in libjpeg's 16-bit fixed point.
pub(super) fn ycbcr<const N: usize>(mut data: Vec<u8>) -> Vec<u8> {
    for pixel in data.as_chunks_mut::<N>().0 {
        let luma = i32::from(pixel[0]);
        let (blue, red) = (i32::from(pixel[1]) - 128, i32::from(pixel[2]) - 128);
        let half = 1 << 15;
        let r = luma + ((91_881 * red + half) >> 16);
        let g = luma + ((-22_554 * blue - 46_802 * red + half) >> 16);
        let b = luma + ((116_130 * blue + half) >> 16);
        pixel[0] = r.clamp(0, 255) as u8;
        pixel[1] = g.clamp(0, 255) as u8;
        pixel[2] = b.clamp(0, 255) as u8;
    }
    data
}
