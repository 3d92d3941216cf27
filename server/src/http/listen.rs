//! Connections: how many at a time, the time limits for a request's head and for reading a
//! response, and how connections end.
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
use super::connections::{ConnectionRecord, Connections, OpenBody, StopWatches};
use super::half_close::{Connection, WhileConnected};
use super::progress::{StreamExecutor, watched};

/// Connections at a time, if the system allows that many.
pub const CONNECTIONS_MAX: usize = 4096;
/// Timeout for the head of a request, and for an idle connection to send the next one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// Bytes that a client may send on one HTTP/2 stream before they are read.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// The same for all streams of a connection. h2 ends a connection on which too many small frames
/// wait; its budget for them is half of this, and each frame counts for 256 bytes less its own. A
/// short message of a gRPC stream is one frame, so this window is large and a stream's part of it
/// small.
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// Pause after an accept error that does not concern one connection only, such as a lack of file
/// descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// One HTTP/2 connection may have one in this many of all concurrent requests as streams: by
/// default more than the hundred that clients open before they know the server's limit.
const STREAMS_PART: usize = 4;
/// The minimum limit of streams on an HTTP/2 connection.
const STREAMS_MIN: u32 = 16;

/// Limits of connections.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at a time.
    pub connections_max: usize,
    /// Time for open connections to finish when the server stops.
    pub drain: Duration,
    /// Time after which a connection or stream ends if its client reads nothing.
    pub write_timeout: Duration,
    /// Concurrent streams of an HTTP/2 connection.
    pub streams_max: u32,
}

/// Concurrent streams of one HTTP/2 connection if `requests_max` requests are answered at a time.
pub fn streams_max(requests_max: usize) -> u32 {
    u32::try_from(requests_max / STREAMS_PART).unwrap_or(u32::MAX).max(STREAMS_MIN)
}

/// Serves connections until the server is told to stop, then lets open requests finish within the
/// drain time. Returns whether all did.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    mut told: StopWatches,
    limits: Limits,
) -> bool {
    let builder = builder(limits);
    let connections = Connections::new(limits.connections_max);
    let to_connections = told.clone();
    let accept = async {
        loop {
            let Some((stream, peer)) = accepted(&listener, &connections).await else { continue };
            let slot = connections.slot(peer.ip()).await;
            // Sends small responses at once; if this cannot be set, they are sent a little later.
            let _ = stream.set_nodelay(true);
            let stream = Connection::new(stream);
            let (router, record) = (router.clone(), slot.record().clone());
            let service = OfPeer { router, peer: Peer(peer.ip()), record };
            let service = WhileConnected::new(TowerToHyperService::new(service), &stream);
            let io = TokioIo::new(stream.clone());
            let connection = builder.serve_connection(io, service).into_owned();
            let life = slot.live(connection, stream, to_connections.clone());
            tokio::spawn(watched(limits.write_timeout, life));
        }
    };
    tokio::select! {
        biased;
        () = told.stopped() => {}
        () = accept => {}
    }
    // No new connections while the open ones finish.
    drop(listener);
    tokio::time::timeout(limits.drain, connections.emptied()).await.is_ok()
}

fn builder(limits: Limits) -> Builder<StreamExecutor> {
    let mut builder = Builder::new(StreamExecutor { write_timeout: limits.write_timeout });
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

/// The next connection; `None` if accepting it fails.
async fn accepted(
    listener: &TcpListener,
    connections: &Connections,
) -> Option<(TcpStream, SocketAddr)> {
    match listener.accept().await {
        Ok(accepted) => Some(accepted),
        Err(error) if is_connections_own(&error) => None,
        Err(error) => {
            tracing::debug!("a connection could not be accepted: {error}");
            // Others use file descriptors too, so they may run out below the limit of connections.
            connections.close_idle();
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// A router whose requests carry their peer and are counted.
#[derive(Clone)]
struct OfPeer {
    router: Router,
    peer: Peer,
    record: Arc<ConnectionRecord>,
}

impl Service<Request<Incoming>> for OfPeer {
    type Response = Response<OpenBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<Incoming>>::poll_ready(&mut self.router, context)
    }

    fn call(&mut self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.peer);
        // Now, not when the future is first polled: the connection may end in between.
        let open = self.record.open();
        let answer = self.router.call(request);
        Box::pin(async move {
            answer.await.map(|response| response.map(|body| OpenBody::new(body, open)))
        })
    }
}

/// Whether a failed accept concerns only one connection.
fn is_connections_own(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
