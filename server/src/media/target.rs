//! What a URL requests, checked against the allow list.
//!
//! Must not know: connections, responses.

use url::{Host, Url};

use super::SourceError;
use super::allow::{self, AllowEntry, Allowed};

/// Maximum bytes of a URL.
const ADDRESS_BYTES_MAX: usize = 8192;

/// A URL that may be fetched, as far as its text tells.
#[derive(Debug, Clone)]
pub struct Target {
    url: Url,
    /// The host, without a trailing dot.
    pub host: Host<String>,
    /// The port.
    pub port: u16,
    /// Whether the host may have private addresses.
    pub inside: bool,
    /// Whether the entry that allows it is for every host.
    pub is_any: bool,
}

impl Target {
    /// What a URL requests.
    ///
    /// # Errors
    /// An invalid URL, or one that is not allowed.
    pub fn new(text: &str, entries: &[AllowEntry]) -> Result<Self, SourceError> {
        if text.len() > ADDRESS_BYTES_MAX {
            return Err(wrong(format!("it is longer than {ADDRESS_BYTES_MAX} bytes")));
        }
        Self::of(Url::parse(text).map_err(|error| wrong(format!("{error}")))?, entries)
    }

    fn of(url: Url, entries: &[AllowEntry]) -> Result<Self, SourceError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(SourceError::Scheme { scheme: url.scheme().to_owned() });
        }
        if entries.is_empty() {
            return Err(SourceError::Off);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("it contains a user name or password".to_owned()));
        }
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            return Err(wrong("it names no host".to_owned()));
        };
        let host = allow::without_root(host.to_owned());
        match allow::allowed(entries, &host, port) {
            Allowed::By(entry) => {
                Ok(Self { url, host, port, inside: entry.inside, is_any: entry.is_any() })
            }
            Allowed::OtherPort => {
                let (entry, host) = (allow::entry_for(&host), format!("{host}:{port}"));
                let entry = entry.map(|entry| format!("{entry}:{port}"));
                Err(SourceError::HostNotAllowed { host, entry })
            }
            Allowed::No => {
                let (entry, host) = (allow::entry_for(&host), host.to_string());
                Err(SourceError::HostNotAllowed { host, entry })
            }
        }
    }

    /// The target of a redirect from this one.
    ///
    /// # Errors
    /// An invalid target, or one that is not allowed.
    pub fn redirected(&self, to: &str, entries: &[AllowEntry]) -> Result<Self, SourceError> {
        let refused = |problem: String| SourceError::Redirect { host: self.name(), problem };
        if to.len() > ADDRESS_BYTES_MAX {
            return Err(refused(format!("its URL is longer than {ADDRESS_BYTES_MAX} bytes")));
        }
        let url = self.url.join(to).map_err(|error| refused(error.to_string()))?;
        if self.is_https() && url.scheme() == "http" {
            return Err(refused("it leads from https to http".to_owned()));
        }
        Self::of(url, entries).map_err(|error| refused(error.to_string()))
    }

    /// Whether it is fetched over TLS.
    pub fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// The host, as resolved and as named in messages.
    pub fn name(&self) -> String {
        self.host.to_string()
    }

    /// The `Host` header: the host, with the port unless it is the scheme's default.
    pub fn authority(&self) -> String {
        self.url.port().map_or_else(|| self.name(), |port| format!("{}:{port}", self.host))
    }

    /// The request target: path and query.
    pub fn path(&self) -> String {
        let query = self.url.query().map(|query| format!("?{query}")).unwrap_or_default();
        format!("{}{query}", self.url.path())
    }
}

fn wrong(problem: String) -> SourceError {
    SourceError::Address { problem }
}
