//! WebP files.
//!
//! Must not know: other formats.

use std::io::Cursor;

use image_webp::WebPDecoder;

use super::animation::Animation;
use super::{Picture, Problem, check_size, modes};

/// A WebP file that is open.
pub(super) struct WebP<'a> {
    decoder: WebPDecoder<Cursor<&'a [u8]>>,
    /// Columns and rows.
    pub size: (usize, usize),
}

impl<'a> WebP<'a> {
    pub(super) fn open(bytes: &'a [u8], pixels_max: usize) -> Result<Self, Problem> {
        let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(Problem::damaged)?;
        let (width, height) = decoder.dimensions();
        let size = (width as usize, height as usize);
        check_size(size.0, size.1, pixels_max)?;
        decoder.set_memory_limit(bytes.len());
        if decoder.is_animated() {
            // Pillow starts from nothing, whatever background the file asks for.
            decoder.set_background_color([0; 4]).map_err(Problem::damaged)?;
        }
        Ok(Self { decoder, size })
    }

    /// Whether it has several frames.
    pub(super) fn is_animated(&self) -> bool {
        self.decoder.is_animated()
    }

    /// Frames of an animated file and how long they are shown together, in seconds.
    pub(super) fn length(&self) -> (usize, f64) {
        (self.decoder.num_frames() as usize, self.decoder.loop_duration() as f64 / 1000.0)
    }

    /// A buffer for an image or a frame.
    fn buffer(&self) -> Result<Vec<u8>, Problem> {
        let size = self.decoder.output_buffer_size();
        Ok(vec![0; size.ok_or_else(|| Problem::damaged("it is too large"))?])
    }

    /// Numbers as the file has them as RGB.
    pub(super) fn to_rgb(&self, data: Vec<u8>) -> Vec<u8> {
        if self.decoder.has_alpha() { modes::on_white(&data) } else { data }
    }

    /// The next frame of an animated file, laid over those before it.
    pub(super) fn frame(&mut self) -> Result<Vec<u8>, Problem> {
        let mut data = self.buffer()?;
        self.decoder.read_frame(&mut data).map_err(Problem::damaged)?;
        Ok(data)
    }
}

pub(super) fn decode(bytes: &[u8], pixels_max: usize) -> Result<Picture, Problem> {
    let mut file = WebP::open(bytes, pixels_max)?;
    let mut data = file.buffer()?;
    file.decoder.read_image(&mut data).map_err(Problem::damaged)?;
    let (width, height) = file.size;
    Ok(Picture { width, height, rgb: file.to_rgb(data) })
}

/// The file as an animation, if it has several frames.
pub(super) fn animation(bytes: &[u8], pixels_max: usize) -> Result<Option<Animation<'_>>, Problem> {
    let file = WebP::open(bytes, pixels_max)?;
    if !file.is_animated() {
        return Ok(None);
    }
    let (frames, seconds) = file.length();
    if frames == 0 {
        return Err(Problem::Empty);
    }
    let (width, height) = file.size;
    Ok(Some(Animation::new(frames, seconds, (width, height), Box::new(file))))
}
