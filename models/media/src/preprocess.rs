//! Turns files into the pixels a vision network takes: decoded, sampled and resized as the
//! reference (`qwen_vl_utils` and the embedder's own script) does it, and cached.
//!
//! Must not know: tensors, tokens, how a format is decoded.

use std::borrow::Cow;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::cache::{Cache, CacheEntry, Key};
use super::decode::{self, Animation, DecodeLimits, KNOWN, Picture, Problem};
use super::memory_budget::{BUDGET, MemoryBudget};
use super::size::Size;
use super::sizes::{self, GROUP};
use super::{Clip, MediaError, MediaFile, Pixels, Video, VideoReader, VideoSource, resample};

const IMAGE: &str = "the image";
const FRAME: &str = "a frame of the video";
const VIDEO: &str = "the video";
/// Maximum pixels drawn for an animated image, in multiples of `pixels_max`.
const DRAWN: usize = 16;

/// Limits and options of preprocessing.
#[derive(Debug, Clone)]
pub struct MediaOptions {
    /// Maximum pixels of one decoded image or frame.
    pub pixels_max: usize,
    /// Maximum frames of one video.
    pub frames_max: usize,
    /// Maximum bytes of cached results.
    pub cache_bytes_max: usize,
    /// Maximum bytes of pixels held in the process, beyond the capacity of its caches; above this
    /// nothing more is decoded.
    pub live_bytes_max: usize,
    /// Memory budget of decoding and resizing in the whole process, in bytes. What does not fit
    /// waits; a file larger than the budget is decoded alone.
    pub decode_bytes_max: usize,
    /// Reads video files; `None` refuses them.
    pub reader: Option<Arc<dyn VideoReader>>,
}

impl Default for MediaOptions {
    fn default() -> Self {
        Self {
            pixels_max: 64 << 20,
            frames_max: 768,
            cache_bytes_max: 256 << 20,
            live_bytes_max: 1 << 30,
            decode_bytes_max: 1 << 30,
            reader: None,
        }
    }
}

/// Turns files into the pixels a vision network takes. May be used from many threads at once.
#[derive(Debug)]
pub struct Preprocessor {
    options: MediaOptions,
    /// The sides of resized images are multiples of this.
    factor: usize,
    cache: Cache,
    budget: &'static MemoryBudget,
}

impl Preprocessor {
    /// A preprocessor for a network whose tokens cover `factor` x `factor` pixels (the patch size
    /// times the spatial merge size).
    pub fn new(options: &MediaOptions, factor: usize) -> Self {
        let options = options.clone();
        let cache = Cache::new(options.cache_bytes_max);
        Self { options, factor: factor.max(1), cache, budget: &BUDGET }
    }

