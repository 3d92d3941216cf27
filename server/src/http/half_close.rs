//! Clients of HTTP/1 that close their sending side while they wait for an answer. TCP does not
//! tell whether such a client still reads (a half-closed connection) or has disconnected, so its
//! request goes on. If that takes long, the client is sent an interim response (RFC 9110, 15.2):
//! the machine of a client that has disconnected replies with a reset, and the request ends.
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

/// Time between two checks whether the client of a request is still connected.
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// The interim response: clients ignore it and wait for the final one.
const INTERIM: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A socket, shared by the HTTP connection on it and the checks of its client.
#[derive(Debug, Clone)]
pub struct Connection {
    stream: Arc<TcpStream>,
    /// Whether bytes of a response wait for room in the socket's buffer.
    unflushed: Arc<AtomicBool>,
}

impl Connection {
    /// That of a socket.
    pub fn new(stream: TcpStream) -> Self {
        Self { stream: Arc::new(stream), unflushed: Arc::default() }
    }

    /// Returns when the client has disconnected. To be polled only while a request waits for its
    /// response, of which nothing is written yet: it may write an interim response.
    async fn disconnected(&self, version: Version, every: Duration) {
        let mut asked = false;
        loop {
            tokio::time::sleep(every).await;
            // The readiness known by now, without waiting.
            let known = self.stream.ready(Interest::READABLE | Interest::WRITABLE).now_or_never();
            let Some(Ok(known)) = known else { continue };
            let failed = self.stream.take_error().map_or(true, |error| error.is_some());
            if failed || known.is_write_closed() {
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
                    // A part of it would corrupt the response.
                    _ => return,
                }
            }
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(context))?;
            match self.stream.try_read(buffer.initialize_unfilled()) {
                Ok(read) => {
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

/// A service whose requests end when their client disconnects.
#[derive(Debug, Clone)]
pub struct WhileConnected<S> {
    service: S,
    connection: Connection,
    every: Duration,
}

impl<S> WhileConnected<S> {
    /// Requests of a connection, served by `service`.
    pub fn new(service: S, connection: &Connection) -> Self {
        Self { service, connection: connection.clone(), every: CHECK_EVERY }
    }
}

/// The future of a response.
type Answer<R> = Pin<Box<dyn Future<Output = io::Result<R>> + Send>>;

impl<B, S> Service<Request<B>> for WhileConnected<S>
where
    S: Service<Request<B>, Error = std::convert::Infallible>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = io::Error;
    type Future = Answer<S::Response>;

    fn call(&self, request: Request<B>) -> Self::Future {
        let (version, every) = (request.version(), self.every);
        let connection = self.connection.clone();
        let answer = self.service.call(request);
        Box::pin(async move {
            // A connection in HTTP/2 ends as a whole.
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
