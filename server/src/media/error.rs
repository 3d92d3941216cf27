//! Why media named in a request could not be had.
//!
//! Must not know: wire formats, statuses of our own answers.

use std::time::Duration;

use thiserror::Error;

/// Why media named in a request could not be had. No address that a host name stands for, and
/// nothing of what another server answered, is in any of these.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SourceError {
    /// Neither an address, nor a data URI, nor base64.
    #[error(
        "{problem}; media is sent as a data URI (data:image/png;base64,...), as base64, or as an \
         http or https address"
    )]
    Text {
        /// What is wrong.
        problem: String,
    },
    /// A bug of the decoder.
    #[error("the media could not be decoded")]
    Undecoded,
    /// A file that is larger than allowed.
    #[error("the file is larger than the limit of {limit} bytes (--max-media-bytes)")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// Files that are larger than allowed together.
    #[error(
        "the files of the request are larger than {limit} bytes together; send fewer at a time"
    )]
    TooMuch {
        /// The limit in bytes.
        limit: usize,
    },
    /// So many files are being got that this one has to wait for too long, or finds no room.
    #[error("other requests have too many files, or too large ones; try again in a second")]
    Busy,
    /// Addresses are not fetched by this server.
    #[error(
        "this server fetches no addresses: send the file as a data URI \
         (data:image/png;base64,...), or start the server with --media-allow HOST"
    )]
    Off,
    /// A scheme other than http and https.
    #[error("{scheme}: addresses are not fetched: use https, or send the file as a data URI")]
    Scheme {
        /// The scheme.
        scheme: String,
    },
    /// An address that is none, or that no file is fetched from.
    #[error("the address is not fetched: {problem}")]
    Address {
        /// What is wrong and what to do.
        problem: String,
    },
    /// A host that is not on the list.
    #[error(
        "this server fetches nothing from {host}: send the file as a data URI{}",
        entry.as_ref().map_or(String::new(), |it| format!(
            ", or start the server with --media-allow {it}"
        ))
    )]
    HostNotAllowed {
        /// The host, with its port where that is what is not allowed.
        host: String,
        /// What would allow it, if anything does.
        entry: Option<String>,
    },
    /// A host that is not, or not only, at public addresses.
    #[error(
        "the host {host} has no address, or one that is not public: nothing is fetched from it"
    )]
    NotPublic {
        /// The host.
        host: String,
    },
    /// A redirect to where none may lead.
    #[error("the redirect of {host} is not followed: {problem}")]
    Redirect {
        /// The host that answered with it.
        host: String,
        /// What is wrong with it.
        problem: String,
    },
    /// More redirects than are followed.
    #[error("more than {limit} redirects: use the address that they lead to")]
    TooManyRedirects {
        /// The limit.
        limit: usize,
    },
    /// A name that is not found.
    #[error("the host {host} is not found")]
    Unresolved {
        /// The host.
        host: String,
    },
    /// No connection.
    #[error("the host {host} cannot be connected to: {problem}")]
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
    /// Another answer than a file.
    #[error("the host {host} answered with status {status} instead of the file")]
    Status {
        /// The host.
        host: String,
        /// The status.
        status: u16,
    },
    /// An answer that is compressed, though none was asked for.
    #[error("the host {host} sent the file compressed, which was not asked for and is not read")]
    Compressed {
        /// The host.
        host: String,
    },
    /// An answer that is not HTTP, or that was cut off.
    #[error("the answer of {host} broke off or is not HTTP: try again")]
    Broken {
        /// The host.
        host: String,
    },
}

impl SourceError {
    /// An address where a file is to be within the text.
    pub fn not_written() -> Self {
        Self::Text { problem: "the media is an address".to_owned() }
    }

    /// Whose doing it is.
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

/// Whose doing it is that a file is not to be had, and with it whether trying again helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceFault {
    /// The request is wrong; trying again does not help.
    Caller,
    /// Another server, or the way there, does not work; trying again may help.
    Elsewhere,
    /// This server has too much to do; trying again helps.
    Server,
}
