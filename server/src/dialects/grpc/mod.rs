//! gRPC: the API of text-embeddings-inference, Proxima's own, health and reflection.
//!
//! Must not know: how connections are opened or closed.

mod calls;
mod health;
mod intake;
mod proto;
mod proxima;
mod status;
mod tei;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use futures_util::StreamExt as _;
use tokio::sync::watch;
use tonic::service::Routes;
use tonic_health::pb::health_server::{self, HealthServer};

use crate::http::{App, Failure, answer, has_key, is_refused};
use calls::Calls;
use health::Health;
use intake::Messages;
use proto::proxima::proxima_server::{self, ProximaServer};
use proto::tei::embed_server::{self, EmbedServer};
use proto::tei::info_server::{self, InfoServer};
use proto::tei::predict_server::{self, PredictServer};
use proto::tei::rerank_server::{self, RerankServer};
use proto::tei::tokenize_server::{self, TokenizeServer};
use proxima::Proxima;
use tei::Tei;

/// Services that need no key: they reveal only whether and how the server works.
const PUBLIC: [&str; 2] = ["/grpc.health.", REFLECTION];
/// The path prefix of reflection.
const REFLECTION: &str = "/grpc.reflection.";

const MALFORMED_DEADLINE: &str =
    "grpc-timeout is not a number of up to eight digits with a unit (H, M, S, m, u or n)";

/// The services whose health can be queried by name.
const SERVICES: [&str; 7] = [
    info_server::SERVICE_NAME,
    embed_server::SERVICE_NAME,
    predict_server::SERVICE_NAME,
    rerank_server::SERVICE_NAME,
    tokenize_server::SERVICE_NAME,
    proxima_server::SERVICE_NAME,
    health_server::SERVICE_NAME,
];

/// All services; `stop` turns true when the server shuts down.
pub fn router(app: Arc<App>, stop: watch::Receiver<bool>) -> Router {
    let limit = app.config().body_bytes_max;
    let calls = Calls::new(app.clone(), stop.clone());
    let (tei, own) = (|| Tei(calls.clone()), Proxima(calls.clone()));
    let services = Routes::new(HealthServer::new(Health(calls.clone())))
        .add_service(InfoServer::new(tei()).max_decoding_message_size(limit))
        .add_service(EmbedServer::new(tei()).max_decoding_message_size(limit))
        .add_service(PredictServer::new(tei()).max_decoding_message_size(limit))
        .add_service(RerankServer::new(tei()).max_decoding_message_size(limit))
        .add_service(TokenizeServer::new(tei()).max_decoding_message_size(limit))
        .add_service(ProximaServer::new(own).max_decoding_message_size(limit));
    // Many clients still use the older version of reflection.
    services
        .add_service(reflection().build_v1().expect("the descriptors are valid"))
        .add_service(reflection().build_v1alpha().expect("the descriptors are valid"))
        .into_axum_router()
        // The library's reflection would wait for its clients to end their streams.
        .layer(middleware::from_fn_with_state(stop, end_reflection))
        // Gives messages a deadline and a budget, and identifies the client.
        .layer(middleware::from_fn_with_state(app.clone(), receive))
        // Ends calls that take too long.
        .layer(middleware::from_fn_with_state(app.clone(), timeout))
        // Stops calls without a valid key.
        .layer(middleware::from_fn_with_state(app, authorize))
        // A call holds its resources until its answer is written.
        .layer(middleware::from_fn(answer))
}

/// What reflection describes.
// Not inlined: rustc 1.95 and 1.96 merge two fresh builders in one function into one, and its
// memory is freed twice (rust-lang/rust#158830).
#[inline(never)]
fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// On shutdown, ends the request stream of reflection's clients, and with it the call.
async fn end_reflection(
    State(mut stop): State<watch::Receiver<bool>>,
    request: Request,
    next: Next,
) -> Response {
    if !request.uri().path().starts_with(REFLECTION) {
        return next.run(request).await;
    }
    let stopped = async move {
        // An error means that the sender was dropped, which ends the stream as well.
        let _ = stop.wait_for(|stopping| *stopping).await;
    };
    let body = |body: Body| Body::from_stream(body.into_data_stream().take_until(stopped));
    next.run(request.map(body)).await
}

/// Lets calls with a valid key through.
async fn authorize(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if is_refused(app.config(), &request) {
        app.metrics().refused(&Failure::Browser);
        return status::status(&Failure::Browser).into_http();
    }
    let public = PUBLIC.iter().any(|prefix| request.uri().path().starts_with(prefix));
    if public || has_key(&app.config().api_keys, request.headers()) {
        return next.run(request).await;
    }
    app.metrics().refused(&Failure::Unauthorized);
    status::status(&Failure::Unauthorized).into_http()
}

/// Bounds the messages of a call, and identifies its client.
async fn receive(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let client = app.clients().key(request.headers(), request.extensions());
    let (mut head, body) = request.into_parts();
    match Messages::new(body, app.intake().clone()) {
        Ok((messages, room)) => {
            head.extensions.insert(client);
            head.extensions.insert(room);
            next.run(Request::from_parts(head, Body::new(messages))).await
        }
        Err(failure) => {
            app.metrics().refused(&failure);
            status::status(&failure).into_http()
        }
    }
}

/// Ends a call that takes longer than the limit or its client's deadline, reading its message
/// included. Replies to a stream begin at once, and each of its messages has this time for itself.
async fn timeout(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let own = app.config().request_timeout;
    let limit = match request.headers().get("grpc-timeout") {
        None => own,
        Some(asked) => match asked.to_str().ok().and_then(deadline) {
            Some(asked) => asked.min(own),
            None => {
                let failure = Failure::Malformed { message: MALFORMED_DEADLINE.into() };
                app.metrics().refused(&failure);
                return status::status(&failure).into_http();
            }
        },
    };
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let failure = Failure::Timeout { limit };
            app.metrics().refused(&failure);
            status::status(&failure).into_http()
        }
    }
}

/// A client's deadline: one to eight digits and a unit (`Timeout` of gRPC over HTTP/2).
fn deadline(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
