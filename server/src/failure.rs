//! Every way in which a request can fail, before a dialect shapes the response.
//!
//! Must not know: any dialect's statuses and bodies.

use std::time::Duration;

use axum::http::{HeaderValue, header};
use axum::response::Response;
use proxima_engine::{EngineError, NotReady, NotServed, UnknownModel};
use proxima_models::InputError;
use thiserror::Error;

/// `Retry-After` of a model that is not ready: loading takes seconds, a download minutes.
const NOT_READY_RETRY: Duration = Duration::from_secs(5);

/// Bytes shown of the beginning and of the end of a long message.
const HEAD_MAX: usize = 700;
const TAIL_MAX: usize = 200;
/// Maximum bytes of a reason in the log.
const REASON_MAX: usize = 300;

/// Why a request was not answered.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum Failure {
    /// The body is not what the path accepts.
    #[error("{message}")]
    Body {
        /// What is wrong and where.
        message: String,
        /// Whether it is not JSON at all, rather than JSON of the wrong form.
        syntax: bool,
    },
    /// The body is larger than allowed.
    #[error("the request body is larger than the limit of {limit} bytes; send less at a time")]
    BodyTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The request is not valid HTTP.
    #[error("{message}")]
    Malformed {
        /// What is wrong.
        message: String,
    },
    /// The body has an unsupported content coding.
    #[error("content-encoding {coding:?} is not supported: send gzip, zstd or none, once")]
    Coding {
        /// The coding.
        coding: String,
    },
    /// The body has an unsupported transfer coding.
    #[error(
        "transfer-encoding {coding:?} is not implemented: send a content-length, or only chunked"
    )]
    TransferCoding {
        /// The codings.
        coding: String,
    },
    /// The request comes from a web page that may not call the server.
    #[error(
        "this server has no API key, so it refuses web pages of other origins; start it with \
         --cors-allow-origin ORIGIN to allow them, or with --allowed-host HOST to allow its own \
         pages at a host name that is not a loopback name"
    )]
    Browser,
    /// The body arrives too slowly.
    #[error(
        "the request body arrived too slowly: within each {} s it must end or bring 4 KiB per \
         second",
        limit.as_secs()
    )]
    SlowBody {
        /// The time within which it must end or reach the minimum rate.
        limit: Duration,
    },
    /// The response would be larger than any response may be.
    #[error(
        "the response would have about {bytes} bytes, more than the limit of {limit}; send less at \
         a time"
    )]
    AnswerTooLarge {
        /// Bytes of the response, usually estimated before it is computed.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// No key, or a wrong one.
    #[error("a valid API key is needed: send it as \"Authorization: Bearer KEY\"")]
    Unauthorized,
    /// A model name that is not served.
    #[error(transparent)]
    UnknownModel(UnknownModel),
    /// A model that is still being fetched or loaded.
    #[error("{0}; try again later")]
    NotReady(NotReady),
    /// The server is about to stop; readiness checks report this first.
    #[error("the server is shutting down")]
    Stopping,
    /// The path does not exist.
    #[error("there is nothing at {path}; see /docs")]
    UnknownPath {
        /// The requested path.
        path: String,
    },
    /// The path exists, but not for this method.
    #[error("{method} is not allowed at {path}; see /docs")]
    WrongMethod {
        /// The method used.
        method: String,
        /// The requested path.
        path: String,
    },
    /// Too many concurrent requests.
    #[error("more than {limit} concurrent requests; try again in a second")]
    TooManyRequests {
        /// The limit.
        limit: usize,
    },
    /// There is no capacity left for what a request needs: bodies, files, responses.
    #[error("{message}")]
    Busy {
        /// What is exhausted.
        message: String,
    },
    /// Another server does not deliver what a request refers to.
    #[error("{message}")]
    Upstream {
        /// What is unavailable, and why.
        message: String,
    },
    /// The request took too long.
    #[error("the request was not answered within {} s", limit.as_secs_f32())]
    Timeout {
        /// The limit.
        limit: Duration,
    },
    /// A health check's forward pass failed or took too long.
    #[error("model {model} is not healthy: {reason}")]
    Unhealthy {
        /// Its served name.
        model: String,
        /// Why.
        reason: String,
    },
    /// A bug in the server.
    #[error("an internal error; please report it")]
    Bug,
    /// The engine refused or failed.
    #[error(transparent)]
    Engine(EngineError),
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl From<NotServed> for Failure {
    fn from(error: NotServed) -> Self {
        match error {
            NotServed::Unknown(unknown) => Self::UnknownModel(unknown),
            NotServed::NotReady(model) => Self::NotReady(model),
        }
    }
}

impl From<NotReady> for Failure {
    fn from(model: NotReady) -> Self {
        Self::NotReady(model)
    }
}

impl Failure {
    /// A body that is JSON, but not what the path accepts.
    pub fn body(message: impl Into<String>) -> Self {
        Self::Body { message: message.into(), syntax: false }
    }

    /// The message for the client. It may quote the request; the middle of a long message is
    /// omitted.
    pub fn message(&self) -> String {
        let whole = self.to_string();
        if whole.len() <= HEAD_MAX + TAIL_MAX {
            return whole;
        }
        let boundary = |at: &usize| whole.is_char_boundary(*at);
        let head = (0..HEAD_MAX).rev().find(boundary).unwrap_or(0);
        let tail = (whole.len() - TAIL_MAX..whole.len()).find(boundary).unwrap_or(whole.len());
        format!("{} [...] {}", &whole[..head], &whole[tail..])
    }

    /// The reason for the log: the message without anything that may be of an input.
    pub fn reason(&self) -> String {
        let reason = match self {
            // What these quote is the server's own text, a header, or the name of a model, which
            // is worth knowing.
            Self::UnknownModel(_)
            | Self::Unauthorized
            | Self::Browser
            | Self::Coding { .. }
            | Self::TransferCoding { .. } => self.to_string(),
            Self::Engine(EngineError::Input {
                index,
                source: InputError::UnknownToken { vocabulary, .. },
            }) => {
                format!("input {index}: a token id is outside the vocabulary of {vocabulary}")
            }
            _ => without_quotes(&self.to_string()),
        };
        if reason.len() <= REASON_MAX {
            return reason;
        }
        let end = (0..REASON_MAX).rev().find(|at| reason.is_char_boundary(*at)).unwrap_or(0);
        let word = reason[..end].rfind(' ').unwrap_or(end);
        format!("{} ...", &reason[..word])
    }

    /// Whether a handler detected it, before any engine saw and counted the request.
    pub fn is_of_handler(&self) -> bool {
        matches!(
            self,
            Self::Body { .. }
                | Self::Busy { .. }
                | Self::Upstream { .. }
                | Self::AnswerTooLarge { .. }
        )
    }

    /// Whether the server or its model is at fault, and not the request, the load or another host.
    pub fn is_of_server(&self) -> bool {
        match self {
            Self::Bug | Self::Timeout { .. } | Self::Unhealthy { .. } => true,
            Self::Engine(error) => {
                matches!(error.fault(), proxima_engine::Fault::Bug | proxima_engine::Fault::Model)
            }
            _ => false,
        }
    }

    /// Its label in metrics.
    pub fn kind(&self) -> &'static str {
        use proxima_engine::Fault;
        match self {
            Self::Body { .. } => "body",
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::Malformed { .. } => "malformed",
            Self::Coding { .. } => "content_encoding",
            Self::TransferCoding { .. } => "transfer_encoding",
            Self::Browser => "browser",
            Self::SlowBody { .. } => "body_too_slow",
            Self::AnswerTooLarge { .. } => "answer_too_large",
            Self::Unauthorized => "unauthorized",
            Self::UnknownModel(_) => "unknown_model",
            Self::NotReady(_) => "not_ready",
            Self::Stopping => "shutdown",
            Self::UnknownPath { .. } | Self::WrongMethod { .. } => "unknown_path",
            Self::TooManyRequests { .. } | Self::Busy { .. } => "overloaded",
            Self::Upstream { .. } => "upstream",
            Self::Timeout { .. } => "timeout",
            Self::Unhealthy { .. } => "unhealthy",
            Self::Bug => "bug",
            Self::Engine(error) => match error.fault() {
                Fault::Empty => "empty",
                Fault::Request => "validation",
                Fault::Tokenizer => "tokenization",
                Fault::Load => "overloaded",
                Fault::Bug => "bug",
                Fault::Model => "model",
                Fault::Shutdown => "shutdown",
            },
        }
    }

    /// When to retry, if retrying helps.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Engine(EngineError::Overloaded { retry_after }) => Some(*retry_after),
            Self::NotReady(_) => Some(NOT_READY_RETRY),
            Self::TooManyRequests { .. }
            | Self::Stopping
            | Self::Busy { .. }
            | Self::Upstream { .. }
            | Self::Engine(EngineError::ShuttingDown) => Some(Duration::from_secs(1)),
            _ => None,
        }
    }
}

