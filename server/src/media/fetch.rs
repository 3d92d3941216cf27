//! Fetches files from URLs: on each hop the host is checked and resolved, and the connection goes
//! to one of the IP addresses that were checked.
//!
//! Must not know: which texts are URLs, what the bytes contain.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::address::Reach;
use super::allow::{AllowEntry, literal};
use super::network::{Connector, Stream, Tcp, secured, tls};
use super::target::Target;
use super::{MediaBudget, MediaSettings, SourceError};

/// Maximum bytes of a response's head.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Maximum headers of a response.
const HEADERS_MAX: usize = 100;
/// Time limit for connecting to one IP address, so that time is left for others.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Maximum IP addresses of a host that are tried.
const ADDRESSES_MAX: usize = 4;
/// Maximum memory allocated for a file before its bytes arrive.
const ROOM_BYTES_MAX: usize = 1024 * 1024;
/// Some servers refuse clients without a user agent.
const USER_AGENT: &str = concat!("proxima/", env!("CARGO_PKG_VERSION"));

/// Fetches files.
pub struct FetchClient {
    entries: Vec<AllowEntry>,
    file_bytes_max: usize,
    limit: Duration,
    redirects_max: usize,
    permits: Semaphore,
    wait: Duration,
    connector: Box<dyn Connector>,
    tls: TlsConnector,
}

impl fmt::Debug for FetchClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchClient").field("entries", &self.entries).finish_non_exhaustive()
    }
}

/// A host's response.
enum HostResponse {
    File(Vec<u8>),
    Moved(String),
}

/// Limits on a file's bytes.
#[derive(Clone, Copy)]
struct Most<'a> {
    file: usize,
    budget: &'a MediaBudget,
}

impl FetchClient {
    /// A client on this machine's network.
    pub fn new(settings: &MediaSettings) -> Self {
        Self::on(Box::new(Tcp), tls(), settings)
    }

    /// A client on another network.
    pub fn on(connector: Box<dyn Connector>, tls: TlsConnector, settings: &MediaSettings) -> Self {
        let entry = |text: &String| {
            // The settings were checked at startup; an invalid entry allows nothing.
            text.parse().inspect_err(|error: &String| tracing::error!("{error}")).ok()
        };
        Self {
            entries: settings.allowed_hosts.iter().filter_map(entry).collect(),
            file_bytes_max: settings.file_bytes_max,
            limit: settings.fetch_timeout,
            redirects_max: settings.redirects_max,
            permits: Semaphore::new(settings.fetches_max),
            wait: settings.fetch_wait,
            connector,
            tls,
        }
    }

    /// Fetches the file at a URL, within the budget of its request.
    pub async fn fetch_within(
        &self,
        address: &str,
        budget: &MediaBudget,
    ) -> Result<Vec<u8>, SourceError> {
        let target = Target::new(address, &self.entries)?;
        // The semaphores are never closed; without a permit there would only be more concurrent
        // fetches.
        let _own = budget.fetches.acquire().await;
        // Waiting here is due to other fetches: it has its own limit and does not count towards the
        // fetch timeout.
        let turn = async { (budget.share.acquire().await, self.permits.acquire().await) };
        let _turn = timeout(self.wait, turn).await.map_err(|_| SourceError::Busy)?;
        let late = SourceError::Timeout { limit: self.limit };
        timeout(self.limit, self.follow(target, budget)).await.map_err(|_| late)?
    }

    async fn follow(
        &self,
        mut target: Target,
        budget: &MediaBudget,
    ) -> Result<Vec<u8>, SourceError> {
        for _ in 0..=self.redirects_max {
            let stream = self.connect(&target).await?;
            let most = Most { file: self.file_bytes_max, budget };
            match exchange(stream, &target, most).await? {
                HostResponse::File(bytes) => return Ok(bytes),
                HostResponse::Moved(to) => target = target.redirected(&to, &self.entries)?,
            }
        }
        Err(SourceError::TooManyRedirects { limit: self.redirects_max })
    }

    /// The IP addresses of a host, all of which may be connected to.
    async fn resolve(&self, target: &Target) -> Result<Vec<IpAddr>, SourceError> {
        let not_public = || SourceError::NotPublic { host: target.name() };
        let addresses = match literal(&target.host) {
            Some(address) => vec![address],
            None => self.connector.resolve(&target.name()).await.unwrap_or_default(),
        };
        if addresses.is_empty() {
            // If any host may be requested, errors must not reveal whether a private name exists.
            return Err(match target.is_any {
                true => not_public(),
                false => SourceError::Unresolved { host: target.name() },
            });
        }
        let allowed = addresses.iter().all(|address| match Reach::of(*address) {
            Reach::Public => true,
            Reach::Inside => target.inside,
            Reach::Never => false,
        });
        if allowed { Ok(addresses) } else { Err(not_public()) }
    }

