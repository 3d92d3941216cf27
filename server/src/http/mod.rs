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
mod config;
mod connections;
mod decode;
mod decode_error;
mod descriptors;
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
mod public;
mod routes;
mod scope;
mod service;
mod streams;
mod surrogates;
mod unread;
mod unshaped;
mod written;

use std::future::Future;
use std::sync::Arc;

use axum::response::Response;
use axum::{Router, middleware};
use tokio::net::TcpListener;
use tokio::sync::watch;

pub use crate::failure::{Failure, with_retry_after};
pub use access::{Protocol, logged};
pub use app::App;
pub use auth::has_key;
pub use body::{COMPUTE_TYPE, JsonBody, RawBody, json_response, timing_values, with_timings};
pub use browsers::{BrowserSettings, Origins, is_refused};
pub use budget::{Bodies, BodyRoom};
pub use choose::{Chosen, Want};
pub use client::{Network, Peer};
pub use config::{HttpConfig, LogRequests, TokenIds};
pub use descriptors::check as check_open_files;
pub use intake::{Intake, Pace, busy};
pub use json::parse_body;
pub use layers::answer;
pub use limits::WhenFull;
pub use path::PathText;
pub use public::needs_no_key;
pub use routes::{Listed, Routes};
pub use scope::Scope;
pub use service::{DocumentText, ServiceApi, routes as service_routes};
pub use unshaped::{Unshaped, unshaped};

/// Where clients connect.
#[derive(Debug)]
pub struct Listeners {
    /// For HTTP.
    pub http: TcpListener,
    /// For gRPC, if it is served.
    pub grpc: Option<TcpListener>,
}

/// What every request passes on its way to these routes, layer by layer; the last added sees a
/// request first.
pub fn layered(routes: Routes, app: Arc<App>, owners: Owners) -> Router {
    let Owners { shape, name } = owners;
    let served = routes
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
        .layer(middleware::map_response(move |response| std::future::ready(shape(response))))
        // What a request holds it holds until its answer is written.
        .layer(middleware::from_fn(layers::answer))
        // Its line in the log names its route, whatever refuses it.
        .layer(middleware::from_fn(move |request, next| layers::note(name, request, next)))
        .with_state(app.clone());
    // What comes before routing: which path it is, and whether a browser may ask.
    let guarded = browsers::guarded(Router::new().fallback_service(served), &app);
    guarded
        .layer(middleware::from_fn(path::normalize))
        .layer(middleware::map_response(move |response| std::future::ready(shape(response))))
}

/// What is known of the dialects that own paths.
#[derive(Debug, Clone, Copy)]
pub struct Owners {
    /// Gives a failure the shape of the dialect that owns its path.
    pub shape: fn(Response) -> Response,
    /// The name of the dialect that owns a route.
    pub name: fn(&str) -> &'static str,
}

/// What is served, and how its failures are shaped.
pub struct Served {
    /// Over HTTP, with all [layers](layered).
    pub http: Router,
    /// Over gRPC; it is told when the server ends.
    pub grpc: fn(Arc<App>, watch::Receiver<bool>) -> Router,
    /// Who shapes failures.
    pub owners: Owners,
}

/// Serves until `shutdown` resolves, then answers what was accepted within the drain time.
pub async fn serve(
    listeners: Listeners,
    app: Arc<App>,
    served: Served,
    shutdown: impl Future<Output = ()>,
) {
    let Served { http, grpc, owners: Owners { shape, .. } } = served;
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
    let http = unread::closed(host::required(http));
    let http = http.layer(middleware::map_response(move |it| std::future::ready(shape(it))));
    let http = logged(http, app.clone(), Protocol::Http);
    let http = listen::serve(listeners.http, http, told(), limits);
    let grpc = async {
        let Some(listener) = listeners.grpc else { return true };
        let router = grpc(app.clone(), stopping.clone());
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
mod tests;
