//! What reads video files: `ffmpeg` if available, otherwise a reader that refuses them and says
//! why.
//!
//! Must not know: how files are read.

use std::path::PathBuf;
use std::sync::Arc;

use proxima_models::media::{MediaError, MediaOptions, TakeFrame, VideoInfo, VideoReader};

use super::MediaSettings;

/// What reads video files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum VideoFiles {
    /// Nothing: ffmpeg is not installed.
    #[default]
    Missing,
    /// Nothing, as configured.
    Off,
    /// These programs.
    Ffmpeg {
        /// `ffmpeg`.
        ffmpeg: PathBuf,
        /// `ffprobe`.
        ffprobe: PathBuf,
        /// Whether it was configured explicitly, so that a server without it must not start.
        named: bool,
    },
}

/// Refuses video files.
#[derive(Debug)]
struct NoReader(String);

impl VideoReader for NoReader {
    fn probe(&self, _: &[u8]) -> Result<VideoInfo, MediaError> {
        Err(MediaError::NoVideo(self.0.clone()))
    }

    fn read(
        &self,
        _: &[u8],
        _: &VideoInfo,
        _: &[usize],
        _: &mut TakeFrame<'_>,
    ) -> Result<(), MediaError> {
        Err(MediaError::NoVideo(self.0.clone()))
    }
}

/// The models' options for reading images and videos.
pub fn media_options(settings: &MediaSettings) -> Result<MediaOptions, String> {
    let default = MediaOptions::default();
    Ok(MediaOptions {
        pixels_max: settings.image_pixels_max.unwrap_or(default.pixels_max),
        cache_bytes_max: settings.cache_bytes_max.unwrap_or(default.cache_bytes_max),
        reader: Some(video_reader(settings)?),
        ..default
    })
}

/// Chooses the reader of video files and logs it; without ffmpeg, one that refuses files and says
/// what to do.
///
/// # Errors
/// Programs that were configured explicitly and do not work, as a sentence.
pub fn video_reader(settings: &MediaSettings) -> Result<Arc<dyn VideoReader>, String> {
    let instead = "or send the video's frames as images";
    match &settings.video_files {
        VideoFiles::Off => Ok(Arc::new(NoReader(format!(
            "this server does not decode video files: start it without --ffmpeg off, {instead}"
        )))),
        VideoFiles::Missing => {
            tracing::debug!("ffmpeg is not found: video files are refused (frames are accepted)");
            Ok(Arc::new(NoReader(format!(
                "video files are decoded by ffmpeg, which this server does not find: install the \
                 package ffmpeg or set its path with --ffmpeg PATH, {instead}"
            ))))
        }
        VideoFiles::Ffmpeg { ffmpeg, ffprobe, named } => {
            match by_ffmpeg(ffmpeg, ffprobe, settings.image_pixels_max) {
                Err(problem) if !named => {
                    tracing::warn!("video files are refused: {problem}");
                    Ok(Arc::new(NoReader(format!(
                        "video files are decoded by ffmpeg, which does not work on this server: \
                         reinstall it, {instead}"
                    ))))
                }
                reader => reader,
            }
        }
    }
}

#[cfg(unix)]
fn by_ffmpeg(
    ffmpeg: &std::path::Path,
    ffprobe: &std::path::Path,
    pixels_max: Option<usize>,
) -> Result<Arc<dyn VideoReader>, String> {
    use super::ffmpeg::{Ffmpeg, Programs, VideoLimits};
    let default = VideoLimits::default();
    let limits = VideoLimits { pixels_max: pixels_max.unwrap_or(default.pixels_max), ..default };
    let programs = Programs { ffmpeg: ffmpeg.to_owned(), ffprobe: ffprobe.to_owned() };
    let reader = Ffmpeg::new(programs, limits)?;
    tracing::debug!("video files are decoded by {} {}", ffmpeg.display(), reader.version());
    Ok(Arc::new(reader))
}

#[cfg(not(unix))]
fn by_ffmpeg(
    _: &std::path::Path,
    _: &std::path::Path,
    _: Option<usize>,
) -> Result<Arc<dyn VideoReader>, String> {
    Err("video files are decoded on Unix only".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(video_files: VideoFiles) -> Result<Arc<dyn VideoReader>, String> {
        video_reader(&MediaSettings { video_files, ..MediaSettings::default() })
    }

    #[test]
    fn without_ffmpeg_a_video_is_refused_with_what_to_do() {
        let missing = PathBuf::from("missing");
        let broken = |named| {
            let (ffmpeg, ffprobe) = (missing.clone(), missing.clone());
            VideoFiles::Ffmpeg { ffmpeg, ffprobe, named }
        };
        for (files, expected) in [
            (VideoFiles::Missing, "install the package ffmpeg"),
            (VideoFiles::Off, "without --ffmpeg off"),
            (broken(false), "reinstall it"),
        ] {
            let reader = reader(files).expect("the server starts");
            let error = reader.probe(b"").expect_err("refused");
            assert!(matches!(error, MediaError::NoVideo(_)), "{error:?}");
            let text = error.to_string();
            assert!(text.contains(expected) && text.contains("frames as images"), "{text}");
            let info = VideoInfo { frames: 1, fps: 1.0, width: 1, height: 1 };
            assert_eq!(reader.read(b"", &info, &[0], &mut |_, _| Ok(())), Err(error));
        }
        assert!(reader(broken(true)).is_err_and(|problem| problem.contains("does not run")));
    }
}
