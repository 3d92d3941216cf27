//! JPEG files: baseline and progressive; grey, YCbCr, RGB, CMYK and YCCK.
//!
//! Decoded by libjpeg-turbo, as in Pillow (the copy in `mozjpeg`): another way of upsampling chroma
//! would change what a network sees. Only samples far outside 0..=255, as in corrupt blocks, may be
//! clipped differently: there SIMD code (used if the build found nasm) and scalar code differ.
//!
//! Must not know: other formats.

use std::any::Any;
use std::io::{self, BufRead, Read};
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};

use memchr::memchr;
use mozjpeg::{ColorSpace, Decompress};

use super::{DecodeLimits, Picture, Problem, Size, check_size, modes};

#[cfg(test)]
mod tests;

/// Maximum scans of a file: each may go through every block.
pub(super) const SCANS_MAX: usize = 128;

const CUT_OFF: &str = "it is cut off";

/// End of image (EOI).
const END: u8 = 0xd9;
/// Start of scan (SOS).
const SCAN: u8 = 0xda;
/// Start of frame (SOF), of the supported kinds.
const BASELINE: u8 = 0xc0;
const EXTENDED: u8 = 0xc1;
const PROGRESSIVE: u8 = 0xc2;

pub(super) fn decode(bytes: &[u8], limits: &DecodeLimits<'_>) -> Result<Picture, Problem> {
    let Scans { count, buffered } = scans(bytes);
    if count > SCANS_MAX {
        return Err(Problem::damaged(format!("it has more than {SCANS_MAX} scans")));
    }
    caught(|| {
        let decoder = open(bytes)?;
        let (width, height) = decoder.size();
        let size = Size::new(width, height);
        let pixels = check_size(size, limits.pixels_max)?;
        let layers = decoder.components().len();
        let space = match layers {
            1 => ColorSpace::JCS_GRAYSCALE,
            3 => ColorSpace::JCS_RGB,
            4 => ColorSpace::JCS_CMYK,
            _ => {
                return Err(Problem::damaged(format!("its {layers} components are not supported")));
            }
        };
        let converted = if layers == 3 { 0 } else { 3 };
        let coefficients = if buffered { coefficients(size, layers) } else { 0 };
        let held = limits.take(size, pixels * (layers + converted) + coefficients);
        let data = numbers(decoder, space, layers)?;
        let rgb = match layers {
            1 => modes::grey(data.into_iter()),
            3 => data,
            // Pillow assumes that inks are stored inverted, as by Adobe.
            _ => modes::cmyk(&inverted(data)),
        };
        Ok(Picture { size, rgb, held })
    })
}

/// Samples as stored, without colour conversion. The image must have `columns` columns, a number of
/// rows in `rows`, and `layers` components.
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
            return Err(Problem::damaged(
                "an image in it does not have the size that the file declares",
            ));
        }
        if decoder.components().len() != layers || !matches!(layers, 1 | 3 | 4) {
            return Err(Problem::damaged(
                "an image in it does not have the components that the file declares",
            ));
        }
        let space = decoder.color_space();
        numbers(decoder, space, layers)
    })
}

/// Reads a file up to its first scan.
fn open(bytes: &[u8]) -> Result<Decompress<JpegReader<'_>>, Problem> {
    Decompress::new_reader(JpegReader { bytes, at: 0 }).map_err(Problem::damaged)
}

/// All samples, in a colour space of `layers` components.
fn numbers(
    decoder: Decompress<JpegReader<'_>>,
    space: ColorSpace,
    layers: usize,
) -> Result<Vec<u8>, Problem> {
    let (width, height) = decoder.size();
    let mut decoder = decoder.to_colorspace(space).map_err(Problem::damaged)?;
    let data: Vec<u8> = decoder.read_scanlines().map_err(Problem::damaged)?;
    // Reads to the end of the file: Pillow rejects a file without an end marker.
    decoder.finish().map_err(Problem::damaged)?;
    if data.len() != width * height * layers {
        return Err(Problem::damaged("it has fewer pixels than its header declares"));
    }
    Ok(data)
}

/// Bytes of the DCT coefficients, all of which the decoder buffers if a scan omits components.
pub(super) fn coefficients(size: Size, layers: usize) -> usize {
    // Blocks are 8 x 8 pixels, and an MCU has at most 4 x 4 of them.
    let whole = size.width.next_multiple_of(32) * size.height.next_multiple_of(32);
    whole * layers * size_of::<i16>()
}

/// Catches the library's unwinding, by which it rejects a file without calling the panic hook.
fn caught<T>(read: impl FnOnce() -> Result<T, Problem>) -> Result<T, Problem> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|cause| Err(reason(&*cause)))
}

fn inverted(mut data: Vec<u8>) -> Vec<u8> {
    data.iter_mut().for_each(|number| *number = 255 - *number);
    data
}

/// Why the library rejected a file, or that it was a panic.
fn reason(cause: &(dyn Any + Send)) -> Problem {
    let message = cause.downcast_ref::<String>();
    match message.and_then(|message| message.strip_prefix("libjpeg fatal error: ")) {
        // The library's message for any error of a source.
        Some("Input file read error") => Problem::damaged(CUT_OFF),
        Some(message) => Problem::damaged(message),
        None => Problem::GaveUp,
    }
}

/// A reader for which the end of the file is an error: the library would otherwise insert an end
/// marker and fill in what is missing with grey.
struct JpegReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl BufRead for JpegReader<'_> {
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

impl Read for JpegReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(into)?;
        self.consume(read);
        Ok(read)
    }
}

/// What is known about a file's scans.
#[derive(Debug, PartialEq)]
pub(super) struct Scans {
    /// Number of scans.
    pub count: usize,
    /// Whether a scan has only part of the image, so that all coefficients are buffered until the
    /// last scan.
    pub buffered: bool,
}

/// The scans of a file. Finds markers as the library does: by skipping to the next one.
pub(super) fn scans(bytes: &[u8]) -> Scans {
    let (mut found, mut rest) = (Scans { count: 0, buffered: false }, bytes);
    let mut layers = 0;
    while let Some(at) = memchr(0xff, rest) {
        let Some(&marker) = rest.get(at + 1) else { break };
        // The second byte of 0xff 0xff may begin the marker: the first is a fill byte.
        rest = &rest[at + if marker == 0xff { 1 } else { 2 }..];
        match marker {
            END => break,
            // These have no length: stuffed bytes, fill bytes, restart markers, the start of the
            // image, and reserved markers.
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

/// Converts the first three of each `N` values from YCbCr to RGB, in libjpeg's 16-bit fixed point.
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
