//! The HTTP server around the dialects: the layers that every request passes, health, metrics,
//! documents, shutdown.
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
mod keys;
mod layers;
mod life;
mod limits;
mod listen;
mod origins;
mod outgoing;
mod path;
mod probes;
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
pub use body::{COMPUTE_TYPE, JsonBody, RawBody, json_response, timing_values, with_timings};
pub use browsers::is_refused;
pub use budget::{Bodies, BodyReservation};
pub use choose::{Chosen, Want};
pub use client::{AddressRange, Peer};
pub use config::{HttpConfig, LogRequests, TokenIds};
pub use descriptors::check as check_open_files;
pub use intake::{Intake, Pace, busy};
pub use json::parse_body;
pub use keys::has_key;
pub use layers::answer;
pub use limits::WhenFull;
pub use origins::{BrowserSettings, Origins};
pub use path::PathText;
pub use public::needs_no_key;
pub use routes::{Listed, Routes};
pub use scope::Scope;
pub use service::{DocumentText, ServiceApi, routes as service_routes};
pub use unshaped::{Unshaped, unshaped};

/// The listening sockets.
#[derive(Debug)]
pub struct Listeners {
    /// For HTTP.
    pub http: TcpListener,
    /// For gRPC, if it is served.
    pub grpc: Option<TcpListener>,
}

/// Adds to these routes the layers that every request passes; the layer added last sees a request
/// first.
pub fn layered(routes: Routes, app: Arc<App>, owners: Owners) -> Router {
    let Owners { shape, name } = owners;
    let served = routes
        .router()
        .fallback(layers::unknown_path)
        .method_not_allowed_fallback(layers::wrong_method)
        // A panic in one handler fails that request, not the connection.
        .layer(middleware::from_fn(layers::catch_panic))
        // Handlers that compute read the body, then take one of a limited number of permits.
        .layer(middleware::from_fn_with_state(app.clone(), layers::scoped))
        // Bounds a slow body or a long wait in the queue.
        .layer(middleware::from_fn_with_state(app.clone(), layers::timeout))
        // From here inwards, bodies are decoded, and all limits count decoded bytes.
        .layer(middleware::from_fn_with_state(app.clone(), decode::decode))
        // While no model is ready, only health checks are answered.
        .layer(middleware::from_fn_with_state(app.clone(), life::until_ready))
        // Requests without a key get no further.
        .layer(middleware::from_fn_with_state(app.clone(), auth::authorize))
        // Tells clients to close, so that they reconnect to another server before this one stops.
        .layer(middleware::from_fn_with_state(app.clone(), life::close_when_leaving))
        .layer(middleware::map_response(move |response| std::future::ready(shape(response))))
        // What a request holds, it holds until its response is written.
        .layer(middleware::from_fn(layers::answer))
        // The log line names the route, whichever layer refuses the request.
        .layer(middleware::from_fn(move |request, next| layers::note(name, request, next)))
        .with_state(app.clone());
    // Before routing: the path is normalized, and it is checked whether a browser may call.
    let guarded = browsers::guarded(Router::new().fallback_service(served), &app);
    guarded
        .layer(middleware::from_fn(path::normalize))
        .layer(middleware::map_response(move |response| std::future::ready(shape(response))))
}

/// How paths map to the dialects that own them.
#[derive(Debug, Clone, Copy)]
pub struct Owners {
    /// Gives a failure the shape of the dialect that owns its path.
    pub shape: fn(Response) -> Response,
    /// The name of the dialect that owns a route.
    pub name: fn(&str) -> &'static str,
}

/// What is served, and how its failures are shaped.
pub struct Routers {
    /// Over HTTP, with all [layers](layered).
    pub http: Router,
    /// Makes the router for gRPC, which is notified when the server stops.
    pub grpc: fn(Arc<App>, watch::Receiver<bool>) -> Router,
    /// Gives a failure the shape of the dialect that owns its path.
    pub shape: fn(Response) -> Response,
}

/// Serves until `shutdown` resolves, then lets accepted requests finish within the drain time.
pub async fn serve(
    listeners: Listeners,
    app: Arc<App>,
    routers: Routers,
    shutdown: impl Future<Output = ()>,
) {
    let Routers { http, grpc, shape } = routers;
    let config = app.config();
    let drain = config.drain_timeout;
    let limits = listen::Limits {
        connections_max: descriptors::connections_max(1 + usize::from(listeners.grpc.is_some())),
        drain,
        write_timeout: config.write_timeout,
        streams_max: listen::streams_max(config.requests_max),
    };
    let (tell, stopping) = watch::channel(false);
    let told = || connections::StopWatches { leaving: app.leaving(), stopping: stopping.clone() };
    let http = unread::closed(host::required(http));
    let http =
        http.layer(middleware::map_response(move |response| std::future::ready(shape(response))));
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