    /// The limits of decoding; `after` gives the bytes needed to process a decoded image of a size.
    fn limits<'a>(&self, after: &'a dyn Fn(Size) -> usize) -> DecodeLimits<'a> {
        let &MediaOptions { pixels_max, decode_bytes_max: bytes_max, .. } = &self.options;
        DecodeLimits { pixels_max, budget: self.budget, bytes_max, after }
    }

    /// Checks that more may be decoded. The capacity of the caches does not count; otherwise full
    /// caches would block all decoding.
    fn check_room(&self) -> Result<(), MediaError> {
        let limit = self.options.live_bytes_max;
        let waiting = Pixels::live_bytes().saturating_sub(Cache::all_bytes_max());
        if waiting > limit { Err(MediaError::Full { limit }) } else { Ok(()) }
    }

    /// The pixels of an image: one frame.
    ///
    /// # Errors
    /// An unknown format, a corrupt file or an unsupported size; [`MediaError::Full`] if the file
    /// is not cached and too many pixels are in use.
    pub fn image(&self, file: &MediaFile) -> Result<Arc<Pixels>, MediaError> {
        let key: Key = self.key(b"image").chain_update(file.digest()).finalize().into();
        if let Some(CacheEntry::Image(pixels)) = self.cache.get(&key) {
            return Ok(pixels);
        }
        self.check_room()?;
        let of = |problem: Problem| problem.of(IMAGE);
        let after =
            |from| sizes::image(from, self.factor).map_or(0, |to| resample::pillow_bytes(from, to));
        let decoded = decode::decode(file.bytes(), &self.limits(&after)).map_err(of)?;
        let Picture { size, rgb, held: _held } = decoded;
        let to = sizes::image(size, self.factor)?;
        let rgb = resample::pillow(rgb, size, to);
        let pixels = Arc::new(Pixels::of(to.width, to.height, rgb, key));
        self.cache.put(key, CacheEntry::Image(pixels.clone()));
        Ok(pixels)
    }

    /// A video's frames in pairs, and the time of each pair. An odd last frame is repeated.
    ///
    /// At most 64 frames of a list are used, evenly spaced; `fps` and `frames_max` are for files.
    ///
    /// # Errors
    /// An unknown format, a corrupt file, too many frames or an unsupported size; a list of frames
    /// of several sizes; invalid settings; a video file without a reader; [`MediaError::Full`] if
    /// the video is not cached and too many pixels are in use.
    pub fn video(&self, video: &Video) -> Result<Arc<Clip>, MediaError> {
        self.video_by(video, self.reader().as_deref())
    }

    /// The reader for the video files of one input.
    pub fn reader(&self) -> Option<Arc<dyn VideoReader>> {
        let reader = self.options.reader.as_ref()?;
        Some(reader.of_input().unwrap_or_else(|| reader.clone()))
    }

    /// Like [`video`](Self::video), with the [`reader`](Self::reader) of its input.
    ///
    /// # Errors
    /// As [`video`](Self::video).
    pub fn video_by(
        &self,
        video: &Video,
        reader: Option<&dyn VideoReader>,
    ) -> Result<Arc<Clip>, MediaError> {
        self.check(video)?;
        let key = self.video_key(video);
        if let Some(CacheEntry::Clip(clip)) = self.cache.get(&key) {
            return Ok(clip);
        }
        self.check_room()?;
        let clip = Arc::new(match &video.source {
            VideoSource::Frames(files) => self.list(files, key)?,
            VideoSource::File(file) => self.file(file, video, key, reader)?,
        });
        self.cache.put(key, CacheEntry::Clip(clip.clone()));
        Ok(clip)
    }

    fn check(&self, video: &Video) -> Result<(), MediaError> {
        let limit = self.options.frames_max;
        if let Some(fps) = video.fps.filter(|fps| !fps.is_finite() || *fps <= 0.0) {
            return Err(MediaError::Sampling(format!(
                "fps must be a number greater than 0, not {fps}"
            )));
        }
        if let Some(frames) = video.frames_max.filter(|frames| *frames > limit) {
            return Err(MediaError::TooManyFrames { frames, limit });
        }
        match &video.source {
            VideoSource::Frames(files) if files.is_empty() => {
                Err(MediaError::Empty { what: VIDEO })
            }
            VideoSource::Frames(files) if files.len() > limit => {
                Err(MediaError::TooManyFrames { frames: files.len(), limit })
            }
            VideoSource::File(file) if file.bytes().is_empty() => {
                Err(MediaError::Empty { what: VIDEO })
            }
            _ => Ok(()),
        }
    }

    /// The clip of a list of image files.
    fn list(&self, files: &[Arc<MediaFile>], key: Key) -> Result<Clip, MediaError> {
        let indices = sizes::list_indices(files.len());
        let frames = indices.len().next_multiple_of(GROUP);
        let mut pictures = Pictures::new(self.factor, frames, true, key);
        let after = |from| {
            let Ok(to) = sizes::list_frame(from, self.factor) else { return 0 };
            resample::pillow_bytes(from, to).max(self.frame_bytes(to, true))
        };
        for &index in &indices {
            let decoded = decode::decode(files[index].bytes(), &self.limits(&after));
            let picture = decoded.map_err(|problem| of_frame(problem, index))?;
            // Reservation until the frame is resized; only then may the next one reserve memory.
            let Picture { size, rgb, held: _held } = picture;
            let to = sizes::list_frame(size, self.factor)?;
            if let Some(first) = pictures.from.filter(|first| *first != to) {
                return Err(MediaError::Sampling(format!(
                    "frame {} of the video ({size} pixels, resized to {to}) does not have the size \
                     of the first ({first})",
                    index + 1,
                )));
            }
            pictures.add(resample::pillow(rgb, size, to).into(), to)?;
        }
        // The reference numbers the frames it samples, not those of the list.
        let numbers: Vec<usize> = (0..frames).collect();
        Ok(pictures.clip(sizes::seconds(&numbers, sizes::LIST_FPS)))
    }

    /// The clip of a video file or an animated image.
    fn file(
        &self,
        file: &Arc<MediaFile>,
        video: &Video,
        key: Key,
        reader: Option<&dyn VideoReader>,
    ) -> Result<Clip, MediaError> {
        let after = |size| self.frame_bytes(size, false);
        let animation = decode::animation(file.bytes(), &self.limits(&after))
            .map_err(|problem| problem.of(VIDEO))?;
        if let Some(animation) = animation {
            return self.animation(animation, video, key);
        }
        if decode::sniff(file.bytes()).is_some() {
            return self.list(std::slice::from_ref(file), key);
        }
        let Some(reader) = reader else {
            return Err(MediaError::NoVideo(format!(
                "this server does not decode video files: send frames as images, or an animated \
                 GIF or WebP ({KNOWN})"
            )));
        };
        let info = reader.probe(file.bytes())?;
        let size = Size::new(info.width, info.height);
        self.check_frame(size)?;
        let indices = self.sampled(info.frames, info.fps, video)?;
        let mut pictures = Pictures::new(self.factor, indices.len(), false, key);
        let mut due = indices.iter().peekable();
        let wanted = distinct(&indices);
        // The reader holds a frame as well.
        let needs = self.frame_bytes(size, false).saturating_add(size.pixels() * 3);
        let _held = self.budget.take(needs, self.options.decode_bytes_max);
        reader.read(file.bytes(), &info, &wanted, &mut |index, rgb| {
            if rgb.len() != size.pixels() * 3 {
                return Err(MediaError::Reader(
                    "a frame does not have the size of the video".to_owned(),
                ));
            }
            while due.next_if(|&&next| next == index).is_some() {
                pictures.add(rgb.into(), size)?;
            }
            Ok(())
        })?;
        if due.next().is_some() {
            return Err(MediaError::Reader("frames are missing".to_owned()));
        }
        Ok(pictures.clip(sizes::seconds(&indices, info.fps)))
    }

    fn animation(
        &self,
        mut file: Animation<'_>,
        video: &Video,
        key: Key,
    ) -> Result<Clip, MediaError> {
        // Every frame before the last sampled one must be drawn.
        let limit = self.options.pixels_max.saturating_mul(DRAWN);
        if file.drawn > limit {
            return Err(MediaError::Sampling(format!(
                "{} frames of {} pixels in all are more than the {limit} that are decoded of an \
                 animated image",
                file.frames, file.drawn
            )));
        }
        let indices = self.sampled(file.frames, file.fps, video)?;
        let mut pictures = Pictures::new(self.factor, indices.len(), false, key);
        let mut due = indices.iter().peekable();
        for index in 0..file.frames {
            if due.peek().is_none() {
                break;
            }
            let wanted = due.peek() == Some(&&index);
            let rgb = file.next(wanted).map_err(|problem| of_frame(problem, index))?;
            while let Some(rgb) = &rgb
                && due.next_if(|&&next| next == index).is_some()
            {
                pictures.add(rgb.into(), file.size)?;
            }
        }
        Ok(pictures.clip(sizes::seconds(&indices, file.fps)))
    }

    /// Upper bound on the bytes that resizing a frame holds, for any number of frames.
    fn frame_bytes(&self, size: Size, list: bool) -> usize {
        let to = sizes::frame(size, self.factor, GROUP, list);
        to.map_or(0, |to| resample::torch_bytes(size, to))
    }

    /// The start of the cache key of a result of this kind.
    fn key(&self, kind: &[u8]) -> Sha256 {
        Sha256::new().chain_update(kind).chain_update((self.factor as u64).to_le_bytes())
    }

    /// The cache key of a video: its files and its sampling settings.
    fn video_key(&self, video: &Video) -> Key {
        let key = match &video.source {
            VideoSource::Frames(files) => {
                let mut key = self.key(b"frames");
                files.iter().for_each(|file| key.update(file.digest()));
                key
            }
            // 0 stands for `None`: an fps of 0 is refused, and frame counts are stored plus one.
            VideoSource::File(file) => self
                .key(b"file")
                .chain_update(file.digest())
                .chain_update(video.fps.unwrap_or(0.0).to_le_bytes())
                .chain_update(video.frames_max.map_or(0, |most| most as u64 + 1).to_le_bytes()),
        };
        key.finalize().into()
    }

    /// Indices of the frames sampled from a file.
    fn sampled(&self, frames: usize, fps: f64, video: &Video) -> Result<Vec<usize>, MediaError> {
        if frames == 0 {
            return Err(MediaError::Empty { what: VIDEO });
        }
        if !fps.is_finite() || fps <= 0.0 {
            return Err(MediaError::Sampling(format!(
                "the video declares {fps} frames per second"
            )));
        }
        let most = video.frames_max.unwrap_or(sizes::FRAMES).min(self.options.frames_max);
        sizes::file_indices(frames, fps, video.fps.unwrap_or(sizes::FPS), most)
    }

    /// Checks that frames of this size may be decoded from a video file.
    fn check_frame(&self, size: Size) -> Result<(), MediaError> {
        let Size { width, height } = size;
        let limit = self.options.pixels_max;
        match width.checked_mul(height) {
            Some(0) => Err(MediaError::Empty { what: FRAME }),
            Some(pixels) if pixels <= limit => Ok(()),
            _ => Err(MediaError::TooManyPixels { width, height, limit }),
        }
    }
}

