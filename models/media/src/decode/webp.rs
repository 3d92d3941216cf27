//! WebP files.
//!
//! Must not know: other formats.

mod survey;

use std::io::Cursor;

use image_webp::WebPDecoder;

use self::survey::survey;
use super::animation::{Animation, Frames, Length};
use super::{Bounds, Picture, Problem, check_size, modes};

/// Bytes a pixel that reading a lossy image takes: its planes, and what is known of its blocks.
const PLANES: usize = 3;
/// Bytes a pixel that reading numbers of alpha takes.
const ALPHA: usize = 5;
/// Bytes a pixel that reading a lossless image takes: RGBA, and what undoes its transforms.
const LOSSLESS: usize = 5;
/// Bytes of tables that a byte of a lossless image makes at most: a code of some 80 bits has one
/// of 4 KiB.
const TABLES: usize = 400;
/// Bytes of all tables of a lossless image: five of each of its groups.
const TABLES_MAX: usize = (5 << 16) * (4096 + 256);

/// A WebP file that is open.
struct WebP<'a> {
    bytes: &'a [u8],
    decoder: WebPDecoder<Cursor<&'a [u8]>>,
    /// Columns and rows.
    size: (usize, usize),
}

impl<'a> WebP<'a> {
    fn open(bytes: &'a [u8], pixels_max: usize) -> Result<Self, Problem> {
        let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(Problem::damaged)?;
        let (width, height) = decoder.dimensions();
        let size = (width as usize, height as usize);
        check_size(size.0, size.1, pixels_max)?;
        decoder.set_memory_limit(bytes.len());
        if decoder.is_animated() {
            // Pillow starts from nothing, whatever background the file asks for.
            decoder.set_background_color([0; 4]).map_err(Problem::damaged)?;
        }
        Ok(Self { bytes, decoder, size })
    }

    /// Frames that are read: all of an animation, or the first.
    fn frames(&self, all: bool) -> usize {
        let frames = self.decoder.num_frames() as usize;
        if all { frames } else { frames.min(1) }
    }

    /// Bytes that reading holds at most, the picture among them, if no image in the file is larger
    /// than it says outside.
    fn needs(&self, all: bool) -> Result<usize, Problem> {
        let animated = self.decoder.is_animated();
        let found = survey(self.bytes, self.size, animated.then(|| self.frames(all)))?;
        let read = match self.decoder.has_alpha() {
            false if found.lossless == 0 => PLANES + 3,
            false => LOSSLESS + 3,
            // What is read is laid on white.
            true => PLANES.max(LOSSLESS) + ALPHA + 4 + 3,
        };
        // The canvas, and a frame before it is laid over that.
        let pixel = if animated { 4 + 4 + 4 + read } else { read };
        let tables = found.lossless.saturating_mul(TABLES).min(TABLES_MAX);
        Ok(self.size.0 * self.size.1 * pixel + tables)
    }

    /// A buffer for an image or a frame.
    fn buffer(&self) -> Result<Vec<u8>, Problem> {
        let size = self.decoder.output_buffer_size();
        Ok(vec![0; size.ok_or_else(|| Problem::damaged("it is too large"))?])
    }

    /// Numbers as the file has them as RGB.
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

pub(super) fn decode(bytes: &[u8], bounds: &Bounds<'_>) -> Result<Picture, Problem> {
    let mut file = WebP::open(bytes, bounds.pixels_max)?;
    let held = bounds.take(file.size, file.needs(false)?);
    let mut data = file.buffer()?;
    file.decoder.read_image(&mut data).map_err(Problem::damaged)?;
    let (width, height) = file.size;
    Ok(Picture { width, height, rgb: file.to_rgb(data), held })
}

/// The file as an animation, if it has several frames.
pub(super) fn animation<'a>(
    bytes: &'a [u8],
    bounds: &Bounds<'_>,
) -> Result<Option<Animation<'a>>, Problem> {
    let file = WebP::open(bytes, bounds.pixels_max)?;
    let frames = file.frames(true);
    if !file.decoder.is_animated() || frames < 2 {
        return Ok(None);
    }
    let size = file.size;
    let held = bounds.take(size, file.needs(true)?.saturating_add((bounds.after)(size)));
    let seconds = file.decoder.loop_duration() as f64 / 1000.0;
    // No frame reaches out of the canvas.
    let length = Length { frames, seconds, drawn: frames.saturating_mul(size.0 * size.1) };
    Ok(Some(Animation::new(&length, size, Box::new(file), held)))
}
