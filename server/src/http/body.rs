//! Bodies of requests and responses: errors in the dialect's shape; large responses are serialized
//! off the event loop, and sent while they are produced.
//!
//! Must not know: any dialect's bodies.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt as _, stream};
use proxima_engine::Timings;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::json::{OFF_LOOP_BYTES, parse_body};
use super::scope::Scope;
use super::unshaped::{Unshaped, unshaped};
use super::written::LENGTH_BYTES_MAX;
use super::{App, Failure};

/// Tokens of a request above which its response is serialized on another thread.
const OFF_LOOP_TOKENS: usize = 4 * 1024;
/// Bytes of each part of a response that is sent while the rest is produced.
const PART_BYTES: usize = 64 * 1024;

/// What computes, in the terms of text-embeddings-inference.
pub const COMPUTE_TYPE: &str = "cpu+optimized";

/// A JSON body, whatever its content type.
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned + Send + 'static> FromRequest<Arc<App>> for JsonBody<T> {
    type Rejection = Response;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Response> {
        let path = request.uri().path().to_owned();
        let RawBody(bytes) = RawBody::from_request(request, app).await?;
        parse_body(bytes).await.map(Self).map_err(|failure| {
            app.metrics().refused(&failure);
            unshaped(&path, &failure)
        })
    }
}

/// A body of any kind, within all limits. A request gets its permit to compute only after its body
/// was read, so a body that never arrives holds no permit. Unknown paths and wrong methods read no
/// body, so they are answered at once.
pub struct RawBody(pub Bytes);

impl FromRequest<Arc<App>> for RawBody {
    type Rejection = Response;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Response> {
        let path = request.uri().path().to_owned();
        admitted(app, &path, request.into_body()).await.map(Self).map_err(|failure| {
            app.metrics().refused(&failure);
            unshaped(&path, &failure)
        })
    }
}

/// Reads a body, checks the load, then takes a permit, which the request holds until its response
/// is written.
async fn admitted(app: &App, path: &str, body: Body) -> Result<Bytes, Failure> {
    let (body, scope) = (app.intake().read(body).await?, Scope::current());
    if let Some(scope) = &scope {
        app.check_load(path, scope.client, &body)?;
    }
    let share = scope.as_ref().map(|scope| app.take_share(scope.client)).transpose()?;
    let permit = app.take_permit().ok_or_else(|| app.too_many_requests())?;
    if let (Some(scope), Some(share)) = (&scope, share) {
        scope.keep_share(share);
        scope.hold(permit, app.outgoing());
    }
    Ok(body)
}

/// A JSON response of what `make` returns. A large one is produced on another thread; beyond
/// `LENGTH_BYTES_MAX`, it is sent while the rest is still being produced.
pub async fn json_response<T: Serialize + Send + 'static>(
    tokens: usize,
    make: impl FnOnce() -> T + Send + 'static,
) -> Response {
    let scope = Scope::current();
    let room_bytes = scope.as_ref().map_or(0, |scope| scope.room_bytes());
    let body = if tokens > OFF_LOOP_TOKENS || room_bytes > OFF_LOOP_BYTES {
        let (sender, made) = mpsc::unbounded_channel();
        let writer = Writer { scope, sender, part: Vec::new(), bytes: 0, failure: None };
        tokio::task::spawn_blocking(move || writer.write(make));
        Made { made }.body().await
    } else {
        serde_json::to_vec(&make()).map(Body::from).map_err(|_| Failure::Bug)
    };
    match body {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        // Path and dialect are not known here; the request's own layer shapes the failure.
        Err(failure) => Unshaped { path: None, failure }.into_response(),
    }
}

/// A part of a response that is being produced, or its end.
enum ResponsePart {
    Bytes(Bytes),
    End(Result<(), Failure>),
}

/// Splits serialized bytes into parts and counts them.
struct Writer {
    scope: Option<Arc<Scope>>,
    sender: mpsc::UnboundedSender<ResponsePart>,
    part: Vec<u8>,
    /// Bytes of the parts sent so far.
    bytes: usize,
    failure: Option<Failure>,
}

impl Writer {
    /// Serializes what `make` returns as JSON, then sends the end.
    fn write<T: Serialize>(mut self, make: impl FnOnce() -> T) {
        let written = serde_json::to_writer(&mut self, &make());
        let sent = written.map_err(std::io::Error::from).and_then(|()| self.send());
        let end = sent.map_err(|_| self.failure.take().unwrap_or(Failure::Bug));
        // The client may have disconnected.
        let _ = self.sender.send(ResponsePart::End(end));
    }

    fn send(&mut self) -> std::io::Result<()> {
        let part = std::mem::take(&mut self.part);
        self.bytes += part.len();
        let grown = self.scope.as_ref().map_or(Ok(()), |scope| scope.grow(self.bytes));
        grown.map_err(|failure| {
            self.failure = Some(failure);
            std::io::ErrorKind::OutOfMemory
        })?;
        let sent = self.sender.send(ResponsePart::Bytes(part.into()));
        sent.map_err(|_| std::io::ErrorKind::BrokenPipe.into())
    }
}

impl std::io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.part.len() + bytes.len() > PART_BYTES && !self.part.is_empty() {
            self.send()?;
        }
        if self.part.capacity() == 0 {
            self.part.reserve_exact(PART_BYTES.max(bytes.len()));
        }
        self.part.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A response that is being produced.
struct Made {
    made: mpsc::UnboundedReceiver<ResponsePart>,
}

impl Made {
    /// Its body: whole if it is small, otherwise streamed.
    async fn body(mut self) -> Result<Body, Failure> {
        let (mut parts, mut bytes) = (Vec::new(), 0);
        while bytes <= LENGTH_BYTES_MAX {
            match self.next().await? {
                Some(part) => {
                    bytes += part.len();
                    parts.push(part);
                }
                None => return Ok(Body::from(parts.concat())),
            }
        }
        let rest = stream::try_unfold(self, |mut this| async move {
            // The head has been sent, so an error can only cut the body short.
            let part = this.next().await.map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>(part.map(|part| (part, this)))
        });
        let parts = stream::iter(parts).map(Ok);
        Ok(Body::from_stream(parts.chain(rest)))
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        match self.made.recv().await {
            Some(ResponsePart::Bytes(part)) => Ok(Some(part)),
            Some(ResponsePart::End(end)) => end.map(|()| None),
            // The thread that produced it panicked.
            None => Err(Failure::Bug),
        }
    }
}

/// What a request took, with the names of text-embeddings-inference; times in milliseconds.
pub fn timing_values(timings: &Timings) -> [(&'static str, u64); 8] {
    let total = timings.total.as_millis() as u64;
    [
        ("x-compute-time", total),
        ("x-compute-characters", timings.n_chars as u64),
        ("x-compute-tokens", timings.n_tokens as u64),
        ("x-total-time", total),
        ("x-tokenization-time", timings.tokenization.as_millis() as u64),
        // Part of the tokenization time; not a header of text-embeddings-inference.
        ("x-tokenization-queue-time", timings.tokenizer_wait.as_millis() as u64),
        ("x-queue-time", timings.queue.as_millis() as u64),
        ("x-inference-time", timings.inference.as_millis() as u64),
    ]
}

/// Adds what a request took as headers, as text-embeddings-inference does.
pub fn with_timings(mut response: Response, timings: &Timings) -> Response {
    let headers = response.headers_mut();
    headers.insert("x-compute-type", HeaderValue::from_static(COMPUTE_TYPE));
    for (name, value) in timing_values(timings) {
        headers.insert(HeaderName::from_static(name), HeaderValue::from(value));
    }
    response
}
