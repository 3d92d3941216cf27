//! Reads video files with the programs `ffmpeg` and `ffprobe`: untrusted files are decoded outside
//! this process.
//!
//! Frames equal those of `PyAV` and `torchvision`, bit for bit: every decoded frame in presentation
//! order, not rotated, converted to RGB in the same way.
//!
//! Must not know: which frames a model wants, where files came from.

mod process;

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use proxima_models::media::{MediaError, TakeFrame, VideoInfo, VideoReader};

use process::{Ended, Groups, ProcessLimits, RunningProcess};

/// Allowed decoders: those of web videos, to keep rare decoders out of attackers' reach.
const DECODERS: &str = "h264,hevc,vp8,vp9,av1,libdav1d,libaom-av1,mpeg4,mpeg1video,mpeg2video,\
                        h263,mjpeg,libvpx,libvpx-vp9";
/// Supported formats, for messages.
const KNOWN: &str = "mp4, mov, webm, mkv with H.264, HEVC, VP8, VP9, AV1 or MPEG-4";
/// ffmpeg's message about other decoders.
const NOT_ON_LIST: &str = "not on whitelist";
/// ffmpeg's message about a failed allocation.
const NO_MEMORY: &str = "Cannot allocate memory";
/// The file's name: it is passed as standard input, so that it has no name in any folder.
const FILE: &str = "/dev/stdin";
/// Maximum frames that are selected one by one; for more, all from the first to the last are read.
const TERMS_MAX: usize = 2048;
/// Maximum threads of a decoder, and of the filters.
const THREADS_MAX: usize = 4;
/// Smallest limit on a single allocation: a frame fits, but not the index of a file that claims
/// millions of frames.
const ALLOCATED_MAX: usize = 128 << 20;
/// Bytes of memory of a program, besides frames.
const MEMORY: usize = 512 << 20;
/// Bytes of memory of a program per pixel of a frame: 32 frames of 10 bits per component.
const MEMORY_A_PIXEL: usize = 96;
/// Time limit for the checks at startup: `-version`, and reading [`SAMPLE`].
const VERSION_TIMEOUT: Duration = Duration::from_secs(30);
/// A video of one frame of 16 x 16 grey pixels (MPEG-4), which every reader must be able to read.
const SAMPLE: &[u8] = include_bytes!("sample.mp4");
/// Maximum bytes of output read from `ffprobe` and `-version`.
const TEXT_BYTES_MAX: u64 = 64 * 1024;

/// The running programs of this process.
static RUNNING: Groups = Groups::new();

/// Kills all programs that read video files and lets no more start: this process is ending.
pub fn end_programs() {
    RUNNING.end();
}

/// Paths of the programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    /// `ffmpeg`.
    pub ffmpeg: PathBuf,
    /// `ffprobe`.
    pub ffprobe: PathBuf,
}

/// Limits for video files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VideoLimits {
    /// Maximum pixels of a frame.
    pub pixels_max: usize,
    /// Time limit for counting and decoding the frames of all videos of an input.
    pub timeout: Duration,
}

impl Default for VideoLimits {
    fn default() -> Self {
        Self { pixels_max: 4096 * 2304, timeout: Duration::from_secs(60) }
    }
}

impl VideoLimits {
    /// Maximum bytes of a single allocation of a program.
    fn allocated(&self) -> usize {
        self.pixels_max.saturating_mul(16).clamp(ALLOCATED_MAX, i32::MAX as usize)
    }

    /// Maximum bytes of memory of a program.
    fn memory(&self) -> usize {
        MEMORY.saturating_add(self.pixels_max.saturating_mul(MEMORY_A_PIXEL))
    }
}

/// Reads video files with `ffmpeg`.
#[derive(Debug)]
pub struct Ffmpeg {
    programs: Programs,
    limits: VideoLimits,
    version: String,
    /// Time left for the videos of an input; if `None`, each call has the whole limit.
    left: Option<Mutex<Duration>>,
}

