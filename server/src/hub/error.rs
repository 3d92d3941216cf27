//! Why a model of the Hub is unavailable.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// What went wrong with a model of the Hub.
#[derive(Debug, Error)]
pub enum HubError {
    /// No response: no network, a name that does not resolve, a proxy, a timeout.
    #[error("the Hub cannot be reached: {0}")]
    Unreachable(String),
    /// An error response.
    #[error("{}", with_message(format!("the Hub answered {status}"), message.as_deref()))]
    Refused {
        /// Its status.
        status: u16,
        /// The Hub's code for the reason, from `X-Error-Code`.
        code: Option<String>,
        /// The Hub's message.
        message: Option<String>,
    },
    /// A response that no Hub would send.
    #[error("{0}; if HF_ENDPOINT is set, check that it is the URL of a Hub")]
    NotAHub(String),
    /// The repository exists, but is not a checkpoint.
    #[error("{0}")]
    NoCheckpoint(String),
    /// The bytes received do not match the size or hash from the Hub.
    #[error("{0} was damaged in transit and removed; try again")]
    Damaged(String),
    /// The Hub has a newer commit, which cannot be written to the cache.
    #[error("there is a newer commit on the Hub, but it cannot be written to the cache: {0}")]
    CannotUpdate(Box<Self>),
    /// The cache cannot be read or written.
    #[error("{}", with_advice(path, error))]
    Cache {
        /// Where.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// A problem with the Hub's message, if it sent one.
fn with_message(problem: String, message: Option<&str>) -> String {
    match message {
        Some(message) => format!("{problem}: {message}"),
        None => problem,
    }
}

/// An error of the cache at a path, with advice if there is any.
fn with_advice(path: &Path, error: &io::Error) -> String {
    let problem = format!("{}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => format!(
            "{problem}; the cache must be writable to download missing files: change its owner or \
             permissions, or name another folder in HF_HUB_CACHE"
        ),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("{problem}; free space there, or name another folder in HF_HUB_CACHE")
        }
        _ => problem,
    }
}

impl HubError {
    /// An error of the cache at a path.
    pub fn cache(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| Self::Cache { path, error }
    }

    /// Whether a cached snapshot may be served instead, as huggingface_hub does: if the Hub did not
    /// say that the revision or a file does not exist.
    pub fn leaves_the_cache(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::NotAHub(_) | Self::CannotUpdate(_) => true,
            Self::Refused { code, .. } => {
                !matches!(code.as_deref(), Some("RevisionNotFound" | "EntryNotFound"))
            }
            Self::NoCheckpoint(_) | Self::Damaged(_) | Self::Cache { .. } => false,
        }
    }

    /// Whether a retry may help.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Refused { status, .. } => matches!(status, 408 | 429 | 500..),
            _ => false,
        }
    }

    /// A sentence for the user, with advice.
    pub fn explain(&self, id: &str, revision: &str, has_token: bool) -> String {
        let Self::Refused { status, code, message } = self else {
            return match self {
                Self::Unreachable(_) => {
                    format!(
                        "{id} could not be downloaded: {self}; check the network, or use a local folder"
                    )
                }
                _ => format!("{id}: {self}"),
            };
        };
        let said = |problem: String| with_message(problem, message.as_deref());
        let token = match has_token {
            true => "the account of the token that was sent has no access",
            false => "if it is private or gated, set HF_TOKEN to a token whose account has access",
        };
        match (code.as_deref(), status) {
            (Some("RevisionNotFound"), _) => {
                said(format!("{id} has no revision {revision} on the Hub"))
            }
            (Some("EntryNotFound"), _) => said(format!("{id} lacks a file on the Hub")),
            (Some("GatedRepo"), _) => format!("{}; {token}", said(format!("{id} is gated"))),
            (Some("RepoNotFound"), _) | (None, 401 | 404) => {
                let problem = said(format!("the Hub has no model {id}, or it is not public"));
                format!("{problem}; {token}")
            }
            (_, 401 | 403) => {
                format!("{}; {token}", said(format!("the Hub refuses {id} ({status})")))
            }
            _ => format!("{id} could not be downloaded: {self}; try again later"),
        }
    }
}