/// Adds `Retry-After`, from 1 to 60 seconds, if retrying helps.
pub fn with_retry_after(mut response: Response, failure: &Failure) -> Response {
    if let Some(after) = failure.retry_after() {
        let seconds = HeaderValue::from(after.as_secs().clamp(1, 60));
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    response
}

/// Replaces each quoted text with three dots, except names of keys in backticks.
pub fn without_quotes(message: &str) -> String {
    let is_of_name = |letter: char| letter.is_ascii_alphanumeric() || "_.-".contains(letter);
    // In backticks, the library for JSON quotes numbers and unknown values, too.
    let begins_name = |text: &str| text.starts_with(|letter: char| letter.is_ascii_alphabetic());
    let (mut kept, mut rest) = (String::new(), message);
    while let Some(start) = rest.find(['"', '`']) {
        let quote = rest[start..].chars().next().unwrap_or('"');
        kept.push_str(&rest[..=start]);
        rest = &rest[start + 1..];
        let mut escaped = false;
        let end = rest.find(|letter: char| {
            let ends = letter == quote && !escaped;
            escaped = letter == '\\' && !escaped;
            ends
        });
        let text = &rest[..end.unwrap_or(rest.len())];
        let is_value = kept.ends_with("unknown variant `");
        let is_name = quote == '`' && text.len() <= 40 && text.chars().all(is_of_name);
        let is_name = is_name && begins_name(text) && !is_value;
        kept.push_str(if is_name { text } else { "..." });
        kept.push(quote);
        rest = end.map_or("", |end| &rest[end + 1..]);
    }
    kept + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_server_can_be_blamed_for_is_of_the_server() {
        let limit = Duration::from_secs(1);
        let failed = EngineError::Failed { reason: String::new() };
        for failure in [
            Failure::Bug,
            Failure::Timeout { limit },
            Failure::Unhealthy { model: String::new(), reason: String::new() },
            EngineError::Panicked { index: 0 }.into(),
            EngineError::NotFinite { index: 0 }.into(),
            failed.into(),
        ] {
            assert!(failure.is_of_server(), "{failure}");
        }
        for failure in [
            Failure::body(""),
            Failure::Unauthorized,
            Failure::Stopping,
            Failure::SlowBody { limit },
            Failure::Upstream { message: String::new() },
            EngineError::Empty.into(),
            EngineError::ShuttingDown.into(),
            EngineError::Overloaded { retry_after: limit }.into(),
        ] {
            assert!(!failure.is_of_server(), "{failure}");
        }
    }

    #[test]
    fn reasons_have_no_text_of_inputs() {
        for (message, reason) in [
            ("input 0: too long", "input 0: too long"),
            (r#"string "my \"secret\" text", expected"#, r#"string "...", expected"#),
            (
                "unknown key `texts`: did you mean `inputs`?",
                "unknown key `texts`: did you mean `inputs`?",
            ),
            ("unknown variant `my secret`", "unknown variant `...`"),
            ("unknown variant `secret`, expected `a`", "unknown variant `...`, expected `a`"),
            ("invalid type: integer `5551234`", "invalid type: integer `...`"),
            (r#"cut off: "my secret"#, r#"cut off: "...""#),
            (r#"one "a\\" and "b""#, r#"one "..." and "...""#),
        ] {
            assert_eq!(Failure::body(message).reason(), reason);
        }
        assert!(Failure::body("é".repeat(1000)).reason().len() <= REASON_MAX + 4);
        let long = Failure::body("word ".repeat(100)).reason();
        assert!(long.ends_with("word word ..."), "{long}");
        let source = InputError::UnknownToken { id: 99_999, vocabulary: 30_522 };
        let unknown = Failure::Engine(EngineError::Input { index: 1, source });
        assert!(unknown.to_string().contains("99999") && !unknown.reason().contains("99999"));
        let key = Failure::Unauthorized.reason();
        assert!(key.contains("Authorization: Bearer KEY"), "{key}");
        let unknown = UnknownModel { name: "other\n".into(), known: vec!["mine".into()] };
        let reason = Failure::UnknownModel(unknown).reason();
        assert_eq!(reason, r#"no model is served as "other\n"; served: mine"#);
    }
}
