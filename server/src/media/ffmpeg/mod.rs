//! Video files, read by the programs `ffmpeg` and `ffprobe`: decoders of foreign files stay out of
//! this process.
//!
//! The frames are those of `PyAV` and `torchvision`, bit by bit: all that the decoder gives, in
//! the order they are shown, not rotated, converted to RGB as there.
//! Must not know: which frames a model wants, where files came from.

mod process;

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use proxima_models::media::{MediaError, TakeFrame, VideoInfo, VideoReader};
use tempfile::TempDir;

use process::{Ended, Running};

/// Decoders that may run: those of videos on the web, so that rare ones are nobody's way in.
const DECODERS: &str = "h264,hevc,vp8,vp9,av1,libdav1d,libaom-av1,mpeg4,mpeg1video,mpeg2video,\
                        h263,mjpeg,libvpx,libvpx-vp9";
/// Formats that are read, for people.
const KNOWN: &str = "mp4, mov, webm, mkv with H.264, HEVC, VP8, VP9, AV1 or MPEG-4";
/// What is said of other decoders.
const NOT_ON_LIST: &str = "not on whitelist";
/// The file's name in its folder: all that messages tell of where it is.
const FILE: &str = "video";
/// Frames that are selected one by one; of more, all between the first and last are read.
const TERMS_MAX: usize = 2048;
/// Threads of a decoder.
const THREADS_MAX: usize = 4;
/// Time for a program to say its version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);
/// Output of `ffprobe` and `ffmpeg -version` at most.
const TEXT_BYTES_MAX: u64 = 64 * 1024;

/// Where the programs are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    /// `ffmpeg`.
    pub ffmpeg: PathBuf,
    /// `ffprobe`.
    pub ffprobe: PathBuf,
}

/// How much a video file may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VideoLimits {
    /// Pixels of a frame.
    pub pixels_max: usize,
    /// Time for each of counting and decoding its frames.
    pub timeout: Duration,
}

impl Default for VideoLimits {
    fn default() -> Self {
        Self { pixels_max: 4096 * 2304, timeout: Duration::from_secs(30) }
    }
}

/// Reads video files by `ffmpeg`.
#[derive(Debug)]
pub struct Ffmpeg {
    programs: Programs,
    limits: VideoLimits,
    version: String,
}

impl Ffmpeg {
    /// A reader by these programs.
    ///
    /// # Errors
    /// Programs that do not run, in a sentence.
    pub fn new(programs: Programs, limits: VideoLimits) -> Result<Self, String> {
        let mut version = String::new();
        for program in [&programs.ffprobe, &programs.ffmpeg] {
            let mut command = Command::new(program);
            command.arg("-version");
            let wrong = |problem: &str| format!("{} does not run: {problem}", program.display());
            let (text, ended) =
                text_of(command, VERSION_TIMEOUT).map_err(|error| wrong(&error.to_string()))?;
            if !ended.success {
                return Err(wrong("-version fails"));
            }
            version = text.split_whitespace().nth(2).unwrap_or_default().to_owned();
        }
        Ok(Self { programs, limits, version })
    }

    /// The version of `ffmpeg`, as it says.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// A program with what both are told, and the file.
    fn command(&self, program: &Path, input: &Input) -> Command {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let mut command = Command::new(program);
        command.current_dir(input.folder.path());
        command.args(["-hide_banner", "-loglevel", "error"]);
        // Only this file, only as this format: no playlist, no address, no format that is one.
        command.args(["-protocol_whitelist", "file", "-f", input.demuxer]);
        command.args(["-codec_whitelist", DECODERS]);
        // Decoders count the padding of a frame, too; the exact limit is checked after.
        let pixels_max = self.limits.pixels_max.saturating_mul(2).clamp(1 << 16, 1 << 30);
        command.args(["-max_pixels", &pixels_max.to_string()]);
        command.args(["-threads", &threads.min(THREADS_MAX).to_string()]);
        command
    }

