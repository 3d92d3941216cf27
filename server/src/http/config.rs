//! Limits and secrets of the HTTP server.
//!
//! Must not know: how they are enforced.

use std::time::Duration;

use clap::ValueEnum;
use serde::Deserialize;

use super::client::AddressRange;
use super::origins::BrowserSettings;
use crate::media::MediaSettings;

/// Which requests are logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogRequests {
    /// None
    Off,
    /// Those that fail or are aborted
    Errors,
    /// All, but health checks and metrics only if they fail
    #[default]
    All,
}

/// How the server treats token ids.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TokenIds {
    /// Accepts them where the API defines them as ids of the served model; elsewhere only those
    /// that include the special tokens of its tokenizer.
    #[default]
    Checked,
    /// Accepts them everywhere.
    Allow,
    /// Refuses them everywhere.
    Refuse,
}

/// Limits and secrets of the server.
#[derive(Clone)]
pub struct HttpConfig {
    /// API keys, one of which a request must carry; if there are none, no key is required.
    pub api_keys: Vec<String>,
    /// Maximum bytes of a request's body.
    pub body_bytes_max: usize,
    /// Maximum bytes of the bodies of all requests that are being received.
    pub bodies_bytes_max: usize,
    /// Time within which a body must end or bring bytes at the minimum rate; see
    /// [`Intake`](super::Intake).
    pub body_timeout: Duration,
    /// Maximum bytes of all responses that are being produced or are not written yet.
    pub answer_bytes_max: usize,
    /// Time after which a connection or stream ends if its client reads nothing.
    pub write_timeout: Duration,
    /// Proxies whose `x-forwarded-for` is trusted.
    pub trusted_proxies: Vec<AddressRange>,
    /// Concurrent requests; more are refused.
    pub requests_max: usize,
    /// Time for a request, from its head until its response is written.
    pub request_timeout: Duration,
    /// Time for which the server keeps answering after it is told to stop, reporting not ready,
    /// before it accepts nothing new.
    pub shutdown_delay: Duration,
    /// Time for accepted requests to finish when the server stops.
    pub drain_timeout: Duration,
    /// Time for a health check's forward pass, including the running batch.
    pub health_timeout: Duration,
    /// Whether inputs that are too long are truncated unless a request says otherwise.
    pub auto_truncate: bool,
    /// Which web pages may call the server from a browser.
    pub browsers: BrowserSettings,
    /// Whether token ids are accepted in place of texts.
    pub token_ids: TokenIds,
    /// Which requests are logged.
    pub log_requests: LogRequests,
    /// Where images and videos of requests may come from.
    pub media: MediaSettings,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            api_keys: Vec::new(),
            body_bytes_max: 32 * 1024 * 1024,
            bodies_bytes_max: 256 * 1024 * 1024,
            body_timeout: Duration::from_secs(20),
            answer_bytes_max: 256 * 1024 * 1024,
            write_timeout: Duration::from_secs(30),
            trusted_proxies: Vec::new(),
            requests_max: 512,
            request_timeout: Duration::from_secs(600),
            shutdown_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(60),
            health_timeout: Duration::from_secs(10),
            auto_truncate: true,
            browsers: BrowserSettings::default(),
            token_ids: TokenIds::default(),
            log_requests: LogRequests::default(),
            media: MediaSettings::default(),
        }
    }
}

impl std::fmt::Debug for HttpConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpConfig")
            .field("api_keys", &format_args!("{} (hidden)", self.api_keys.len()))
            .field("body_bytes_max", &self.body_bytes_max)
            .field("bodies_bytes_max", &self.bodies_bytes_max)
            .field("body_timeout", &self.body_timeout)
            .field("answer_bytes_max", &self.answer_bytes_max)
            .field("write_timeout", &self.write_timeout)
            .field("trusted_proxies", &self.trusted_proxies)
            .field("requests_max", &self.requests_max)
            .field("request_timeout", &self.request_timeout)
            .field("shutdown_delay", &self.shutdown_delay)
            .field("drain_timeout", &self.drain_timeout)
            .field("health_timeout", &self.health_timeout)
            .field("auto_truncate", &self.auto_truncate)
            .field("browsers", &self.browsers)
            .field("token_ids", &self.token_ids)
            .field("log_requests", &self.log_requests)
            .field("media", &self.media)
            .finish()
    }
}
