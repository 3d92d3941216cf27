//! Media of requests: data URIs, base64, and URLs of allowed hosts.
//!
//! Must not know: wire formats, what the bytes contain.

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

/// Where media may come from, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaSettings {
    /// Hosts that files may be fetched from: `example.com`, `*.example.com` or `*` (any public
    /// host), each optionally with `:PORT`; `private:HOST[:PORT]` for a host in a private network.
    /// If empty, nothing is fetched.
    pub allowed_hosts: Vec<String>,
    /// Maximum bytes of one file, decoded.
    pub file_bytes_max: usize,
    /// Maximum bytes of the files of one request.
    pub request_bytes_max: usize,
    /// Maximum bytes of the files of all requests that are still obtaining files.
    pub held_bytes_max: usize,
    /// Time limit for fetching one file, from DNS lookup to the last byte.
    pub fetch_timeout: Duration,
    /// Maximum redirects followed for one file.
    pub redirects_max: usize,
    /// Maximum concurrent fetches; further ones wait.
    pub fetches_max: usize,
    /// Maximum concurrent fetches of one request.
    pub request_fetches_max: usize,
    /// How long a file may wait for other fetches before its request is rejected.
    pub fetch_wait: Duration,
    /// Maximum pixels of one image or frame; `None` for the models' default.
    pub image_pixels_max: Option<usize>,
    /// Maximum bytes of decoded media cached for later requests; `None` for the models' default.
    pub cache_bytes_max: Option<usize>,
    /// What reads video files.
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

/// Does nothing: video files are read on Unix only.
#[cfg(not(unix))]
pub fn end_programs() {}

/// One in this many concurrent fetches is left to other clients.
const OTHERS_PART: usize = 4;

/// Obtains the media of requests: data URIs, base64, and URLs of allowed hosts.
#[derive(Debug)]
pub struct MediaFetcher {
    settings: MediaSettings,
    client: fetch::FetchClient,
    /// Byte budget of the files of all requests.
    held: Arc<budget::HeldBytes>,
    /// Each client's share of the fetches: URLs that never answer could otherwise occupy all.
    shares: Shares,
}

impl MediaFetcher {
    /// A fetcher with these settings.
    pub fn new(settings: &MediaSettings) -> Self {
        let (settings, client) = (settings.clone(), fetch::FetchClient::new(settings));
        let held = Arc::new(budget::HeldBytes::new(settings.held_bytes_max));
        let shares = Shares::new(settings.fetches_max - settings.fetches_max / OTHERS_PART);
        Self { settings, client, held, shares }
    }

    /// The budget of one request's files, released on drop.
    pub fn budget(&self, client: ClientKey) -> MediaBudget {
        let (settings, share) = (&self.settings, self.shares.of(client));
        let (bytes, fetches) = (settings.request_bytes_max, settings.request_fetches_max);
        MediaBudget::new(bytes, fetches, share, &self.held)
    }

    /// Fetches the file at a URL.
    ///
    /// # Errors
    /// A host that is not allowed, a file that is too large or not available, too many files.
    pub async fn fetched(
        &self,
        address: &str,
        budget: &MediaBudget,
    ) -> Result<Arc<MediaFile>, SourceError> {
        let bytes = self.client.fetch_within(address, budget).await?;
        Ok(Arc::new(MediaFile::new(bytes)))
    }

    /// Decodes the file in a `data:` URI or base64.
    ///
    /// # Errors
    /// Text that is neither, a file that is too large.
    pub fn written(&self, text: &str, budget: &MediaBudget) -> Result<Arc<MediaFile>, SourceError> {
        let limit = self.settings.file_bytes_max;
        let bytes = match inline::SourceText::of(text)? {
            inline::SourceText::Data(uri) => inline::data_uri(uri, limit)?,
            inline::SourceText::Base64(text) => inline::base64(text, limit)?,
            inline::SourceText::Address(_) => return Err(SourceError::not_written()),
        };
        self.bytes(bytes, budget)
    }

    /// A file that was sent as raw bytes.
    ///
    /// # Errors
    /// A file that is too large.
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

/// The URL in a text, without surrounding whitespace, if the text is one.
pub fn address(text: &str) -> Option<&str> {
    match inline::SourceText::of(text) {
        Ok(inline::SourceText::Address(address)) => Some(address),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
