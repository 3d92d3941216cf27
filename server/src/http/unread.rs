//! Closes the connection after the response to a request whose body was not read to its end.
//!
//! A client that is still sending when its connection is closed may lose the response: its system
//! discards it on the reset that follows (RFC 9112, 9.6). So a little more of the body is read, for
//! a short time.
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

/// Maximum bytes read of a body that is not needed.
const BYTES_MAX: usize = 1024 * 1024;
/// Maximum time to read an unneeded body.
const TIME_MAX: Duration = Duration::from_secs(2);

/// A router that closes the connection after the response to a request with an unread body.
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

/// The same request, and a record of whether its body was read.
fn watched(request: Request) -> (Request, Unread) {
    let unread = Unread(Arc::new(AtomicBool::new(request.body().is_end_stream())));
    if !unread.is_some() {
        return (request, unread);
    }
    // A client that waits for `100 Continue` gets none, and HTTP/2 has other means.
    let waits = request.headers().contains_key(header::EXPECT);
    let drains = request.version() < Version::HTTP_2 && !waits;
    let watch = unread.clone();
    (request.map(|inner| Body::new(Watched { inner, unread: watch, drains })), unread)
}

struct Watched {
    inner: Body,
    unread: Unread,
    /// Whether the rest of it is read if nobody needs it.
    drains: bool,
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.drains && self.unread.is_some() {
            let rest = std::mem::replace(&mut self.inner, Body::empty());
            // Without a runtime there is no connection either.
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(tokio::time::timeout(TIME_MAX, drain(rest)));
            }
        }
    }
}

/// Reads and discards the rest of a body, up to about `BYTES_MAX`.
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
        // A body that broke off has also ended.
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
