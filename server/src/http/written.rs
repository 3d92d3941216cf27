//! Sends responses: in small chunks, each counted until it is written.
//!
//! Must not know: what responses contain.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderValue, Version, header};
use axum::response::Response;
use hyper::body::{Frame, SizeHint};

use super::access::{self, AccessRecord};
use super::progress::SendProgress;
use super::scope::Scope;

/// Bytes handed to the connection at a time: one HTTP/2 frame.
const CHUNK_BYTES: usize = 16 * 1024;
/// Responses up to this size have a content length; larger ones are streamed.
pub const LENGTH_BYTES_MAX: usize = 1024 * 1024;

/// A response that holds its request's [`Scope`] until it is written.
pub fn written(mut response: Response, version: Version) -> Response {
    let scope = response.extensions_mut().remove::<Arc<Scope>>();
    let length = response.body().size_hint().exact();
    if length.is_none() && version < Version::HTTP_11 {
        // Only the end of the connection tells such a client that the response has ended.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response.map(|inner| {
        // HTTP/1.0 clients do not support chunks.
        let says_length = length.is_some_and(|length| length <= LENGTH_BYTES_MAX as u64)
            || version < Version::HTTP_11;
        let way = Way { progress: SendProgress::current(), scope, _record: access::current() };
        let way = Arc::new(way);
        way.progress.answer_begins(way.scope.as_ref().map(|scope| scope.deadline));
        way.scope.iter().for_each(|scope| scope.answered(&way.progress));
        Body::new(TrackedBody {
            inner,
            rest: Bytes::new(),
            way,
            length: length.filter(|_| says_length),
            state: Handing::Nothing,
            is_http2: version == Version::HTTP_2,
        })
    })
}

/// What all chunks of a response share.
struct Way {
    progress: Arc<SendProgress>,
    scope: Option<Arc<Scope>>,
    /// Its log line is written when the whole response is.
    _record: Option<Arc<AccessRecord>>,
}

/// Bytes that are being sent; dropped when they are written.
struct TrackedChunk {
    bytes: Bytes,
    way: Arc<Way>,
}

impl AsRef<[u8]> for TrackedChunk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for TrackedChunk {
    fn drop(&mut self) {
        self.way.progress.written();
    }
}

/// How much of a response was handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Handing {
    Nothing,
    Some,
    All,
}

struct TrackedBody {
    inner: Body,
    /// What was not handed over of a frame of `inner`.
    rest: Bytes,
    way: Arc<Way>,
    /// Bytes left, if the client is sent the length.
    length: Option<u64>,
    state: Handing,
    /// An HTTP/2 stream ends only when all of it is written, so that it can be reset until then.
    is_http2: bool,
}

impl Drop for TrackedBody {
    fn drop(&mut self) {
        self.way.progress.answer_ends();
    }
}

impl HttpBody for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        this.way.progress.asked();
        loop {
            if !this.rest.is_empty() {
                let bytes = this.rest.split_to(this.rest.len().min(CHUNK_BYTES));
                this.length = this.length.map(|left| left.saturating_sub(bytes.len() as u64));
                this.state = Handing::Some;
                this.way.progress.handed();
                let chunk = Bytes::from_owner(TrackedChunk { bytes, way: this.way.clone() });
                return Poll::Ready(Some(Ok(Frame::data(chunk))));
            }
            if this.state == Handing::All {
                let done = !this.is_http2 || this.way.progress.is_drained(context.waker());
                return if done { Poll::Ready(None) } else { Poll::Pending };
            }
            match ready!(Pin::new(&mut this.inner).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.rest = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => this.state = Handing::All,
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let waits = self.is_http2 && self.state != Handing::Nothing;
        !waits && self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}
