//! GIF files.
//!
//! Must not know: other formats.

use std::io::Cursor;
use std::num::NonZeroU64;

use gif::{ColorOutput, DecodeOptions, Decoder, DisposalMethod, Frame, MemoryLimit};

use super::animation::{Animation, Frames, Length};
use super::modes::{self, Palette};
use super::{DecodeLimits, MediaError, Picture, Problem, Size, check_size};

type File<'a> = Decoder<Cursor<&'a [u8]>>;

fn open(bytes: &[u8], pixels_max: usize, skip: bool) -> Result<File<'_>, Problem> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    options.skip_frame_decoding(skip);
    if let Some(limit) = NonZeroU64::new(pixels_max as u64) {
        options.set_memory_limit(MemoryLimit::Bytes(limit));
    }
    options.read_info(Cursor::new(bytes)).map_err(Problem::damaged)
}

fn palette(file: &File<'_>, frame: &Frame<'_>) -> Palette {
    let triples = frame.palette.as_deref().or(file.global_palette()).unwrap_or_default();
    Palette::new(triples.as_chunks::<3>().0.iter().copied())
}

/// A frame's `[left, top, width, height]`.
fn extent(frame: &Frame<'_>) -> [usize; 4] {
    [frame.left, frame.top, frame.width, frame.height].map(usize::from)
}

pub(super) fn decode(bytes: &[u8], limits: &DecodeLimits<'_>) -> Result<Picture, Problem> {
    let pixels_max = limits.pixels_max;
    let mut file = open(bytes, pixels_max, false)?;
    let screen = Size::new(usize::from(file.width()), usize::from(file.height()));
    let info = file.next_frame_info().map_err(Problem::damaged)?;
    let frame = info.ok_or_else(|| Problem::damaged("it has no frame"))?.clone();
    let [left, top, width, height] = extent(&frame);
    // A frame that extends beyond the screen enlarges it, as in Pillow.
    let size = Size::new(screen.width.max(left + width), screen.height.max(top + height));
    let pixels = check_size(size, pixels_max)?;
    // A frame may have any aspect ratio: only the screen's is limited.
    if width == 0 || height == 0 {
        return Err(Problem::Empty);
    }
    let held = limits.take(size, pixels * 3 + width * height);
    let mut indices = vec![0; width * height];
    file.read_into_buffer(&mut indices).map_err(Problem::damaged)?;
    let colors = palette(&file, &frame);
    let background = colors.color(frame.transparent.unwrap_or(0));
    let mut rgb = Vec::with_capacity(pixels * 3);
    if (left, top) == (0, 0) && Size::new(width, height) == size {
        rgb = colors.rgb(indices.into_iter());
    } else {
        (0..pixels).for_each(|_| rgb.extend(background));
        for (row, line) in indices.chunks_exact(width).enumerate() {
            let at = ((top + row) * size.width + left) * 3;
            rgb[at..at + width * 3].copy_from_slice(&colors.rgb(line.iter().copied()));
        }
    }
    Ok(Picture { size, rgb, held })
}

/// Plays a GIF.
struct Player<'a> {
    file: File<'a>,
    size: Size,
    /// RGBA `[height][width][4]`: alpha is 0 where nothing was drawn.
    canvas: Vec<u8>,
    /// How to dispose of the frame drawn last.
    leave: Option<Leave>,
}

/// How to dispose of a frame once its time is over.
struct Leave {
    /// `[left, top, width, height]`, within the canvas.
    area: [usize; 4],
    /// The previous pixels, to be restored; `None` clears the frame.
    before: Option<Vec<u8>>,
}