    async fn connect(&self, target: &Target) -> Result<Box<dyn Stream>, SourceError> {
        let unreachable =
            |problem: String| SourceError::Unreachable { host: target.name(), problem };
        let mut problem = String::new();
        for address in self.resolve(target).await?.into_iter().take(ADDRESSES_MAX) {
            let address = SocketAddr::new(address, target.port);
            match timeout(CONNECT_TIMEOUT, self.connector.connect(address)).await {
                Ok(Ok(stream)) if target.is_https() => {
                    let secured = secured(&self.tls, &target.host, stream).await;
                    return secured.map_err(|error| unreachable(format!("TLS: {error}")));
                }
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => problem = error.kind().to_string(),
                Err(_) => problem = "it does not answer".to_owned(),
            }
        }
        Err(unreachable(problem))
    }
}

/// Sends a request and reads its response.
async fn exchange(
    stream: Box<dyn Stream>,
    target: &Target,
    most: Most<'_>,
) -> Result<HostResponse, SourceError> {
    let broken = |error: hyper::Error| {
        tracing::debug!("the response of {} was cut off: {error}", target.name());
        SourceError::Broken { host: target.name() }
    };
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let request = request(target)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        match moved(&response, target)? {
            Some(to) => Ok(HostResponse::Moved(to)),
            None => Ok(HostResponse::File(file(response, target, most).await?)),
        }
    };
    let mut answer = std::pin::pin!(answer);
    // The connection is driven here rather than in a task, so that it ends with this future.
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        _ = connection => answer.await,
    }
}

fn request(target: &Target) -> Result<Request<Empty<Bytes>>, SourceError> {
    Request::get(target.path())
        .header(header::HOST, target.authority())
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::ACCEPT, "image/*, video/*, */*;q=0.5")
        .header(header::ACCEPT_ENCODING, "identity")
        .header(header::CONNECTION, "close")
        .body(Empty::new())
        .map_err(|error| SourceError::Address { problem: error.to_string() })
}

/// Where a response redirects to, if it is a redirect.
fn moved(response: &Response<Incoming>, target: &Target) -> Result<Option<String>, SourceError> {
    let host = target.name();
    match response.status() {
        StatusCode::OK => Ok(None),
        StatusCode::MOVED_PERMANENTLY
        | StatusCode::FOUND
        | StatusCode::SEE_OTHER
        | StatusCode::TEMPORARY_REDIRECT
        | StatusCode::PERMANENT_REDIRECT => {
            let to = response.headers().get(header::LOCATION).map(HeaderValue::as_bytes);
            let to = to.and_then(|bytes| std::str::from_utf8(bytes).ok());
            let problem = || "it names no URL".to_owned();
            Ok(Some(to.ok_or_else(|| SourceError::Redirect { host, problem: problem() })?.into()))
        }
        status => Err(SourceError::Status { host, status: status.as_u16() }),
    }
}

/// The body of a response, counted as it arrives.
async fn file(
    response: Response<Incoming>,
    target: &Target,
    most: Most<'_>,
) -> Result<Vec<u8>, SourceError> {
    let limit = most.file;
    let large = || SourceError::TooLarge { limit };
    if !is_plain(response.headers()) {
        return Err(SourceError::Compressed { host: target.name() });
    }
    let mut body = response.into_body();
    let announced = hyper::body::Body::size_hint(&body).exact();
    let announced = announced.map_or(0, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    if announced > limit {
        return Err(large());
    }
    let mut bytes = Vec::with_capacity(announced.min(ROOM_BYTES_MAX));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| SourceError::Broken { host: target.name() })?;
        let Ok(data) = frame.into_data() else { continue };
        if data.len() > limit - bytes.len() {
            return Err(large());
        }
        most.budget.take(data.len())?;
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// Whether a body is uncompressed: others could expand to many times their size and are refused.
fn is_plain(headers: &HeaderMap) -> bool {
    let all = |name, plain: &str| {
        let mut values = headers.get_all(name).iter();
        values.all(|value| value.as_bytes().trim_ascii().eq_ignore_ascii_case(plain.as_bytes()))
    };
    all(header::CONTENT_ENCODING, "identity") && all(header::TRANSFER_ENCODING, "chunked")
}

#[cfg(test)]
mod tests;
