//! JPEG files: baseline and progressive; grey, YCbCr, RGB, CMYK and YCCK.
//!
//! Read by the decoder that Pillow uses, libjpeg-turbo, in the copy of it that `mozjpeg` carries:
//! chroma that is smoothed otherwise when it is enlarged moves what a network sees. Only what lies
//! far outside 0..=255, as in damaged blocks, is cut otherwise than by the vector code of Pillow's.
//!
//! Must not know: other formats.

use std::any::Any;
use std::io::{self, BufRead, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};

use memchr::memchr;
use mozjpeg::{ColorSpace, Decompress};

use super::{Picture, Problem, check_size, modes};

#[cfg(test)]
mod tests;

/// Scans of a progressive file at most: each walks over every block.
const SCANS_MAX: usize = 128;

const CUT_OFF: &str = "it is cut off";

/// The marker at the end of an image.
const END: u8 = 0xd9;
/// The marker that begins a scan.
const SCAN: u8 = 0xda;

pub(super) fn decode(bytes: &[u8], pixels_max: usize) -> Result<Picture, Problem> {
    if scans(bytes) > SCANS_MAX {
        return Err(Problem::damaged(format!("it has more than {SCANS_MAX} scans")));
    }
    // The library leaves by unwinding, without the panic hook, when it refuses a file.
    catch_unwind(AssertUnwindSafe(|| read(bytes, pixels_max)))
        .unwrap_or_else(|cause| Err(Problem::damaged(reason(&*cause))))
}

fn read(bytes: &[u8], pixels_max: usize) -> Result<Picture, Problem> {
    let source = Source { bytes, at: 0 };
    let decoder = Decompress::new_reader(source).map_err(Problem::damaged)?;
    let (width, height) = decoder.size();
    let pixels = check_size(width, height, pixels_max)?;
    let layers = decoder.components().len();
    let space = match layers {
        1 => ColorSpace::JCS_GRAYSCALE,
        3 => ColorSpace::JCS_RGB,
        4 => ColorSpace::JCS_CMYK,
        _ => return Err(Problem::damaged(format!("its {layers} layers are not read"))),
    };
    let mut decoder = decoder.to_colorspace(space).map_err(Problem::damaged)?;
    let data: Vec<u8> = decoder.read_scanlines().map_err(Problem::damaged)?;
    // What follows the first scan is read as well: Pillow refuses a file without an end.
    decoder.finish().map_err(Problem::damaged)?;
    if data.len() != pixels * layers {
        return Err(Problem::damaged("it has not the pixels it promises"));
    }
    let rgb = match layers {
        1 => modes::grey(data.into_iter()),
        3 => data,
        // Pillow takes inks to be stored inverted, as Adobe does.
        _ => modes::cmyk(&inverted(data)),
    };
    Ok(Picture { width, height, rgb })
}

fn inverted(mut data: Vec<u8>) -> Vec<u8> {
    data.iter_mut().for_each(|number| *number = 255 - *number);
    data
}

/// Why the library, or a panic, ended a decode.
fn reason(cause: &(dyn Any + Send)) -> String {
    let message = cause.downcast_ref::<String>().map(String::as_str);
    match message.map(|message| message.trim_start_matches("libjpeg fatal error: ")) {
        // What the library makes of any error of a source.
        Some("Input file read error") => CUT_OFF.to_owned(),
        Some(message) => message.to_owned(),
        None => "the decoder gave up".to_owned(),
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

/// How many scans a file has, found as the library finds markers: by going to the next one.
fn scans(bytes: &[u8]) -> usize {
    let (mut scans, mut rest) = (0, bytes);
    while let Some(at) = memchr(0xff, rest) {
        let Some(&marker) = rest.get(at + 1) else { break };
        // After a byte 0xff that only fills, that byte begins the next pair.
        rest = &rest[at + if marker == 0xff { 1 } else { 2 }..];
        match marker {
            END => break,
            // These have no length: a number that is no marker, restarts, a start, and kinds that are reserved.
            0x00..0xc0 | 0xd0..=0xd8 | 0xff => continue,
            SCAN => scans += 1,
            _ => {}
        }
        let [high, low, ..] = *rest else { break };
        rest = rest.get(usize::from(u16::from_be_bytes([high, low]))..).unwrap_or_default();
    }
    scans
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