impl Player<'_> {
    /// Disposes of the last frame as it requests.
    fn dispose(&mut self) {
        let Some(Leave { area: [left, top, width, height], before }) = self.leave.take() else {
            return;
        };
        for row in 0..height {
            let at = ((top + row) * self.size.width + left) * 4;
            let line = &mut self.canvas[at..at + width * 4];
            match &before {
                Some(before) => line.copy_from_slice(&before[row * width * 4..][..width * 4]),
                None => line.fill(0),
            }
        }
    }

    /// A copy of a part of the canvas.
    fn part(&self, [left, top, width, height]: [usize; 4]) -> Vec<u8> {
        let mut part = Vec::with_capacity(width * height * 4);
        for row in 0..height {
            let at = ((top + row) * self.size.width + left) * 4;
            part.extend_from_slice(&self.canvas[at..at + width * 4]);
        }
        part
    }

    /// Draws a frame's opaque pixels.
    fn draw(&mut self, frame: &Frame<'_>, indices: &[u8], area: [usize; 4]) {
        let colors = palette(&self.file, frame);
        let [left, top, width, height] = area;
        let lines = indices.chunks_exact(usize::from(frame.width).max(1));
        for (row, line) in lines.take(height).enumerate() {
            let at = ((top + row) * self.size.width + left) * 4;
            let pixels = self.canvas[at..at + width * 4].as_chunks_mut::<4>().0;
            for (pixel, &index) in pixels.iter_mut().zip(line) {
                if frame.transparent != Some(index) {
                    let [r, g, b] = colors.color(index);
                    *pixel = [r, g, b, 255];
                }
            }
        }
    }
}

impl Frames for Player<'_> {
    fn next(&mut self, wanted: bool) -> Result<Option<Vec<u8>>, Problem> {
        let info = self.file.next_frame_info().map_err(Problem::damaged)?;
        let frame = info.ok_or_else(|| Problem::damaged("a frame is missing"))?.clone();
        let [left, top, width, height] = extent(&frame);
        let mut indices = vec![0; width * height];
        if !indices.is_empty() {
            self.file.read_into_buffer(&mut indices).map_err(Problem::damaged)?;
        }
        self.dispose();
        let (left, top) = (left.min(self.size.width), top.min(self.size.height));
        let area =
            [left, top, width.min(self.size.width - left), height.min(self.size.height - top)];
        self.leave = match frame.dispose {
            DisposalMethod::Background => Some(Leave { area, before: None }),
            DisposalMethod::Previous => Some(Leave { area, before: Some(self.part(area)) }),
            DisposalMethod::Any | DisposalMethod::Keep => None,
        };
        self.draw(&frame, &indices, area);
        Ok(wanted.then(|| modes::on_white(&self.canvas)))
    }
}

/// Opens the file as an animation, if it has several frames.
pub(super) fn animation<'a>(
    bytes: &'a [u8],
    limits: &DecodeLimits<'_>,
) -> Result<Option<Animation<'a>>, Problem> {
    let limit = limits.pixels_max;
    let mut file = open(bytes, limit, true)?;
    let size = Size::new(usize::from(file.width()), usize::from(file.height()));
    let screen = check_size(size, limit)?;
    let (mut frames, mut hundredths, mut drawn, mut largest) = (0, 0, 0usize, 0);
    while let Some(frame) = file.next_frame_info().map_err(Problem::damaged)? {
        let [_, _, width, height] = extent(frame);
        if width * height > limit {
            return Err(Problem::Media(MediaError::TooManyPixels { width, height, limit }));
        }
        frames += 1;
        hundredths += usize::from(frame.delay);
        // A frame is decoded in full, however little of it lies on the screen.
        drawn = drawn.saturating_add(screen.max(width * height));
        largest = largest.max(width * height);
    }
    if frames < 2 {
        return Ok(None);
    }
    // The canvas, a part of it to restore, a frame as RGB, and the frame's indices.
    let held = limits.take(size, screen * (4 + 4 + 3) + largest + (limits.after)(size));
    let file = open(bytes, limit, false)?;
    let player = Player { file, size, canvas: vec![0; screen * 4], leave: None };
    let length = Length { frames, seconds: hundredths as f64 / 100.0, drawn };
    Ok(Some(Animation::new(&length, size, Box::new(player), held)))
}
