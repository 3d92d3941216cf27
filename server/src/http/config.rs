//! Limits and secrets of the HTTP server.
//!
//! Must not know: how they are kept.

use std::time::Duration;

use clap::ValueEnum;
use serde::Deserialize;

use super::browsers::BrowserSettings;
use super::client::Network;
use crate::media::MediaSettings;

/// Which requests are logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogRequests {
    /// None
    Off,
    /// Those that fail or are given up
    Errors,
    /// Each, health checks and metrics only if they fail
    #[default]
    All,
}

/// What the server does with token ids.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TokenIds {
    /// Takes them where the API defines them as ids of the served model; elsewhere only those that
    /// carry the special tokens of its tokenizer.
    #[default]
    Checked,
    /// Takes them everywhere.
    Allow,
    /// Refuses them everywhere.
    Refuse,
}

/// Limits and secrets of the server.
#[derive(Clone)]
pub struct HttpConfig {
    /// Keys of which a request must carry one; none asked for if empty.
    pub api_keys: Vec<String>,
    /// Bytes of a request's body.
    pub body_bytes_max: usize,
    /// Bytes of the bodies of all requests that are being received.
    pub bodies_bytes_max: usize,
    /// Time in which a body must end or bring a least rate; see [`Intake`].
    pub body_timeout: Duration,
    /// Bytes of all answers that are being made or are not written yet.
    pub answer_bytes_max: usize,
    /// Time after which a connection or stream ends on which nothing is read.
    pub write_timeout: Duration,
    /// Proxies whose `x-forwarded-for` is believed.
    pub trusted_proxies: Vec<Network>,
    /// Requests at a time; more are refused.
    pub requests_max: usize,
    /// Time a request may take, from its head until its answer is written.
    pub request_timeout: Duration,
    /// Time that the server goes on answering when it is told to stop, with readiness red, before
    /// it takes nothing new.
    pub shutdown_delay: Duration,
    /// Time that accepted requests have to finish when the server stops.
    pub drain_timeout: Duration,
    /// Time a forward pass for a health check may take, the running batch included.
    pub health_timeout: Duration,
    /// Whether too long inputs are cut unless a request says otherwise.
    pub auto_truncate: bool,
    /// Which pages may call the server from a browser.
    pub browsers: BrowserSettings,
    /// Whether token ids are taken in place of texts.
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
