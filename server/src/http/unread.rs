//! Bodies that nobody has read to their end when their answer is made: the connection is closed
//! behind it.
//!
//! A client that is still sending when its connection is closed may lose the answer: its system
//! throws it away when it hears that its bytes are not wanted (RFC 9112, 9.6). So a little of what
//! comes is read on, for a short while.
//! Must not know: what is in a body.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderValue, Version, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use http_body_util::BodyExt as _;
use hyper::body::{Frame, SizeHint};

/// Bytes that are read of a body that nobody wants.
const BYTES_MAX: usize = 1024 * 1024;
/// Time in which they must come.
const TIME_MAX: Duration = Duration::from_secs(2);

/// A router that closes connections behind answers to requests whose bodies it has not read.
pub fn closed(router: Router) -> Router {
    router.layer(middleware::from_fn(close))
}

async fn close(request: Request, next: Next) -> Response {
    let version = request.version();
    let (request, unread) = watched(request);
    let mut response = next.run(request).await;
    if version == Version::HTTP_11 && unread.is_some() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Whether a body was read to its end.
#[derive(Debug, Clone)]
struct Unread(Arc<AtomicBool>);

impl Unread {
    /// Whether there may be more of it.
    fn is_some(&self) -> bool {
        !self.0.load(Ordering::Relaxed)
    }
}

/// The same request, and what tells whether its body was read.
fn watched(request: Request) -> (Request, Unread) {
    let unread = Unread(Arc::new(AtomicBool::new(request.body().is_end_stream())));
    if !unread.is_some() {
        return (request, unread);
    }
    // A client that waits for leave to send is given none, and HTTP/2 has other ways.
    let waits = request.headers().contains_key(header::EXPECT);
    let drains = request.version() < Version::HTTP_2 && !waits;
    let watch = unread.clone();
    (request.map(|inner| Body::new(Watched { inner, unread: watch, drains })), unread)
}

struct Watched {
    inner: Body,
    unread: Unread,
    /// Whether the rest of it is read when nobody wants it.
    drains: bool,
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.drains && self.unread.is_some() {
            let rest = std::mem::replace(&mut self.inner, Body::empty());
            // Outside of a runtime there is no connection either.
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(tokio::time::timeout(TIME_MAX, drain(rest)));
            }
        }
    }
}

/// Reads some of a body.
async fn drain(mut body: Body) {
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        bytes += frame.data_ref().map_or(0, Bytes::len);
        if bytes > BYTES_MAX {
            break;
        }
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        // What broke off is as much at its end.
        if !matches!(frame, Some(Ok(_))) || self.inner.is_end_stream() {
            self.unread.0.store(true, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
