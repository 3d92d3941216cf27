//! Media named in requests: data URIs, base64, and addresses of allowed hosts.
//!
//! Must not know: wire formats, what the bytes show.

mod address;
mod allow;
mod budget;
mod error;
mod fetch;
#[cfg(unix)]
pub mod ffmpeg;
mod inline;
mod network;
mod target;
mod video;

use std::sync::Arc;
use std::time::Duration;

use proxima_engine::ClientKey;
use proxima_models::media::MediaFile;

use crate::shares::Shares;

pub use allow::AllowEntry;
pub use budget::MediaBudget;
pub use error::{SourceError, SourceFault};
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
    /// Bytes of the files of all requests that are being got together.
    pub held_bytes_max: usize,
    /// Time that fetching one file may take, from looking up the host to the last byte.
    pub fetch_timeout: Duration,
    /// Redirects that are followed for one file.
    pub redirects_max: usize,
    /// Files that are fetched at a time; further ones wait.
    pub fetches_max: usize,
    /// Files of one request that are fetched at a time.
    pub request_fetches_max: usize,
    /// Time that a file waits for others to be fetched, until its request is refused.
    pub fetch_wait: Duration,
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
            held_bytes_max: 1 << 30,
            fetch_timeout: Duration::from_secs(10),
            redirects_max: 3,
            fetches_max: 32,
            request_fetches_max: 4,
            fetch_wait: Duration::from_secs(10),
            image_pixels_max: None,
            cache_bytes_max: None,
            video_files: VideoFiles::Missing,
        }
    }
}

/// Ends nothing: video files are read on Unix only.
#[cfg(not(unix))]
pub fn end_programs() {}

/// Of the fetches at a time, one in so many is left to other clients.
const OTHERS_PART: usize = 4;

/// Media named in requests: data URIs, base64, and addresses of allowed hosts.
#[derive(Debug)]
pub struct MediaFetcher {
    settings: MediaSettings,
    client: fetch::Client,
    /// What files of all requests may have together.
    held: Arc<budget::Held>,
    /// What a client may have of the fetches: addresses that never answer take time.
    shares: Shares,
}

impl MediaFetcher {
    /// One with these settings.
    pub fn new(settings: &MediaSettings) -> Self {
        let (settings, client) = (settings.clone(), fetch::Client::new(settings));
        let held = Arc::new(budget::Held::new(settings.held_bytes_max));
        let shares = Shares::new(settings.fetches_max - settings.fetches_max / OTHERS_PART);
        Self { settings, client, held, shares }
    }

    /// What the files of one request may have together; given back when dropped.
    pub fn budget(&self, client: ClientKey) -> MediaBudget {
        let (settings, share) = (&self.settings, self.shares.of(client));
        let (bytes, fetches) = (settings.request_bytes_max, settings.request_fetches_max);
        MediaBudget::new(bytes, fetches, share, &self.held)
    }

    /// The file at an address.
    ///
    /// # Errors
    /// A host that is not allowed, a file that is too large or not to be had, too many files.
    pub async fn fetched(
        &self,
        address: &str,
        budget: &MediaBudget,
    ) -> Result<Arc<MediaFile>, SourceError> {
        let bytes = self.client.fetch_within(address, budget).await?;
        Ok(Arc::new(MediaFile::new(bytes)))
    }

    /// The file that a `data:` URI or base64 contains.
    ///
    /// # Errors
    /// Text that is neither, a file that is too large.
    pub fn written(&self, text: &str, budget: &MediaBudget) -> Result<Arc<MediaFile>, SourceError> {
        let limit = self.settings.file_bytes_max;
        let bytes = match inline::Source::of(text)? {
            inline::Source::Data(uri) => inline::data_uri(uri, limit)?,
            inline::Source::Base64(text) => inline::base64(text, limit)?,
            inline::Source::Address(_) => return Err(SourceError::not_written()),
        };
        self.bytes(bytes, budget)
    }

    /// A file that was sent as its bytes.
    ///
    /// # Errors
    /// One that is too large.
    pub fn bytes(
        &self,
        bytes: Vec<u8>,
        budget: &MediaBudget,
    ) -> Result<Arc<MediaFile>, SourceError> {
        let limit = self.settings.file_bytes_max;
        if bytes.len() > limit {
            return Err(SourceError::TooLarge { limit });
        }
        budget.take(bytes.len())?;
        Ok(Arc::new(MediaFile::new(bytes)))
    }
}

/// The address that a text is, without white space around it, if it is one.
pub fn address(text: &str) -> Option<&str> {
    match inline::Source::of(text) {
        Ok(inline::Source::Address(address)) => Some(address),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