impl Ffmpeg {
    /// A reader that uses these programs.
    ///
    /// # Errors
    /// Programs that do not run, or that cannot read a sample with the options used here (some
    /// differ before version 5.1, as `-version` tells), as a sentence.
    pub fn new(programs: Programs, limits: VideoLimits) -> Result<Self, String> {
        let mut version = String::new();
        for program in [&programs.ffprobe, &programs.ffmpeg] {
            let mut command = Command::new(program);
            command.arg("-version");
            let wrong = |problem: &str| format!("{} does not run: {problem}", program.display());
            command.stdin(Stdio::null());
            let bounds = ProcessLimits { time: VERSION_TIMEOUT, memory: limits.memory() };
            let (text, ended) =
                text_of(command, bounds).map_err(|error| wrong(&error.to_string()))?;
            if !ended.success {
                return Err(wrong("-version fails"));
            }
            version = text.split_whitespace().nth(2).unwrap_or_default().to_owned();
        }
        let reader = Self { programs, limits, version, left: None };
        reader.try_out()?;
        Ok(reader)
    }

    /// Reads the sample like any other file, but with the default limits on pixels and memory.
    fn try_out(&self) -> Result<(), String> {
        let (programs, version) = (self.programs.clone(), self.version.clone());
        let limits = VideoLimits { timeout: VERSION_TIMEOUT, ..VideoLimits::default() };
        let reader = Self { programs, limits, version, left: None };
        let info = reader.probe(SAMPLE);
        let read = info.and_then(|info| reader.read(SAMPLE, &info, &[0], &mut |_, _| Ok(())));
        read.map_err(|problem| {
            let (ffmpeg, version) = (self.programs.ffmpeg.display(), &self.version);
            format!(
                "{ffmpeg}, version {version}, does not decode video files as Proxima uses it \
                 ({problem}); install ffmpeg 5.1 or later"
            )
        })
    }

    /// The version that `ffmpeg` reports.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// A command with the arguments that both programs share, and the file.
    fn command(&self, program: &Path, input: Input) -> Command {
        let mut command = Command::new(program);
        command.current_dir("/").stdin(input.file);
        command.args(["-hide_banner", "-loglevel", "error"]);
        command.args(["-max_alloc", &self.limits.allocated().to_string()]);
        // Only this file and only this format: no playlists, no URLs, no format that refers to
        // others.
        command.args(["-protocol_whitelist", "file", "-f", input.demuxer]);
        command.args(["-codec_whitelist", DECODERS]);
        // Decoders also count the padding of a frame; the exact limit is checked afterwards.
        let pixels_max = self.limits.pixels_max.saturating_mul(2).clamp(1 << 16, 1 << 30);
        command.args(["-max_pixels", &pixels_max.to_string()]);
        command.args(["-threads", &threads()]);
        command
    }

    /// Does `work` in the time that is left.
    fn timed<T>(
        &self,
        work: impl FnOnce(ProcessLimits) -> Result<T, MediaError>,
    ) -> Result<T, MediaError> {
        let memory = self.limits.memory();
        let Some(left) = &self.left else {
            return work(ProcessLimits { time: self.limits.timeout, memory });
        };
        // Locked meanwhile: an input's videos are read one after another.
        let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
        if left.is_zero() {
            return Err(self.late());
        }
        let started = Instant::now();
        let result = work(ProcessLimits { time: *left, memory });
        *left = left.saturating_sub(started.elapsed());
        result
    }

    fn late(&self) -> MediaError {
        MediaError::Reader(format!(
            "it takes longer than the {} s for all videos of an input; send fewer or shorter ones, \
             or their frames as images",
            self.limits.timeout.as_secs_f64()
        ))
    }

