//! Images and videos of requests: from what was written to the bytes of a file.
//!
//! Must not know: any dialect's bodies, formats of images, models.

use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use proxima_models::media::MediaFile;
use thiserror::Error;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What may be fetched, and from where.
#[derive(Debug, Clone, Default)]
pub struct MediaSettings {
    /// Hosts that files are fetched from; none if empty.
    pub allowed_hosts: Vec<String>,
}

/// Why a file is not to be had.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SourceError {
    /// Neither a data URI nor base64.
    #[error("it is neither a data URI nor a URL nor base64")]
    NotBase64,
    /// A URL whose host is not allowed.
    #[error("the server fetches no files from this URL; send a data URI or base64")]
    NotAllowed,
    /// No bytes.
    #[error("it is empty")]
    Empty,
}

/// Gets the files of requests.
#[derive(Debug)]
pub struct MediaFetcher;

impl MediaFetcher {
    /// A fetcher with these limits.
    pub fn new(_: &MediaSettings) -> Self {
        Self
    }

    /// The file of a data URI, a URL or base64.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn file(&self, source: &str) -> Result<Arc<MediaFile>, SourceError> {
        if source.starts_with("http:") || source.starts_with("https:") {
            return Err(SourceError::NotAllowed);
        }
        let text = match source.strip_prefix("data:").map(|rest| rest.split_once(";base64,")) {
            Some(Some((_, text))) => text,
            Some(None) => return Err(SourceError::NotBase64),
            None => source,
        };
        self.bytes(BASE64.decode(text).map_err(|_| SourceError::NotBase64)?)
    }

    /// The file of these bytes.
    ///
    /// # Errors
    /// No bytes.
    pub fn bytes(&self, bytes: Vec<u8>) -> Result<Arc<MediaFile>, SourceError> {
        if bytes.is_empty() {
            return Err(SourceError::Empty);
        }
        Ok(Arc::new(MediaFile::new(bytes)))
    }
}
