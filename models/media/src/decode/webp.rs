//! WebP files.
//!
//! Must not know: other formats.

mod survey;

use std::io::Cursor;

use image_webp::WebPDecoder;

use self::survey::survey;
use super::animation::{Animation, Frames, Length};
use super::{DecodeLimits, Picture, Problem, Size, check_size, modes};

/// Bytes per pixel for decoding a lossy image: its planes and the state of its blocks.
const PLANES: usize = 3;
/// Bytes per pixel for decoding alpha.
const ALPHA: usize = 5;
/// Bytes per pixel for decoding a lossless image: RGBA and the data of its transforms.
const LOSSLESS: usize = 5;
/// Maximum bytes of Huffman tables per byte of a lossless image: a code of about 80 bits has a
/// table of 4 KiB.
const TABLES: usize = 400;
/// Maximum bytes of a lossless image's Huffman tables: five for each of 65,536 groups.
const TABLES_MAX: usize = (5 << 16) * (4096 + 256);

/// An open WebP file.
struct WebP<'a> {
    bytes: &'a [u8],
    decoder: WebPDecoder<Cursor<&'a [u8]>>,
    /// Size of the canvas.
    size: Size,
}

impl<'a> WebP<'a> {
    fn open(bytes: &'a [u8], pixels_max: usize) -> Result<Self, Problem> {
        let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(Problem::damaged)?;
        let (width, height) = decoder.dimensions();
        let size = Size::new(width as usize, height as usize);
        check_size(size, pixels_max)?;
        decoder.set_memory_limit(bytes.len());
        if decoder.is_animated() {
            // Pillow starts with a transparent canvas, whatever the file's background colour.
            decoder.set_background_color([0; 4]).map_err(Problem::damaged)?;
        }
        Ok(Self { bytes, decoder, size })
    }

    /// Number of frames to read: all of an animation, or only the first.
    fn frames(&self, all: bool) -> usize {
        let frames = self.decoder.num_frames() as usize;
        if all { frames } else { frames.min(1) }
    }

    /// Upper bound on the bytes that decoding holds, including the image. Refuses a file with a
    /// lossy image whose size is not what its container says.
    fn needs(&self, all: bool) -> Result<usize, Problem> {
        let animated = self.decoder.is_animated();
        let found = survey(self.bytes, self.size, animated.then(|| self.frames(all)))?;
        let read = match self.decoder.has_alpha() {
            false if found.lossless == 0 => PLANES + 3,
            false => LOSSLESS + 3,
            // The decoded image is then blended onto white.
            true => PLANES.max(LOSSLESS) + ALPHA + 4 + 3,
        };
        // The canvas, and a frame before it is blended onto the canvas.
        let pixel = if animated { 4 + 4 + 4 + read } else { read };
        let tables = found.lossless.saturating_mul(TABLES).min(TABLES_MAX);
        Ok(self.size.pixels() * pixel + tables)
    }

    /// A buffer for an image or a frame.
    fn buffer(&self) -> Result<Vec<u8>, Problem> {
        let size = self.decoder.output_buffer_size();
        Ok(vec![0; size.ok_or_else(|| Problem::damaged("it is too large"))?])
    }

    /// Decoded data as RGB.
    fn to_rgb(&self, data: Vec<u8>) -> Vec<u8> {
        if self.decoder.has_alpha() { modes::on_white(&data) } else { data }
    }
}

impl Frames for WebP<'_> {
    fn next(&mut self, wanted: bool) -> Result<Option<Vec<u8>>, Problem> {
        let mut data = self.buffer()?;
        self.decoder.read_frame(&mut data).map_err(Problem::damaged)?;
        Ok(wanted.then(|| self.to_rgb(data)))
    }
}

pub(super) fn decode(bytes: &[u8], limits: &DecodeLimits<'_>) -> Result<Picture, Problem> {
    let mut file = WebP::open(bytes, limits.pixels_max)?;
    let held = limits.take(file.size, file.needs(false)?);
    let mut data = file.buffer()?;
    file.decoder.read_image(&mut data).map_err(Problem::damaged)?;
    Ok(Picture { size: file.size, rgb: file.to_rgb(data), held })
}

/// Opens the file as an animation, if it has several frames.
pub(super) fn animation<'a>(
    bytes: &'a [u8],
    limits: &DecodeLimits<'_>,
) -> Result<Option<Animation<'a>>, Problem> {
    let file = WebP::open(bytes, limits.pixels_max)?;
    let frames = file.frames(true);
    if !file.decoder.is_animated() || frames < 2 {
        return Ok(None);
    }
    let size = file.size;
    let held = limits.take(size, file.needs(true)?.saturating_add((limits.after)(size)));
    let seconds = file.decoder.loop_duration() as f64 / 1000.0;
    // No frame extends beyond the canvas.
    let length = Length { frames, seconds, drawn: frames.saturating_mul(size.pixels()) };
    Ok(Some(Animation::new(&length, size, Box::new(file), held)))
}
