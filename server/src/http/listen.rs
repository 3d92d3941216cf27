//! Connections: how many at a time, how long one may take over a request's head and over reading
//! its answer, how they end.
//!
//! Must not know: what is served on them.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tower::Service;

use super::client::Peer;
use super::half_close::{Connection, WhileConnected};
use super::progress::{Streams, watched};

/// Connections at a time; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 4096;
/// Time for the head of a request, and for an idle connection to send the next one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// Bytes that a client may send on one HTTP/2 stream before they are read.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// The same on all streams of a connection. h2 ends a connection on which too many small frames
/// wait, for which it has half of this: each frame counts for 256 bytes less its own, and a short
/// message of a gRPC stream is a frame. So this is large and a stream's part of it small.
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// Wait after a failure to accept that is not one connection's own: no file descriptors left, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The part of all requests at a time that one HTTP/2 connection may have as streams: by default
/// more than the hundred that clients open before they know the server's limit.
const STREAMS_PART: usize = 4;
/// Streams that an HTTP/2 connection may always have.
const STREAMS_MIN: u32 = 16;

/// Bounds of connections.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Time that open connections have to finish.
    pub drain: Duration,
    /// Time after which a connection or stream ends on which nothing is read.
    pub write_timeout: Duration,
    /// Streams of an HTTP/2 connection at a time.
    pub streams_max: u32,
}

/// Streams that one HTTP/2 connection may have where so many requests are answered at a time.
pub fn streams_max(requests_max: usize) -> u32 {
    u32::try_from(requests_max / STREAMS_PART).unwrap_or(u32::MAX).max(STREAMS_MIN)
}

/// Serves connections until `stop` resolves; then lets the open ones finish within the drain time.
/// Gives whether all did.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()>,
    limits: Limits,
) -> bool {
    let mut builder = Builder::new(Streams { write_timeout: limits.write_timeout });
    let http1 = &mut builder.http1();
    http1.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).half_close(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(HEAD_TIMEOUT)
        .max_concurrent_streams(limits.streams_max)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    let (graceful, permits) = (GracefulShutdown::new(), Arc::new(Semaphore::new(CONNECTIONS_MAX)));
    let mut stop = std::pin::pin!(stop);
    loop {
        let next = async {
            let permit = permits.clone().acquire_owned().await;
            (permit.expect("the semaphore is never closed"), listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            next = next => next,
            () = &mut stop => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_connections_own(&error) => continue,
            Err(error) => {
                tracing::warn!("a connection could not be accepted: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Small answers leave at once; where that cannot be set, they leave a little later.
        let _ = stream.set_nodelay(true);
        let stream = Connection::new(stream);
        let service = OfPeer { router: router.clone(), peer: Peer(peer.ip()) };
        let service = TowerToHyperService::new(service);
        let service = WhileConnected::new(service, &stream);
        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            let connection = async {
                if let Err(error) = connection.await {
                    tracing::debug!("a connection broke off: {error}");
                }
            };
            watched(limits.write_timeout, connection).await;
            drop(permit);
        });
    }
    // Nobody new gets in while those inside finish.
    drop(listener);
    tokio::time::timeout(limits.drain, graceful.shutdown()).await.is_ok()
}

/// A router whose requests say who sent them.
#[derive(Clone)]
struct OfPeer {
    router: Router,
    peer: Peer,
}

impl Service<Request<Incoming>> for OfPeer {
    type Response = Response;
    type Error = Infallible;
    type Future = <Router as Service<Request<Incoming>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<Incoming>>::poll_ready(&mut self.router, context)
    }

    fn call(&mut self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.peer);
        self.router.call(request)
    }
}

/// Whether a failed accept concerns the one connection only.
fn is_connections_own(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
