//! Media settings: allowed sources, limits, and the program that reads video files.
//!
//! Must not know: how media is fetched or read.

use std::path::{Path, PathBuf};

use super::{Environment, Seconds, ServeArgs};
use crate::command::CommandError;
use crate::media::{AllowEntry, MediaSettings, VideoFiles};

/// The settings of media.
///
/// # Errors
/// Usage errors: an invalid host, a limit of zero, a missing program.
pub fn settings(
    arguments: &ServeArgs,
    environment: &Environment,
) -> Result<MediaSettings, CommandError> {
    let default = MediaSettings::default();
    let allowed_hosts = arguments.media_allow.clone().unwrap_or_default();
    for host in &allowed_hosts {
        host.parse::<AllowEntry>().map_err(CommandError::usage)?;
    }
    let settings = MediaSettings {
        allowed_hosts,
        file_bytes_max: arguments.max_media_bytes.map_or(default.file_bytes_max, |size| size.0),
        fetch_timeout: arguments.media_timeout.map_or(default.fetch_timeout, Seconds::duration),
        image_pixels_max: arguments.max_image_pixels,
        cache_bytes_max: arguments.media_cache_bytes.map(|size| size.0),
        video_files: video_files(arguments.ffmpeg.as_deref(), environment.get("PATH"))?,
        ..default
    };
    // One file of the maximum size must fit.
    let request_bytes_max = settings.request_bytes_max.max(settings.file_bytes_max);
    let held_bytes_max = settings.held_bytes_max.max(request_bytes_max);
    for (name, is_zero) in [
        ("max-media-bytes", settings.file_bytes_max == 0),
        ("media-timeout", settings.fetch_timeout.is_zero()),
        ("max-image-pixels", settings.image_pixels_max == Some(0)),
    ] {
        if is_zero {
            return Err(CommandError::usage(format!("{name} must be at least 1")));
        }
    }
    Ok(MediaSettings { request_bytes_max, held_bytes_max, ..settings })
}

/// How video files are read: with the program given by `--ffmpeg`, or one found in `PATH`.
fn video_files(given: Option<&str>, path: Option<&str>) -> Result<VideoFiles, CommandError> {
    let in_path = |name: &str| {
        let folders = std::env::split_paths(path.unwrap_or_default());
        // Relative folders in `PATH` are ignored.
        folders
            .filter(|folder| folder.is_absolute())
            .map(|folder| folder.join(name))
            .find(|file| file.is_file())
    };
    let ffmpeg = match given {
        Some("off") => return Ok(VideoFiles::Off),
        Some(path) => Some(program(Path::new(path))?),
        None => in_path("ffmpeg"),
    };
    let Some(ffmpeg) = ffmpeg else { return Ok(VideoFiles::Missing) };
    let beside = |ffmpeg: &PathBuf| ffmpeg.with_file_name("ffprobe");
    let ffprobe =
        Some(beside(&ffmpeg)).filter(|file| file.is_file()).or_else(|| in_path("ffprobe"));
    let named = given.is_some();
    match ffprobe {
        Some(ffprobe) => Ok(VideoFiles::Ffmpeg { ffmpeg, ffprobe, named }),
        None if named => {
            let beside = beside(&ffmpeg);
            Err(CommandError::usage(format!("there is no ffprobe at {}", beside.display())))
        }
        None => Ok(VideoFiles::Missing),
    }
}

/// A named program, as an absolute path.
fn program(path: &Path) -> Result<PathBuf, CommandError> {
    let found = std::path::absolute(path).ok().filter(|path| path.is_file());
    found.ok_or_else(|| {
        let message =
            format!("there is no program {}; give the path of ffmpeg, or off", path.display());
        CommandError::usage(message)
    })
}