/// The error of a frame, with its number.
fn of_frame(problem: Problem, index: usize) -> MediaError {
    match problem.of(FRAME) {
        MediaError::Damaged { what, problem } => {
            MediaError::Damaged { what, problem: format!("frame {}: {problem}", index + 1) }
        }
        other => other,
    }
}

/// Ascending indices without duplicates.
fn distinct(indices: &[usize]) -> Vec<usize> {
    let mut indices = indices.to_vec();
    indices.dedup();
    indices
}

/// Collects the frames of a clip, resizing each as it arrives.
struct Pictures {
    factor: usize,
    frames: usize,
    list: bool,
    /// Cache key of the whole video.
    key: Key,
    /// Size of the frames before resizing, once the first has arrived.
    from: Option<Size>,
    to: Size,
    groups: Vec<Arc<Pixels>>,
    /// Frames of the group that is not complete yet.
    group: Vec<u8>,
}

impl Pictures {
    /// For a video of `frames` frames.
    fn new(factor: usize, frames: usize, list: bool, key: Key) -> Self {
        let (groups, group) = (Vec::with_capacity(frames / GROUP), Vec::new());
        Self { factor, frames, list, key, from: None, to: Size::new(0, 0), groups, group }
    }

    /// Adds a frame; all must have the same size.
    fn add(&mut self, rgb: Cow<'_, [u8]>, from: Size) -> Result<(), MediaError> {
        if self.from.is_none() {
            self.to = sizes::frame(from, self.factor, self.frames, self.list)?;
            self.from = Some(from);
        }
        let rgb = resample::torch(rgb, from, self.to);
        let size = rgb.len();
        self.group.extend(rgb);
        if self.group.len() == GROUP * size {
            self.close();
        }
        Ok(())
    }

    fn close(&mut self) {
        let data = std::mem::take(&mut self.group);
        let index = (self.groups.len() as u64).to_le_bytes();
        let key = Sha256::new().chain_update(self.key).chain_update(index).finalize();
        self.groups.push(Arc::new(Pixels::of(self.to.width, self.to.height, data, key.into())));
    }

    /// The clip; an odd last frame is repeated.
    fn clip(mut self, seconds: Vec<f64>) -> Clip {
        if !self.group.is_empty() {
            self.group.extend_from_within(..);
            self.close();
        }
        Clip { groups: self.groups, seconds }
    }
}

#[cfg(test)]
mod tests;
