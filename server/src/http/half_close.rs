//! Clients that close their sending side while they wait for a response. TCP does not tell whether
//! such a client still reads (a half-closed connection) or has disconnected, so its request goes
//! on. After a while, an HTTP/1 client is sent an interim response (RFC 9110, 15.2); an HTTP/2
//! client is sent a GOAWAY at once. The system of a client that has disconnected replies with a
//! reset, which ends its requests.
//!
//! Must not know: what is served.

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::http::{Request, Version};
use futures_util::FutureExt as _;
use hyper::service::Service;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// Time between two checks whether the client of a request is still connected.
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// The interim response: clients ignore it and wait for the final one.
const INTERIM: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// What every HTTP/2 client sends first, and no HTTP/1 client.
const PREFACE: &[u8] = b"PRI * ";
/// Time until a half-closed HTTP/2 client is first checked, which doubles each time.
const FIRST_CHECK: Duration = Duration::from_millis(50);

/// A socket, shared by its HTTP connection and the checks of its client.
#[derive(Debug, Clone)]
pub struct Connection {
    stream: Arc<TcpStream>,
    /// Whether bytes of a response may still wait for space in the socket's buffer.
    unflushed: Arc<AtomicBool>,
    /// Bytes read so far that match the preface; once all match, it is an HTTP/2 connection.
    preface: usize,
    http2: Arc<Http2>,
}

/// What is known about HTTP/2 on a connection.
#[derive(Debug, Default)]
struct Http2 {
    is: AtomicBool,
    /// Whether its client will send nothing more.
    ended: watch::Sender<bool>,
}

impl Connection {
    /// The connection on a socket.
    pub fn new(stream: TcpStream) -> Self {
        Self {
            stream: Arc::new(stream),
            unflushed: Arc::default(),
            preface: 0,
            http2: Arc::default(),
        }
    }

    /// Whether it began with the preface of HTTP/2.
    pub fn is_http2(&self) -> bool {
        self.http2.is.load(Ordering::Relaxed)
    }

    /// Compares the first bytes read with the preface.
    fn note_read(&mut self, bytes: &[u8]) {
        let Some(rest) = PREFACE.get(self.preface..).filter(|rest| !rest.is_empty()) else {
            return;
        };
        let length = rest.len().min(bytes.len());
        if rest[..length] != bytes[..length] {
            // It is not HTTP/2, and will not be.
            self.preface = usize::MAX;
            return;
        }
        self.preface += length;
        self.http2.is.store(self.preface == PREFACE.len(), Ordering::Relaxed);
    }

    /// Returns when the client of an HTTP/2 connection will send nothing more; otherwise never.
    pub async fn ended(&self) {
        // The sender lives as long as the connection.
        drop(self.http2.ended.subscribe().wait_for(|ended| *ended).await);
    }

    /// As [`ended`](Self::ended), and the client does not read either. Only writing to the client
    /// reveals that, so something must be written.
    pub async fn gone(&self) {
        self.ended().await;
        let mut pause = FIRST_CHECK;
        loop {
            tokio::time::sleep(pause).await;
            if self.is_write_closed() {
                return;
            }
            pause = (pause * 2).min(CHECK_EVERY);
        }
    }

    /// Whether writing is known to fail.
    fn is_write_closed(&self) -> bool {
        // The readiness known so far, without waiting.
        let known = self.stream.ready(Interest::READABLE | Interest::WRITABLE).now_or_never();
        let closed = known.and_then(Result::ok).is_some_and(|known| known.is_write_closed());
        closed || self.stream.take_error().map_or(true, |error| error.is_some())
    }

    /// Returns when the client has disconnected. It must be polled only while a request waits for
    /// its response and nothing of the response is written: it may write an interim response.
    async fn disconnected(&self, version: Version, every: Duration) {
        let mut asked = false;
        loop {
            tokio::time::sleep(every).await;
            // The readiness known so far, without waiting.
            let known = self.stream.ready(Interest::READABLE | Interest::WRITABLE).now_or_never();
            let Some(Ok(known)) = known else { continue };
            if self.is_write_closed() {
                return;
            }
            let ended = known.is_read_closed();
            if ended && !asked && version == Version::HTTP_11 {
                if self.unflushed.load(Ordering::Relaxed) {
                    continue;
                }
                match self.stream.try_write(INTERIM) {
                    Ok(written) if written == INTERIM.len() => asked = true,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    // A partial interim response would corrupt the response.
                    _ => return,
                }
            }
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(context))?;
            let unfilled = buffer.initialize_unfilled();
            match self.stream.try_read(unfilled) {
                // Reporting the end of the input would end all streams. Writing goes on until
                // the task that runs the connection, notified here, ends it.
                Ok(0) if self.is_http2() && !unfilled.is_empty() => {
                    self.http2.ended.send_replace(true);
                    return Poll::Pending;
                }
                Ok(read) => {
                    self.note_read(&unfilled[..read]);
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.unflushed.store(true, Ordering::Relaxed);
        loop {
            ready!(self.stream.poll_write_ready(context))?;
            match self.stream.try_write_vectored(slices) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return Poll::Ready(other),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.unflushed.store(false, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.stream).shutdown(Shutdown::Write))
    }
}

/// A service that cancels requests when their client disconnects.
#[derive(Debug, Clone)]
pub struct WhileConnected<S> {
    service: S,
    connection: Connection,
    every: Duration,
}

impl<S> WhileConnected<S> {
    /// Serves the requests of a connection with `service`.
    pub fn new(service: S, connection: &Connection) -> Self {
        Self { service, connection: connection.clone(), every: CHECK_EVERY }
    }
}

impl<B, S> Service<Request<B>> for WhileConnected<S>
where
    S: Service<Request<B>, Error = std::convert::Infallible>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<S::Response>> + Send>>;

    fn call(&self, request: Request<B>) -> Self::Future {
        let (version, every) = (request.version(), self.every);
        let connection = self.connection.clone();
        let answer = self.service.call(request);
        Box::pin(async move {
            // An HTTP/2 connection ends as a whole: see `Connection::gone`.
            if version > Version::HTTP_11 {
                return answer.await.map_err(|never| match never {});
            }
            tokio::select! {
                biased;
                answer = answer => answer.map_err(|never| match never {}),
                () = connection.disconnected(version, every) => {
                    Err(io::ErrorKind::ConnectionReset.into())
                }
            }
        })
    }
}

#[cfg(test)]
mod tests;
