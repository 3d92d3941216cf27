//! The sizes and frames that qwen_vl_utils chooses, computed as Python, NumPy and torch do.
//!
//! Must not know: pixels, file formats.

use super::MediaError;
use super::size::Size;

/// Largest ratio of the longer side to the shorter.
pub(super) const RATIO_MAX: usize = 200;
/// Frames that the network sees together (the temporal patch size).
pub(super) const GROUP: usize = 2;
/// Maximum frames sampled from a list; for a file, the default limit.
pub(super) const FRAMES: usize = 64;
/// Fewest frames sampled from a file, unless it has fewer or the limit is lower.
const FRAMES_MIN: usize = 4;
/// Frames sampled per second of a file by default.
pub(super) const FPS: f64 = 1.0;
/// The assumed frame rate of a list of frames.
pub(super) const LIST_FPS: f64 = 2.0;

/// Minimum and maximum pixels of an image, in units of `factor * factor`.
const IMAGE: PixelRange = PixelRange { min: 4.0, max: 1800.0 };
/// The same for a frame of a list in its first, separate resize.
const LIST_FRAME: PixelRange = PixelRange { min: 4.0, max: 16_384.0 };
/// The same for a frame of a video.
const FRAME: PixelRange = PixelRange { min: 128.0, max: 768.0 };
/// Maximum of a list's groups together, in the same unit. A group counts as one frame.
const LIST_TOTAL: f64 = 10.0 * 768.0;
/// The same for a file's groups.
const FILE_TOTAL: f64 = 128_000.0 * 0.9;

/// Minimum and maximum number of pixels.
struct PixelRange {
    min: f64,
    max: f64,
}

impl PixelRange {
    /// A range in units of `factor * factor` in pixels.
    fn times_square(&self, factor: usize) -> Self {
        let square = (factor * factor) as f64;
        Self { min: self.min * square, max: self.max * square }
    }
}

/// The size an image is resized to.
pub(super) fn image(size: Size, factor: usize) -> Result<Size, MediaError> {
    smart_resize(size, factor, &IMAGE.times_square(factor))
}

/// The size a frame of a list is first resized to. The reference passes the factor where a patch
/// size is expected, so the factor here is twice the network's.
pub(super) fn list_frame(size: Size, factor: usize) -> Result<Size, MediaError> {
    smart_resize(size, factor * 2, &LIST_FRAME.times_square(factor * 2))
}

/// The size the frames of a video of `frames` frames are resized to.
pub(super) fn frame(
    size: Size,
    factor: usize,
    frames: usize,
    list: bool,
) -> Result<Size, MediaError> {
    let square = (factor * factor) as f64;
    let total = if list { LIST_TOTAL } else { FILE_TOTAL } * square;
    let PixelRange { min, max } = FRAME.times_square(factor);
    let max = max.min(total / frames as f64 * GROUP as f64).max((min * 1.05).floor());
    smart_resize(size, factor, &PixelRange { min, max })
}

/// The reference's `smart_resize`: a size near the given one, with sides that are multiples of
/// `factor` and a number of pixels within `pixels`.
fn smart_resize(size: Size, factor: usize, pixels: &PixelRange) -> Result<Size, MediaError> {
    let Size { width, height } = size;
    let ratio = || MediaError::AspectRatio { width, height, limit: RATIO_MAX };
    let (w, h, f) = (width as f64, height as f64, factor as f64);
    if w.max(h) / w.min(h) > RATIO_MAX as f64 {
        return Err(ratio());
    }
    let near = |side: f64| ((side / f).round_ties_even() * f).max(f);
    let (mut columns, mut rows) = (near(w), near(h));
    if rows * columns > pixels.max {
        let beta = ((h * w) / pixels.max).sqrt();
        rows = (h / beta / f).floor() * f;
        columns = (w / beta / f).floor() * f;
    } else if rows * columns < pixels.min {
        let beta = (pixels.min / (h * w)).sqrt();
        rows = (h * beta / f).ceil() * f;
        columns = (w * beta / f).ceil() * f;
    }
    if rows < f || columns < f {
        return Err(ratio());
    }
    Ok(Size::new(columns as usize, rows as usize))
}

/// Indices of the frames sampled from a list: `numpy.linspace(0, frames - 1, 64, dtype=int)`.
pub(super) fn list_indices(frames: usize) -> Vec<usize> {
    if frames <= FRAMES {
        return (0..frames).collect();
    }
    let step = (frames - 1) as f64 / (FRAMES - 1) as f64;
    (0..FRAMES - 1).map(|at| (at as f64 * step) as usize).chain([frames - 1]).collect()
}

/// Indices of the frames sampled from a file: `smart_nframes`, then
/// `torch.linspace(0, frames - 1, n).round()`, which computes from both ends in float32.
///
/// # Errors
/// A file of fewer than two frames, or a `frames_max` below two.
pub(super) fn file_indices(
    frames: usize,
    file_fps: f64,
    fps: f64,
    frames_max: usize,
) -> Result<Vec<usize>, MediaError> {
    let pairs = |number: f64| (number / GROUP as f64).floor() * GROUP as f64;
    let wanted = frames as f64 / file_fps * fps;
    let most = pairs(frames_max as f64).min(frames as f64);
    let taken = pairs(wanted.max(FRAMES_MIN as f64).min(most)) as usize;
    if taken < GROUP {
        return Err(MediaError::Sampling(format!(
            "fewer than {GROUP} frames can be sampled from a video of {frames} frames, at most \
             {frames_max} of them"
        )));
    }
    let end = (frames - 1) as f32;
    let step = end / (taken - 1) as f32;
    let indices = (0..taken).map(|at| {
        let index =
            if at < taken / 2 { step * at as f32 } else { end - step * (taken - at - 1) as f32 };
        (index.round_ties_even() as usize).min(frames - 1)
    });
    Ok(indices.collect())
}

/// The time of each pair of frames in seconds: the mean of both. An odd last frame counts twice.
pub(super) fn seconds(frames: &[usize], fps: f64) -> Vec<f64> {
    let time = |frame: usize| frame as f64 / fps;
    frames.chunks(GROUP).map(|pair| (time(pair[0]) + time(pair[pair.len() - 1])) / 2.0).collect()
}

#[cfg(test)]
mod tests;
