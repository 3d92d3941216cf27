//! Media named in requests: data URIs, base64, and addresses of allowed hosts.
//!
//! Must not know: wire formats, what the bytes show.

mod error;
mod inline;

use std::sync::Arc;
use std::time::Duration;

use proxima_models::media::MediaFile;

pub use error::SourceError;

/// From where media may come, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaSettings {
    /// Hosts that files are fetched from: `example.com`, `*.example.com`, `*` (any public host),
    /// each with `:PORT` if wanted; `private:HOST[:PORT]` for a host inside. None turns it off.
    pub allowed_hosts: Vec<String>,
    /// Bytes of one file, decoded.
    pub file_bytes_max: usize,
    /// Time that fetching one file may take, from looking up the host to the last byte.
    pub fetch_timeout: Duration,
    /// Redirects that are followed for one file.
    pub redirects_max: usize,
    /// Files that are fetched at a time; further ones wait.
    pub fetches_max: usize,
}

impl Default for MediaSettings {
    fn default() -> Self {
        Self {
            allowed_hosts: Vec::new(),
            file_bytes_max: 32 << 20,
            fetch_timeout: Duration::from_secs(10),
            redirects_max: 3,
            fetches_max: 16,
        }
    }
}

/// Media named in requests: data URIs, base64, and addresses of allowed hosts.
#[derive(Debug)]
pub struct MediaFetcher {
    settings: MediaSettings,
}

impl MediaFetcher {
    /// One with these settings.
    pub fn new(settings: &MediaSettings) -> Self {
        Self { settings: settings.clone() }
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
            inline::Source::Address(_) => return Err(SourceError::Off),
        };
        Ok(Arc::new(MediaFile::new(bytes)))
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

#[cfg(test)]
mod tests;
