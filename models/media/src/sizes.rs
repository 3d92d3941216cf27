//! The sizes and frames that qwen_vl_utils chooses, in the arithmetic of Python, NumPy and torch.
//!
//! Must not know: pixels, file formats.

use super::MediaError;

/// The longer over the shorter side at most.
pub(super) const RATIO_MAX: usize = 200;
/// Frames that are seen together.
pub(super) const GROUP: usize = 2;
/// Frames taken of a list at most; also of a file, unless a caller says otherwise.
pub(super) const FRAMES: usize = 64;
/// Frames taken of a file at least.
const FRAMES_MIN: usize = 4;
/// Frames taken of each second of a file, unless a caller says otherwise.
pub(super) const FPS: f64 = 1.0;
/// Frames a second of which a list is taken to be.
pub(super) const LIST_FPS: f64 = 2.0;

/// Pixels of an image, at least and at most, in squares of the factor.
const IMAGE: (usize, f64) = (4, 1800.0);
/// Those of a frame of a list, resized on its own.
const LIST_FRAME: (usize, f64) = (4, 16_384.0);
/// Those of a frame.
const FRAME: (usize, f64) = (128, 768.0);
/// Squares of all groups of a list, at most.
const LIST_TOTAL: f64 = 10.0 * 768.0;
/// Those of all groups of a file, at most.
const FILE_TOTAL: f64 = 128_000.0 * 0.9;

/// `(width, height)`.
pub(super) type Size = (usize, usize);

/// Pixels that a size may have.
struct Bounds {
    min: f64,
    max: f64,
}

impl Bounds {
    fn of((min, max): (usize, f64), factor: usize) -> Self {
        let square = (factor * factor) as f64;
        Self { min: min as f64 * square, max: max * square }
    }
}

/// The size of an image.
pub(super) fn image(size: Size, factor: usize) -> Result<Size, MediaError> {
    smart_resize(size, factor, &Bounds::of(IMAGE, factor))
}

/// The size that a frame of a list is given first. The reference passes the factor where a patch
/// size is wanted, so this factor is twice the network's.
pub(super) fn list_frame(size: Size, factor: usize) -> Result<Size, MediaError> {
    smart_resize(size, factor * 2, &Bounds::of(LIST_FRAME, factor * 2))
}

/// The size of the frames of a video of so many.
pub(super) fn frame(
    size: Size,
    factor: usize,
    frames: usize,
    list: bool,
) -> Result<Size, MediaError> {
    let square = (factor * factor) as f64;
    let total = if list { LIST_TOTAL } else { FILE_TOTAL } * square;
    let Bounds { min, max } = Bounds::of(FRAME, factor);
    let max = max.min(total / frames as f64 * GROUP as f64).max((min * 1.05).floor());
    smart_resize(size, factor, &Bounds { min, max })
}

/// A size near to `size` of multiples of `factor` within bounds: `smart_resize`.
fn smart_resize((width, height): Size, factor: usize, bounds: &Bounds) -> Result<Size, MediaError> {
    let ratio = || MediaError::AspectRatio { width, height, limit: RATIO_MAX };
    let (w, h, f) = (width as f64, height as f64, factor as f64);
    if w.max(h) / w.min(h) > RATIO_MAX as f64 {
        return Err(ratio());
    }
    let near = |side: f64| ((side / f).round_ties_even() * f).max(f);
    let (mut columns, mut rows) = (near(w), near(h));
    if rows * columns > bounds.max {
        let beta = ((h * w) / bounds.max).sqrt();
        rows = (h / beta / f).floor() * f;
        columns = (w / beta / f).floor() * f;
    } else if rows * columns < bounds.min {
        let beta = (bounds.min / (h * w)).sqrt();
        rows = (h * beta / f).ceil() * f;
        columns = (w * beta / f).ceil() * f;
    }
    if rows < f || columns < f {
        return Err(ratio());
    }
    Ok((columns as usize, rows as usize))
}

/// Places of the frames taken of a list: `numpy.linspace(0, frames - 1, 64, dtype=int)`.
pub(super) fn list_places(frames: usize) -> Vec<usize> {
    if frames <= FRAMES {
        return (0..frames).collect();
    }
    let step = (frames - 1) as f64 / (FRAMES - 1) as f64;
    let place = |at: usize| if at == FRAMES - 1 { frames - 1 } else { (at as f64 * step) as usize };
    (0..FRAMES).map(place).collect()
}

/// Places of the frames taken of a file: `smart_nframes`, then
/// `torch.linspace(0, frames - 1, n).round()`, which computes from both ends in float32.
///
/// # Errors
/// A file of fewer than two frames, or so few frames wanted that no pair is left.
pub(super) fn file_places(
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
            "of a video of {frames} frames, at most {frames_max} wanted, no {GROUP} can be taken"
        )));
    }
    let end = (frames - 1) as f32;
    let step = end / (taken - 1) as f32;
    let place = |at: usize| {
        let place =
            if at < taken / 2 { step * at as f32 } else { end - step * (taken - at - 1) as f32 };
        (place.round_ties_even() as usize).min(frames - 1)
    };
    Ok((0..taken).map(place).collect())
}

/// When each pair of frames is shown: the mean of their times. An odd last frame counts twice.
pub(super) fn seconds(places: &[usize], fps: f64) -> Vec<f64> {
    let time = |place: usize| place as f64 / fps;
    let mean = |pair: &[usize]| (time(pair[0]) + time(pair[pair.len() - 1])) / 2.0;
    places.chunks(GROUP).map(mean).collect()
}

#[cfg(test)]
mod tests;
