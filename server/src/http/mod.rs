//! The HTTP server around the dialects: what every request passes, health, metrics, documents,
//! shutdown.
//!
//! Must not know: any dialect's bodies.

mod access;
mod answer_size;
mod app;
mod auth;
mod body;
mod browsers;
mod budget;
mod choose;
mod client;
mod connections;
mod decode;
mod descriptors;
mod failure;
mod half_close;
mod host;
mod intake;
mod json;
mod layers;
mod life;
mod limits;
mod listen;
mod outgoing;
mod path;
mod progress;
mod routes;
mod scope;
mod service;
mod streams;
mod surrogates;
mod unread;
mod written;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::{Router, middleware};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::config::LogRequests;
use crate::dialects::{self, TokenIds};
use crate::media::MediaSettings;

pub use access::{Protocol, logged, note_dialect, note_failure, note_timings};
pub use app::App;
pub use auth::has_key;
pub use body::{COMPUTE_TYPE, JsonBody, RawBody, json_response, timing_values, with_timings};
pub use browsers::{BrowserSettings, Origins, is_refused};
pub use budget::{Bodies, BodyRoom};
pub use choose::{Chosen, Want};
pub use client::{Network, Peer};
pub use descriptors::check as check_open_files;
pub use failure::{Failure, with_retry_after};
pub use intake::{Intake, Pace, busy};
pub use json::parse_body;
pub use layers::{answer, needs_no_key};
pub use limits::WhenFull;
pub use path::PathText;
pub use routes::{Listed, Routes};
pub use scope::Scope;
pub use service::ServiceApi;

/// Where clients connect.
#[derive(Debug)]
pub struct Listeners {
    /// For HTTP.
    pub http: TcpListener,
    /// For gRPC, if it is served.
    pub grpc: Option<TcpListener>,
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

/// Every route served over HTTP.
pub fn routes() -> Routes {
    let dialects = dialects::all().into_iter().map(|dialect| (dialect.routes)());
    dialects.fold(dialects::shared::routes(), Routes::merge).merge(service::routes())
}

/// Everything served, layer by layer; the last added sees a request first.
pub fn router(app: Arc<App>) -> Router {
    let served = routes()
        .router()
        .fallback(layers::unknown_path)
        .method_not_allowed_fallback(layers::wrong_method)
        // A bug in one handler is that request's error, not the connection's end.
        .layer(middleware::from_fn(layers::catch_panic))
        // Handlers that compute read the body, then take one of so many permits.
        .layer(middleware::from_fn_with_state(app.clone(), layers::scoped))
        // A slow body or a long queue ends somewhere.
        .layer(middleware::from_fn_with_state(app.clone(), layers::timeout))
        // From here on a body is what was encoded, and all limits count that.
        .layer(middleware::from_fn_with_state(app.clone(), decode::decode))
        // While no model is ready there is nothing but health.
        .layer(middleware::from_fn_with_state(app.clone(), life::until_ready))
        // Nobody without a key gets any further.
        .layer(middleware::from_fn_with_state(app.clone(), auth::authorize))
        // Who is told so connects to another server before this one stops.
        .layer(middleware::from_fn_with_state(app.clone(), life::close_when_leaving))
        // What a request holds it holds until its answer is written.
        .layer(middleware::from_fn(layers::answer))
        .with_state(app.clone());
    // What comes before routing: which path it is, and whether a browser may ask.
    let guarded = browsers::guarded(Router::new().fallback_service(served), &app);
    guarded.layer(middleware::from_fn(path::normalize))
}

/// Serves until `shutdown` resolves, then answers what was accepted within the drain time.
pub async fn serve(listeners: Listeners, app: Arc<App>, shutdown: impl Future<Output = ()>) {
    let config = app.config();
    let drain = config.drain_timeout;
    let limits = listen::Limits {
        connections_max: descriptors::connections_max(1 + usize::from(listeners.grpc.is_some())),
        drain,
        write_timeout: config.write_timeout,
        streams_max: listen::streams_max(config.requests_max),
    };
    let (tell, stopping) = watch::channel(false);
    let told = || connections::Told { leaving: app.leaving(), stopping: stopping.clone() };
    let http = unread::closed(host::required(router(app.clone())));
    let http = logged(http, app.clone(), Protocol::Http);
    let http = listen::serve(listeners.http, http, told(), limits);
    let grpc = async {
        let Some(listener) = listeners.grpc else { return true };
        let router = dialects::grpc(app.clone(), stopping.clone());
        let router = logged(router, app.clone(), Protocol::Grpc);
        listen::serve(listener, router, told(), limits).await
    };
    let end = async {
        shutdown.await;
        app.leave();
        tell.send_replace(true);
    };
    let (http, grpc, ()) = tokio::join!(http, grpc, end);
    if !(http && grpc) {
        tracing::warn!("requests were cut off after the drain time of {drain:?}");
    }
    let ended = async {
        for (_, engine) in app.registry().iter() {
            engine.shutdown().await;
        }
    };
    if tokio::time::timeout(drain, ended).await.is_err() {
        tracing::warn!("a batch was cut off after the drain time of {drain:?}");
    }
}

#[cfg(test)]
mod flow_tests;
#[cfg(test)]
pub use access::captured;
#[cfg(test)]
pub mod served;
#[cfg(test)]
mod tests;