    /// The error of a program that failed.
    fn failed(&self, ended: &Ended) -> MediaError {
        if ended.late {
            return self.late();
        }
        if let Some((width, height)) = large_frame(&ended.messages) {
            return self.large(width, height);
        }
        if ended.messages.contains(NO_MEMORY) {
            return MediaError::Reader("it needs more memory than a video may use".to_owned());
        }
        match summary(&ended.messages) {
            Some(problem) => damaged(problem),
            None if ended.messages.contains(NOT_ON_LIST) => unknown(),
            None => damaged("ffmpeg does not say why".to_owned()),
        }
    }

    fn large(&self, width: usize, height: usize) -> MediaError {
        MediaError::TooManyPixels { width, height, limit: self.limits.pixels_max }
    }

    /// Whether `ffmpeg` has `-fps_mode`, which came with 5.1; it replaces `-vsync`.
    fn has_fps_mode(&self) -> bool {
        let digits = self.version.trim_start_matches(|letter: char| !letter.is_ascii_digit());
        let mut numbers = digits.split(|letter: char| !letter.is_ascii_digit());
        let mut number = || numbers.next().and_then(|text| text.parse::<u32>().ok());
        match (number(), number()) {
            (Some(major), Some(minor)) => (major, minor) >= (5, 1),
            // A build from a snapshot of the sources.
            _ => true,
        }
    }
}

/// The argument of `-threads`.
fn threads() -> String {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    threads.min(THREADS_MAX).to_string()
}

impl VideoReader for Ffmpeg {
    fn of_input(&self) -> Option<Arc<dyn VideoReader>> {
        let (programs, limits, version) =
            (self.programs.clone(), self.limits, self.version.clone());
        let left = Some(Mutex::new(limits.timeout));
        Some(Arc::new(Self { programs, limits, version, left }))
    }

    fn probe(&self, file: &[u8]) -> Result<VideoInfo, MediaError> {
        self.timed(|bounds| self.probe_within(file, bounds))
    }

    fn read(
        &self,
        file: &[u8],
        info: &VideoInfo,
        frames: &[usize],
        take: &mut TakeFrame<'_>,
    ) -> Result<(), MediaError> {
        self.timed(|bounds| self.read_within(file, info, frames, take, bounds))
    }
}

impl Ffmpeg {
    fn probe_within(&self, file: &[u8], bounds: ProcessLimits) -> Result<VideoInfo, MediaError> {
        let mut command = self.command(&self.programs.ffprobe, Input::new(file)?);
        // Frames are counted: containers give no number, or one that includes frames before a cut.
        command.args(["-select_streams", "V:0", "-count_frames"]);
        let entries = "stream=codec_name,width,height,avg_frame_rate,r_frame_rate,\
                       nb_read_frames:stream_tags=:stream_disposition=";
        command.args(["-show_entries", entries, "-of", "default=noprint_wrappers=1", FILE]);
        let (text, ended) = text_of(command, bounds).map_err(broken)?;
        if !ended.success {
            return Err(self.failed(&ended));
        }
        let stream = Stream::of(&text).ok_or(MediaError::Empty { what: "the video" })?;
        if !DECODERS.split(',').any(|decoder| decoder == stream.codec) {
            return Err(unknown());
        }
        let VideoInfo { width, height, frames, .. } = stream.info;
        if width.saturating_mul(height) > self.limits.pixels_max {
            return Err(self.large(width, height));
        }
        if frames == 0 || width == 0 || height == 0 {
            return Err(match ended.messages.is_empty() {
                true => MediaError::Empty { what: "the video" },
                false => self.failed(&ended),
            });
        }
        Ok(stream.info)
    }

