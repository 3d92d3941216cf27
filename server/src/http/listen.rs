//! Connections: how many at a time, how long one may take over a request's head and over reading
//! its answer, how they end.
//!
//! Must not know: what is served on them.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tower::Service;

use super::client::Peer;
use super::connections::{Answer, Connections, Record, Told};
use super::half_close::{Connection, WhileConnected};
use super::progress::{Streams, watched};

/// Connections at a time, where the system allows as many.
pub const CONNECTIONS_MAX: usize = 4096;
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
    /// Connections at a time.
    pub connections_max: usize,
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

/// Serves connections until the server is told to stop; then lets open requests finish within the
/// drain time. Gives whether all did.
pub async fn serve(listener: TcpListener, router: Router, mut told: Told, limits: Limits) -> bool {
    let builder = builder(limits);
    let connections = Connections::new(limits.connections_max);
    let to_connections = told.clone();
    let accept = async {
        loop {
            let Some((stream, peer)) = accepted(&listener, &connections).await else { continue };
            let place = connections.place(peer.ip()).await;
            // Small answers leave at once; where that cannot be set, they leave a little later.
            let _ = stream.set_nodelay(true);
            let stream = Connection::new(stream);
            let (router, record) = (router.clone(), place.record().clone());
            let service = OfPeer { router, peer: Peer(peer.ip()), record };
            let service = WhileConnected::new(TowerToHyperService::new(service), &stream);
            let io = TokioIo::new(stream.clone());
            let connection = builder.serve_connection(io, service).into_owned();
            let life = place.live(connection, stream, to_connections.clone());
            tokio::spawn(watched(limits.write_timeout, life));
        }
    };
    tokio::select! {
        biased;
        () = told.stopped() => {}
        () = accept => {}
    }
    // Nobody new gets in while those inside finish.
    drop(listener);
    tokio::time::timeout(limits.drain, connections.emptied()).await.is_ok()
}

fn builder(limits: Limits) -> Builder<Streams> {
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
    builder
}

/// The next connection, unless accepting one fails.
async fn accepted(
    listener: &TcpListener,
    connections: &Connections,
) -> Option<(TcpStream, SocketAddr)> {
    match listener.accept().await {
        Ok(accepted) => Some(accepted),
        Err(error) if is_connections_own(&error) => None,
        Err(error) => {
            tracing::debug!("a connection could not be accepted: {error}");
            // Others use descriptors as well, so there may be too few for fewer connections.
            connections.close_idle();
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// A router whose requests say who sent them, and are counted.
#[derive(Clone)]
struct OfPeer {
    router: Router,
    peer: Peer,
    record: Arc<Record>,
}

impl Service<Request<Incoming>> for OfPeer {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<Incoming>>::poll_ready(&mut self.router, context)
    }

    fn call(&mut self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.peer);
        // Now, not when the future is first polled: the end of a connection may come in between.
        let open = self.record.open();
        let answer = self.router.call(request);
        Box::pin(async move { answer.await.map(|it| it.map(|body| Answer::new(body, open))) })
    }
}

/// Whether a failed accept concerns the one connection only.
fn is_connections_own(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
