//! The access log: one line per request, written when its response is fully written or given up;
//! and the request id, by which the client, proxies and the log identify a request.
//!
//! A request's record is held by its handler, its response and each of its unwritten chunks; the
//! line is written when the last of these is dropped.
//! Must not know: any dialect's bodies. The contents of requests are never noted.

use std::hash::{BuildHasher as _, RandomState};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use axum::middleware::{self, Next};
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use tracing::field::display as plain;

use super::{App, LogRequests, has_key};
use crate::failure::without_quotes;
use crate::noted::{Noted, Notes};

/// The header with the request id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Maximum characters of an id from a client; a longer one is ignored.
const ID_CHARS_MAX: usize = 128;
/// Maximum characters logged of a method, or of a path without a route.
const TEXT_CHARS_MAX: usize = 128;
/// Logged as the status of a request whose client disconnected before it was answered, as other
/// servers do.
const STATUS_GONE: u16 = 499;

/// gRPC's status for a method that does not exist.
const UNIMPLEMENTED: i64 = 12;
/// gRPC's status for a call that took longer than its client allows.
const DEADLINE_EXCEEDED: i64 = 4;

tokio::task_local! {
    static CURRENT: Arc<AccessRecord>;
}

/// The protocol of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP: logged by method and path.
    Http,
    /// gRPC: logged by service and method, with a gRPC status.
    Grpc,
}

/// A router that logs its requests and gives them ids.
pub fn logged(router: Router, app: Arc<App>, protocol: Protocol) -> Router {
    router.layer(middleware::from_fn_with_state((app, protocol), log))
}

async fn log(
    State((app, protocol)): State<(Arc<App>, Protocol)>,
    request: Request,
    next: Next,
) -> Response {
    let id = sent_id(request.headers()).cloned().unwrap_or_else(new_id);
    let record = Arc::new(AccessRecord::of(&app, protocol, &request, &id));
    let bytes = record.bytes_in.clone();
    let request = request.map(|inner| Body::new(Received { inner, bytes }));
    let work = record.notes.scope(next.run(request));
    let mut response = CURRENT.scope(record.clone(), work).await;
    response.headers_mut().insert(REQUEST_ID, id);
    record.notes.note(|noted| note_head(noted, &response));
    response.map(|inner| Body::new(LoggedBody { length: inner.size_hint().exact(), inner, record }))
}

/// The id that a request was sent with, if there is exactly one, not too long and of visible ASCII.
fn sent_id(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut sent = headers.get_all(REQUEST_ID).iter();
    let (Some(id), None) = (sent.next(), sent.next()) else { return None };
    let fits = (1..=ID_CHARS_MAX).contains(&id.len());
    (fits && id.as_bytes().iter().all(u8::is_ascii_graphic)).then_some(id)
}

/// A unique id.
fn new_id() -> HeaderValue {
    static KEYS: LazyLock<[RandomState; 2]> = LazyLock::new(Default::default);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let [first, second] = [0, 1].map(|key: usize| KEYS[key].hash_one(count));
    let id = format!("{first:016x}{second:016x}");
    HeaderValue::from_str(&id).expect("digits are visible")
}

/// What is known about a request before it is routed, and the notes taken while it is served.
pub struct AccessRecord {
    app: Arc<App>,
    started: Instant,
    protocol: Protocol,
    method: String,
    path: String,
    client: Option<String>,
    id: Arc<str>,
    bytes_in: Arc<AtomicU64>,
    notes: Arc<Notes>,
}

/// Notes the head of a response.
fn note_head(noted: &mut Noted, response: &Response) {
    noted.status = Some(response.status().as_u16());
    note_grpc(noted, response.headers());
    noted.whole = response.body().is_end_stream();
}

/// Notes the gRPC status in headers or trailers, and what it means if nothing else was noted:
/// gRPC's own layer refuses unknown methods and messages that cannot be decoded.
fn note_grpc(noted: &mut Noted, headers: &HeaderMap) {
    noted.grpc_status = grpc_status(headers);
    let Some(code) = noted.grpc_status.filter(|code| *code != 0 && noted.error.is_none()) else {
        return;
    };
    let message = headers.get("grpc-message").and_then(|text| text.to_str().ok());
    let message = message.filter(|text| !text.is_empty()).map(|text| {
        let decoded = percent_encoding::percent_decode_str(text).decode_utf8_lossy();
        without_quotes(&decoded).chars().take(TEXT_CHARS_MAX).collect()
    });
    noted.error = Some(match (code, &message) {
        (UNIMPLEMENTED, None) => "unknown_path",
        (DEADLINE_EXCEEDED, _) => "timeout",
        _ => "malformed",
    });
    noted.reason = message.or_else(|| match code {
        UNIMPLEMENTED => Some("there is no such service or method".into()),
        _ => Some(format!("gRPC status {code}")),
    });
}

fn is_refused(noted: &Noted) -> bool {
    noted.status.is_none_or(|status| status >= 400)
        || noted.grpc_status.is_some_and(|code| code != 0)
}

/// The record of the current request; none outside of requests.
pub fn current() -> Option<Arc<AccessRecord>> {
    CURRENT.try_with(Arc::clone).ok()
}