    fn read_within(
        &self,
        file: &[u8],
        info: &VideoInfo,
        frames: &[usize],
        take: &mut TakeFrame<'_>,
        bounds: ProcessLimits,
    ) -> Result<(), MediaError> {
        let (Some(first), Some(last)) = (frames.first(), frames.last()) else { return Ok(()) };
        let mut command = self.command(&self.programs.ffmpeg, Input::new(file)?);
        command.args(["-nostdin", "-filter_threads", &threads()]);
        command.args(["-noautorotate", "-i", FILE]);
        command.args(["-map", "0:V:0", "-an", "-sn", "-dn", "-vf", &filters(info, frames)]);
        command.args(if self.has_fps_mode() { ["-fps_mode"] } else { ["-vsync"] });
        command.args(["passthrough", "-f", "rawvideo", "pipe:1"]);
        let mut running = RunningProcess::start(command, bounds, &RUNNING).map_err(broken)?;
        let mut output = running.take_output();
        let mut frame = vec![0; info.width * info.height * 3];
        let each = frames.len() <= TERMS_MAX;
        let mut wanted = frames.iter().copied().peekable();
        for index in *first..=*last {
            let is_wanted = wanted.next_if_eq(&index).is_some();
            if each && !is_wanted {
                continue;
            }
            if output.read_exact(&mut frame).is_err() {
                let ended = running.finish().map_err(broken)?;
                let silent = !ended.late && ended.messages.is_empty();
                return Err(match silent {
                    true => damaged(format!("it has no frame {index}")),
                    false => self.failed(&ended),
                });
            }
            if is_wanted {
                take(index, &frame)?;
            }
        }
        // Frames after the last are not decoded: dropping `running` kills the program.
        Ok(())
    }
}

/// The filters of `ffmpeg`: select the wanted frames and convert them as `PyAV` does.
fn filters(info: &VideoInfo, frames: &[usize]) -> String {
    let select = match frames {
        [first, .., last] if frames.len() > TERMS_MAX => format!("between(n,{first},{last})"),
        few => selection(few),
    };
    // The size is explicit, so that later frames of another size are scaled to it.
    let VideoInfo { width, height, .. } = info;
    format!("select='{select}',scale={width}:{height}:flags=bilinear:interl=-1,format=rgb24")
}

/// An `ffmpeg` expression for whether `n` is one of some indices: a binary search, since a sum of
/// more than a hundred terms is rejected.
fn selection(frames: &[usize]) -> String {
    match frames {
        [] => "0".to_owned(),
        [index] => format!("eq(n,{index})"),
        more => {
            let (below, above) = more.split_at(more.len() / 2);
            format!("if(lt(n,{}),{},{})", above[0], selection(below), selection(above))
        }
    }
}

/// A temporary file without a name, so that nothing is left of it however this process ends.
struct Input {
    file: File,
    demuxer: &'static str,
}

impl Input {
    fn new(bytes: &[u8]) -> Result<Self, MediaError> {
        let demuxer = demuxer(bytes).ok_or_else(unknown)?;
        if let Some(announced) = announced(bytes).filter(|_| demuxer == MOV) {
            let problem = format!("it is cut off after {} of {announced} bytes", bytes.len());
            return Err(damaged(problem));
        }
        let mut file = tempfile::tempfile().map_err(broken)?;
        file.write_all(bytes).map_err(broken)?;
        file.rewind().map_err(broken)?;
        Ok(Self { file, demuxer })
    }
}

/// The length that an MP4 file's boxes claim, if the file is shorter. The number of frames cannot
/// tell, since edit lists leave some out.
fn announced(file: &[u8]) -> Option<u64> {
    let number = |at: usize, bytes: usize| {
        let digits = file.get(at..at.checked_add(bytes)?)?;
        Some(digits.iter().fold(0, |sum, digit| sum << 8 | u64::from(*digit)))
    };
    let mut at = 0;
    loop {
        let (short, kind) = (number(at, 4)?, file.get(at + 4..at + 8)?);
        let size = if short == 1 { number(at + 8, 8)? } else { short };
        let end = (at as u64).saturating_add(size);
        if end > file.len() as u64 {
            return [b"moov", b"mdat", b"moof"].iter().any(|known| *known == kind).then_some(end);
        }
        if size < 8 {
            // The box extends to the end of the file, or is invalid.
            return None;
        }
        at = usize::try_from(end).ok()?;
    }
}

