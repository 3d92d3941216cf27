//! Media named in requests: data URIs, base64, and addresses of allowed hosts.
//!
//! Must not know: wire formats, what the bytes show.

mod address;
mod allow;
mod error;
mod fetch;
#[cfg(unix)]
pub mod ffmpeg;
mod inline;
mod network;
mod target;
mod video;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proxima_models::media::MediaFile;

pub use allow::AllowEntry;
pub use error::SourceError;
#[cfg(unix)]
pub use ffmpeg::end_programs;
pub use video::{VideoFiles, media_options, video_reader};

/// From where media may come, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaSettings {
    /// Hosts that files are fetched from: `example.com`, `*.example.com`, `*` (any public host),
    /// each with `:PORT` if wanted; `private:HOST[:PORT]` for a host inside. None turns it off.
    pub allowed_hosts: Vec<String>,
    /// Bytes of one file, decoded.
    pub file_bytes_max: usize,
    /// Bytes of the files of one request.
    pub request_bytes_max: usize,
    /// Time that fetching one file may take, from looking up the host to the last byte.
    pub fetch_timeout: Duration,
    /// Redirects that are followed for one file.
    pub redirects_max: usize,
    /// Files that are fetched at a time; further ones wait.
    pub fetches_max: usize,
    /// Pixels of one image or frame, if another limit than the models' own.
    pub image_pixels_max: Option<usize>,
    /// Bytes of decoded media that are kept for later requests, if another limit than the models'
    /// own.
    pub cache_bytes_max: Option<usize>,
    /// By what video files are read.
    pub video_files: VideoFiles,
}

impl Default for MediaSettings {
    fn default() -> Self {
        Self {
            allowed_hosts: Vec::new(),
            file_bytes_max: 32 << 20,
            request_bytes_max: 256 << 20,
            fetch_timeout: Duration::from_secs(10),
            redirects_max: 3,
            fetches_max: 16,
            image_pixels_max: None,
            cache_bytes_max: None,
            video_files: VideoFiles::Missing,
        }
    }
}

/// Ends nothing: video files are read on Unix only.
#[cfg(not(unix))]
pub fn end_programs() {}

/// Media named in requests: data URIs, base64, and addresses of allowed hosts.
#[derive(Debug)]
pub struct MediaFetcher {
    settings: MediaSettings,
    client: fetch::Client,
}

impl MediaFetcher {
    /// One with these settings.
    pub fn new(settings: &MediaSettings) -> Self {
        Self { settings: settings.clone(), client: fetch::Client::new(settings) }
    }

    /// The file that a `data:` URI or base64 contains, or that is at an address.
    ///
    /// # Errors
    /// Text that is none of these, a host that is not allowed, a file that is too large or not to
    /// be had.
    pub async fn file(&self, source: &str) -> Result<Arc<MediaFile>, SourceError> {
        let limit = self.settings.file_bytes_max;
        let bytes = match inline::Source::of(source)? {
            inline::Source::Data(uri) => inline::data_uri(uri, limit)?,
            inline::Source::Base64(text) => inline::base64(text, limit)?,
            inline::Source::Address(address) => self.client.fetch(address).await?,
        };
        Ok(Arc::new(MediaFile::new(bytes)))
    }

    /// What the files of one request may have together.
    pub fn budget(&self) -> MediaBudget {
        let limit = self.settings.request_bytes_max;
        MediaBudget { limit, left: AtomicUsize::new(limit) }
    }

    /// A file that was sent as its bytes.
    ///
    /// # Errors
    /// One that is too large.
    pub fn bytes(&self, bytes: Vec<u8>) -> Result<Arc<MediaFile>, SourceError> {
        let limit = self.settings.file_bytes_max;
        if bytes.len() > limit {
            return Err(SourceError::TooLarge { limit });
        }
        Ok(Arc::new(MediaFile::new(bytes)))
    }
}

/// Bytes that the files of one request may have together: addresses are short, what they lead to
/// is not, so the size of its body bounds nothing.
#[derive(Debug)]
pub struct MediaBudget {
    limit: usize,
    left: AtomicUsize,
}

impl MediaBudget {
    /// Takes what a file has.
    ///
    /// # Errors
    /// [`SourceError::TooMuch`] if less is left.
    pub fn take(&self, file: &MediaFile) -> Result<(), SourceError> {
        let rest = |left: usize| left.checked_sub(file.bytes().len());
        match self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest) {
            Ok(_) => Ok(()),
            Err(_) => Err(SourceError::TooMuch { limit: self.limit }),
        }
    }
}

#[cfg(test)]
mod tests;
