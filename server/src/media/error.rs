//! Why the media of a request is not available.
//!
//! Must not know: wire formats, status codes of our own responses.

use std::time::Duration;

use thiserror::Error;

/// Why the media of a request is not available. Never reveals the IP addresses that a host name
/// resolves to, nor the body of another server's response.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SourceError {
    /// Neither a URL, nor a data URI, nor base64.
    #[error(
        "{problem}; media is sent as a data URI (data:image/png;base64,...), as base64, or as an \
         http or https URL"
    )]
    Text {
        /// What is wrong.
        problem: String,
    },
    /// A bug in the decoder.
    #[error("the media could not be decoded")]
    Undecoded,
    /// A file larger than allowed.
    #[error("the file is larger than the limit of {limit} bytes (--max-media-bytes)")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// Files that together are larger than allowed.
    #[error(
        "the files of the request together are larger than {limit} bytes; send fewer at a time"
    )]
    TooMuch {
        /// The limit in bytes.
        limit: usize,
    },
    /// This file would wait too long for others, or exceed the memory budget.
    #[error("too many or too large files of other requests are being read; try again in a second")]
    Busy,
    /// This server fetches no URLs.
    #[error(
        "this server fetches no URLs: send the file as a data URI (data:image/png;base64,...), or \
         start the server with --media-allow HOST"
    )]
    Off,
    /// A scheme other than http and https.
    #[error("{scheme}: URLs are not fetched: use https, or send the file as a data URI")]
    Scheme {
        /// The scheme.
        scheme: String,
    },
    /// An invalid URL, or one that is not fetched.
    #[error("the URL is not fetched: {problem}")]
    Address {
        /// What is wrong and what to do.
        problem: String,
    },
    /// A host that is not on the allow list.
    #[error("{}", not_allowed(host, entry.as_deref()))]
    HostNotAllowed {
        /// The host, with its port if the port is why it is refused.
        host: String,
        /// The entry that would allow it, if any.
        entry: Option<String>,
    },
    /// A host without IP addresses, or with one that is not public.
    #[error("the host {host} does not resolve, or resolves to a non-public address")]
    NotPublic {
        /// The host.
        host: String,
    },
    /// A redirect that must not be followed.
    #[error("the redirect of {host} is not followed: {problem}")]
    Redirect {
        /// The host that redirects.
        host: String,
        /// What is wrong with it.
        problem: String,
    },
    /// More redirects than allowed.
    #[error("more than {limit} redirects: use the URL that they lead to")]
    TooManyRedirects {
        /// The limit.
        limit: usize,
    },
    /// A host name that does not resolve.
    #[error("the host {host} is not found")]
    Unresolved {
        /// The host.
        host: String,
    },
    /// A failed connection.
    #[error("cannot connect to the host {host}: {problem}")]
    Unreachable {
        /// The host.
        host: String,
        /// What is wrong.
        problem: String,
    },
    /// It took too long.
    #[error(
        "the file was not fetched within {} s (--media-timeout): try again, or send it as a data \
         URI",
        limit.as_secs_f64()
    )]
    Timeout {
        /// The limit.
        limit: Duration,
    },
    /// A response other than a file or a redirect.
    #[error("the host {host} answered with status {status} instead of the file")]
    Status {
        /// The host.
        host: String,
        /// The status.
        status: u16,
    },
    /// A compressed response, although that was not requested.
    #[error(
        "the host {host} sent the file compressed, which was not requested and is not supported"
    )]
    Compressed {
        /// The host.
        host: String,
    },
    /// A response that is not HTTP, or that was cut off.
    #[error("the response of {host} was cut off or is not HTTP: try again")]
    Broken {
        /// The host.
        host: String,
    },
}

fn not_allowed(host: &str, entry: Option<&str>) -> String {
    let problem = format!("this server fetches nothing from {host}: send the file as a data URI");
    match entry {
        Some(entry) => format!("{problem}, or start the server with --media-allow {entry}"),
        None => problem,
    }
}

impl SourceError {
    /// A URL where an inline file is expected.
    pub fn not_written() -> Self {
        Self::Text { problem: "the media is a URL".to_owned() }
    }

    /// Whose fault it is.
    pub fn fault(&self) -> SourceFault {
        match self {
            Self::Busy => SourceFault::Server,
            Self::Unresolved { .. }
            | Self::Unreachable { .. }
            | Self::Timeout { .. }
            | Self::Broken { .. } => SourceFault::Elsewhere,
            Self::Status { status, .. } if *status >= 500 || matches!(status, 408 | 425 | 429) => {
                SourceFault::Elsewhere
            }
            _ => SourceFault::Caller,
        }
    }
}

/// Whose fault it is that a file is not available, which tells whether retrying helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceFault {
    /// The request is wrong; retrying does not help.
    Caller,
    /// Another server, or the network to it, fails; retrying may help.
    Elsewhere,
    /// This server is overloaded; retrying helps.
    Server,
}