    fn late(&self) -> MediaError {
        MediaError::Reader(format!(
            "it takes longer than {} s; send a shorter one, or its frames as images",
            self.limits.timeout.as_secs_f64()
        ))
    }

    /// What a program that failed says.
    fn failed(&self, ended: &Ended) -> MediaError {
        if ended.late {
            return self.late();
        }
        if let Some((width, height)) = large_frame(&ended.messages) {
            return self.large(width, height);
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

    /// Whether frames are passed on as they are by `-fps_mode`, which came with 5.1.
    fn has_fps_mode(&self) -> bool {
        let digits = self.version.trim_start_matches(|letter: char| !letter.is_ascii_digit());
        let mut numbers = digits.split(|letter: char| !letter.is_ascii_digit());
        let mut number = || numbers.next().and_then(|text| text.parse::<u32>().ok());
        match (number(), number()) {
            (Some(major), Some(minor)) => (major, minor) >= (5, 1),
            // A build of a day's sources.
            _ => true,
        }
    }
}

impl VideoReader for Ffmpeg {
    fn probe(&self, file: &[u8]) -> Result<VideoInfo, MediaError> {
        let input = Input::new(file)?;
        let mut command = self.command(&self.programs.ffprobe, &input);
        // Counted and not believed: containers say nothing or what was before a cut.
        command.args(["-select_streams", "V:0", "-count_frames", "-count_packets"]);
        let entries = "stream=codec_name,width,height,avg_frame_rate,r_frame_rate,nb_frames,\
                       nb_read_frames,nb_read_packets:stream_tags=:stream_disposition=";
        command.args(["-show_entries", entries, "-of", "default=noprint_wrappers=1", FILE]);
        let (text, ended) = text_of(command, self.limits.timeout).map_err(broken)?;
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
        if let Some(announced) = stream.frames_announced.filter(|all| *all > stream.packets) {
            let problem = format!("it is cut off after {} of {announced} frames", stream.packets);
            return Err(damaged(problem));
        }
        if frames == 0 || width == 0 || height == 0 {
            return Err(match ended.messages.is_empty() {
                true => MediaError::Empty { what: "the video" },
                false => self.failed(&ended),
            });
        }
        Ok(stream.info)
    }

    fn read(
        &self,
        file: &[u8],
        info: &VideoInfo,
        frames: &[usize],
        take: &mut TakeFrame<'_>,
    ) -> Result<(), MediaError> {
        let (Some(first), Some(last)) = (frames.first(), frames.last()) else { return Ok(()) };
        let input = Input::new(file)?;
        let mut command = self.command(&self.programs.ffmpeg, &input);
        command.args(["-nostdin", "-noautorotate", "-i", FILE]);
        command.args(["-map", "0:V:0", "-an", "-sn", "-dn", "-vf", &filters(info, frames)]);
        command.args(if self.has_fps_mode() { ["-fps_mode"] } else { ["-vsync"] });
        command.args(["passthrough", "-f", "rawvideo", "pipe:1"]);
        let mut running = Running::start(command, self.limits.timeout).map_err(broken)?;
        let mut output = running.take_output();
        let mut frame = vec![0; info.width * info.height * 3];
        let each = frames.len() <= TERMS_MAX;
        let mut wanted = frames.iter().copied().peekable();
        for place in *first..=*last {
            let is_wanted = wanted.next_if_eq(&place).is_some();
            if each && !is_wanted {
                continue;
            }
            if output.read_exact(&mut frame).is_err() {
                let ended = running.finish().map_err(broken)?;
                let silent = !ended.late && ended.messages.is_empty();
                let missing = || damaged(format!("it has no frame {place}"));
                return Err(if silent { missing() } else { self.failed(&ended) });
            }
            if is_wanted {
                take(place, &frame)?;
            }
        }
        // What comes after the last frame is not decoded: dropping ends it.
        Ok(())
    }
}

/// What `ffmpeg` does to frames: picks those that are wanted, converts them as `PyAV` does.
fn filters(info: &VideoInfo, frames: &[usize]) -> String {
    let select = match frames {
        [first, .., last] if frames.len() > TERMS_MAX => format!("between(n,{first},{last})"),
        few => selection(few),
    };
    // The size is said so that frames of another one, later in the file, have it, too.
    let VideoInfo { width, height, .. } = info;
    format!("select='{select}',scale={width}:{height}:flags=bilinear:interl=-1,format=rgb24")
}

/// Whether `n` is one of some numbers, in `ffmpeg`'s language: a search by halves, as a sum of more
/// than a hundred terms is refused.
fn selection(frames: &[usize]) -> String {
    match frames {
        [] => "0".to_owned(),
        [place] => format!("eq(n,{place})"),
        more => {
            let (below, above) = more.split_at(more.len() / 2);
            format!("if(lt(n,{}),{},{})", above[0], selection(below), selection(above))
        }
    }
}

/// A file in a folder of its own, both gone when this is.
struct Input {
    folder: TempDir,
    demuxer: &'static str,
}

impl Input {
    fn new(file: &[u8]) -> Result<Self, MediaError> {
        let demuxer = demuxer(file).ok_or_else(unknown)?;
        let folder = tempfile::Builder::new().prefix("proxima-video-").tempdir().map_err(broken)?;
        std::fs::write(folder.path().join(FILE), file).map_err(broken)?;
        Ok(Self { folder, demuxer })
    }
}

/// The one format that a file may be read as, by how it begins.
fn demuxer(file: &[u8]) -> Option<&'static str> {
    const EBML: [u8; 4] = [0x1a, 0x45, 0xdf, 0xa3];
    let first_box: &[u8] = file.get(4..8).unwrap_or_default();
    if file.starts_with(&EBML) {
        Some("matroska")
    } else if [b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"]
        .iter()
        .any(|it| *it == first_box)
    {
        Some("mov")
    } else {
        None
    }
}

/// What `ffprobe` says of a video stream.
struct Stream {
    codec: String,
    info: VideoInfo,
    packets: usize,
    frames_announced: Option<usize>,
}

impl Stream {
    /// What is in lines of `key=value`; none if there is no video stream.
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
        Some(Self {
            codec: value("codec_name")?.1.trim().to_owned(),
            info,
            packets: number("nb_read_packets").unwrap_or(0),
            frames_announced: number("nb_frames"),
        })
    }
}

/// The output of a program, and how it ended.
fn text_of(command: Command, limit: Duration) -> io::Result<(String, Ended)> {
    let mut running = Running::start(command, limit)?;
    let mut text = Vec::new();
    running.take_output().take(TEXT_BYTES_MAX).read_to_end(&mut text)?;
    Ok((String::from_utf8_lossy(&text).into_owned(), running.finish()?))
}

/// The size of a frame that a decoder found too large.
fn large_frame(messages: &str) -> Option<(usize, usize)> {
    let line = messages.lines().find(|line| line.contains("exceeds specified max pixel count"))?;
    let size = line.split("Picture size ").nth(1)?.split(' ').next()?;
    let (width, height) = size.split_once('x')?;
    Some((width.parse().ok()?, height.parse().ok()?))
}

/// The first message that says something, without what is of this process only.
fn summary(messages: &str) -> Option<String> {
    let line = messages.lines().map(without_module).find(|line| {
        // Other streams of the file are left alone, which is said as if it were a fault.
        !line.is_empty() && !line.contains(NOT_ON_LIST) && !line.starts_with("Last message")
    })?;
    Some(line.chars().filter(|letter| !letter.is_control()).take(200).collect())
}

/// A line without the module and memory address that it begins with: `[mov,mp4 @ 0x55ab] `.
fn without_module(line: &str) -> &str {
    let mut rest = line.trim();
    while let Some((_, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        rest = after.trim_start();
    }
    rest
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