impl AccessRecord {
    fn of(app: &Arc<App>, protocol: Protocol, request: &Request, id: &HeaderValue) -> Self {
        let (headers, path) = (request.headers(), request.uri().path());
        let clients = app.clients();
        let with_key = clients.have_keys && has_key(&app.config().api_keys, headers);
        let client = match with_key {
            true => clients.shown_key(headers),
            false => clients.shown_address(headers, request.extensions()),
        };
        let dialect = grpc_dialect(request.uri()).filter(|_| protocol == Protocol::Grpc);
        Self {
            app: app.clone(),
            started: Instant::now(),
            protocol,
            method: shown(request.method().as_str()),
            path: shown(path),
            client,
            id: id.to_str().unwrap_or_default().into(),
            bytes_in: Arc::default(),
            notes: Notes::new(Noted { dialect, ..Noted::default() }),
        }
    }

    /// The request's id.
    pub fn id(&self) -> Arc<str> {
        self.id.clone()
    }

    fn is_logged(&self, noted: &Noted, path: &str) -> bool {
        let log = self.app.config().log_requests;
        // Clients that watch health over gRPC end the call by disconnecting.
        if is_probe(self.protocol, &self.method, path) {
            let refused = is_refused(noted).then_some(noted.error.unwrap_or("refused"));
            return self.app.probes().says_something_new(path, refused) && log != LogRequests::Off;
        }
        match log {
            LogRequests::Off => false,
            LogRequests::Errors => is_refused(noted) || !noted.whole,
            LogRequests::All => true,
        }
    }
}

impl Drop for AccessRecord {
    fn drop(&mut self) {
        let noted = self.notes.note(std::mem::take);
        let status = noted.status.unwrap_or(STATUS_GONE);
        if self.protocol == Protocol::Http {
            self.app.metrics().responded(noted.route.as_deref(), status);
        }
        let path = noted.route.as_ref().unwrap_or(&self.path);
        if !self.is_logged(&noted, path) {
            return;
        }
        // The level of a `tracing` event must be a constant.
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    target: "proxima::access",
                    method = %self.method,
                    path = %path,
                    dialect = noted.dialect.map(plain),
                    model = noted.model,
                    status,
                    grpc_status = noted.grpc_status,
                    error = noted.error.map(plain),
                    reason = noted.reason,
                    aborted = (!noted.whole).then_some(true),
                    inputs = noted.inputs,
                    tokens = noted.tokens,
                    truncated = (noted.truncated > 0).then_some(noted.truncated),
                    tokenization_ms = noted.tokenization.map(milliseconds),
                    queue_ms = noted.queue.map(milliseconds),
                    inference_ms = noted.inference.map(milliseconds),
                    total_ms = milliseconds(self.started.elapsed()),
                    bytes_in = self.bytes_in.load(Ordering::Relaxed),
                    bytes_out = noted.bytes_out,
                    client = self.client.as_ref().map(plain),
                    request_id = %self.id,
                    "request"
                )
            };
        }
        match noted.warns {
            true => line!(warn),
            false => line!(info),
        }
    }
}

/// Milliseconds with three decimals.
fn milliseconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1e3
}

/// The beginning of a text from a client; characters that could break a log line become `?`.
fn shown(text: &str) -> String {
    let letters = text.chars().take(TEXT_CHARS_MAX);
    letters.map(|letter| if letter.is_ascii_graphic() { letter } else { '?' }).collect()
}

/// Whether it is a health check or a scrape of metrics, repeated by a machine every few seconds.
fn is_probe(protocol: Protocol, method: &str, path: &str) -> bool {
    match protocol {
        Protocol::Grpc => path.starts_with("/grpc.health."),
        Protocol::Http => {
            matches!(path, "/health" | "/ping" | "/livez" | "/readyz" | "/metrics")
                || path.starts_with("/readyz/")
                || (path == "/" && matches!(method, "GET" | "HEAD"))
        }
    }
}

fn grpc_dialect(uri: &Uri) -> Option<&'static str> {
    let package = uri.path().strip_prefix('/')?.split('.').next()?;
    ["tei", "proxima"].into_iter().find(|name| *name == package)
}

fn grpc_status(headers: &HeaderMap) -> Option<i64> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// A request's body, which counts the bytes read.
struct Received {
    inner: Body,
    /// Not the record: the rest of a body may be read long after the response was written.
    bytes: Arc<AtomicU64>,
}

impl HttpBody for Received {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        if let Some(Ok(frame)) = &frame {
            let length = frame.data_ref().map_or(0, Bytes::len);
            self.bytes.fetch_add(length as u64, Ordering::Relaxed);
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

/// A response, which counts the bytes handed to its connection. It is polled in the request's
/// scope, since that is when a stream's messages are served.
struct LoggedBody {
    inner: Body,
    /// Bytes in total, if known: the body is not polled beyond them.
    length: Option<u64>,
    record: Arc<AccessRecord>,
}

impl HttpBody for LoggedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let (record, length) = (self.record.clone(), self.length);
        let inner = &mut self.inner;
        let polled = CURRENT.sync_scope(record.clone(), || {
            record.notes.sync_scope(|| Pin::new(inner).poll_frame(context))
        });
        let frame = ready!(polled);
        record.notes.note(|noted| match &frame {
            Some(Ok(frame)) => {
                noted.bytes_out += frame.data_ref().map_or(0, Bytes::len) as u64;
                if let Some(trailers) = frame.trailers_ref() {
                    note_grpc(noted, trailers);
                }
                let is_last = length == Some(noted.bytes_out) || frame.is_trailers();
                noted.whole |= is_last || self.inner.is_end_stream();
            }
            Some(Err(_)) => {}
            None => noted.whole = true,
        });
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
pub mod captured;
#[cfg(test)]
mod tests;