/// The demuxer of mp4 and mov.
const MOV: &str = "mov";

/// The only demuxer that a file may be read with, judging by its first bytes.
fn demuxer(file: &[u8]) -> Option<&'static str> {
    const EBML: [u8; 4] = [0x1a, 0x45, 0xdf, 0xa3];
    let first_box: &[u8] = file.get(4..8).unwrap_or_default();
    if file.starts_with(&EBML) {
        Some("matroska")
    } else if [b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"]
        .iter()
        .any(|known| *known == first_box)
    {
        Some(MOV)
    } else {
        None
    }
}

/// What `ffprobe` reports about a video stream.
struct Stream {
    codec: String,
    info: VideoInfo,
}

impl Stream {
    /// Parses lines of `key=value`; `None` if there is no video stream.
    fn of(text: &str) -> Option<Self> {
        let value = |key: &str| {
            text.lines().filter_map(|line| line.split_once('=')).find(|(name, _)| *name == key)
        };
        let number = |key: &str| value(key).and_then(|(_, text)| text.trim().parse::<usize>().ok());
        let rate = |key: &str| {
            let (above, below) = value(key)?.1.trim().split_once('/')?;
            let rate = above.parse::<f64>().ok()? / below.parse::<f64>().ok()?;
            Some(rate).filter(|rate| rate.is_finite() && *rate > 0.0)
        };
        let info = VideoInfo {
            frames: number("nb_read_frames").unwrap_or(0),
            fps: rate("avg_frame_rate").or_else(|| rate("r_frame_rate")).unwrap_or(0.0),
            width: number("width").unwrap_or(0),
            height: number("height").unwrap_or(0),
        };
        Some(Self { codec: value("codec_name")?.1.trim().to_owned(), info })
    }
}

/// Runs a program: its output, and how it ended.
fn text_of(command: Command, bounds: ProcessLimits) -> io::Result<(String, Ended)> {
    let mut running = RunningProcess::start(command, bounds, &RUNNING)?;
    let mut text = Vec::new();
    running.take_output().take(TEXT_BYTES_MAX).read_to_end(&mut text)?;
    Ok((String::from_utf8_lossy(&text).into_owned(), running.finish()?))
}

/// The size of a frame that a decoder rejected as too large.
fn large_frame(messages: &str) -> Option<(usize, usize)> {
    let line = messages.lines().find(|line| line.contains("exceeds specified max pixel count"))?;
    let size = line.split("Picture size ").nth(1)?.split(' ').next()?;
    let (width, height) = size.split_once('x')?;
    Some((width.parse().ok()?, height.parse().ok()?))
}

/// The first meaningful message, without details of this process.
fn summary(messages: &str) -> Option<String> {
    let line = messages.lines().map(without_module).find(|line| {
        // Other streams of the file are ignored, which ffmpeg reports like an error.
        !line.is_empty() && !line.contains(NOT_ON_LIST) && !line.starts_with("Last message")
    })?;
    Some(line.chars().filter(|letter| !letter.is_control()).take(200).collect())
}

/// A line without its prefix: a module and its memory address, `[mov,mp4 @ 0x55ab] `, or the file's
/// name.
fn without_module(line: &str) -> &str {
    let mut rest = line.trim();
    while let Some((_, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        rest = after.trim_start();
    }
    rest.strip_prefix(FILE).map_or(rest, |rest| rest.trim_start_matches([':', ' ']))
}

fn unknown() -> MediaError {
    MediaError::UnknownFormat { what: "the video", known: KNOWN }
}

fn damaged(problem: String) -> MediaError {
    MediaError::Damaged { what: "the video", problem }
}

fn broken(error: impl Into<io::Error>) -> MediaError {
    MediaError::Reader(error.into().to_string())
}

#[cfg(test)]
mod tests;
