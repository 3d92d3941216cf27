//! Requests to the Hub: the files of a revision, a file's hash and size, its bytes.
//!
//! Must not know: where files are stored.

use std::io::{self, Read as _};

use proxima_models::Progress;
use serde::Deserialize;
use ureq::http::{HeaderMap, Response, StatusCode, header};
use ureq::typestate::WithoutBody;
use ureq::{Agent, Body, RequestBuilder};
use url::Url;

use super::partial::Partial;
use super::{HubError, files};
use crate::hub::HubSettings;

/// The public Hub.
const ENDPOINT: &str = "https://huggingface.co";
/// Addresses that the token may be sent to, besides the Hub in use.
const PUBLIC: [&str; 2] = [ENDPOINT, "https://hf.co"];
/// Maximum redirects of one request.
const REDIRECTS_MAX: u32 = 5;
/// Maximum bytes of a list of files.
const LIST_BYTES_MAX: u64 = 32 << 20;
/// Maximum bytes read of an error's body.
const ERROR_BYTES_MAX: u64 = 64 << 10;
/// Bytes read at a time.
const PIECE_BYTES: usize = 256 << 10;

/// The Hub over HTTP.
pub struct HubClient {
    agent: Agent,
    endpoint: Url,
    token: Option<String>,
}

/// The files of a revision.
#[derive(Debug, Deserialize)]
pub struct Listing {
    /// The revision's commit.
    pub sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Debug, Deserialize)]
struct Sibling {
    rfilename: String,
}

impl Listing {
    /// Names of the files.
    pub fn names(self) -> Vec<String> {
        self.siblings.into_iter().map(|file| file.rfilename).collect()
    }
}

/// A commit of a model.
#[derive(Debug, Clone, Copy)]
pub struct At<'a> {
    /// The model's id.
    pub id: &'a str,
    /// The commit's hash.
    pub commit: &'a str,
}

/// A file of the Hub.
#[derive(Debug)]
pub struct RemoteFile {
    /// The name of its blob: the SHA-256 of large files, another hash of small ones.
    pub etag: String,
    /// Its size in bytes, if the Hub reports it.
    pub size: Option<u64>,
    location: Url,
}

impl HubClient {
    /// A client with these settings.
    ///
    /// # Errors
    /// An endpoint that is not a URL.
    pub fn new(settings: &HubSettings) -> Result<Self, HubError> {
        let endpoint = settings.endpoint.as_deref().unwrap_or(ENDPOINT);
        let endpoint =
            Url::parse(&format!("{}/", endpoint.trim_end_matches('/'))).map_err(|error| {
                HubError::NotAHub(format!("{endpoint:?} is not a valid URL ({error})"))
            })?;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("proxima/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(settings.etag_timeout))
            .timeout_connect(Some(settings.etag_timeout))
            .timeout_recv_response(Some(settings.etag_timeout))
            .timeout_per_read(Some(settings.download_timeout))
            .build();
        Ok(Self { agent: config.new_agent(), endpoint, token: settings.token.clone() })
    }

    /// The files of a revision.
    ///
    /// # Errors
    /// See [`HubError`].
    pub fn list(&self, id: &str, revision: &str) -> Result<Listing, HubError> {
        let url = self.url(&["api", "models"], id, &["revision", revision], "")?;
        let answer = self.follow("GET", url)?.response;
        let reader = answer.into_body().into_with_config().limit(LIST_BYTES_MAX).reader();
        let list: Listing = serde_json::from_reader(reader).map_err(|error| {
            HubError::NotAHub(format!("the list of files of {id} cannot be read ({error})"))
        })?;
        let odd = list.siblings.iter().find(|file| !files::is_relative(&file.rfilename));
        match (odd, files::is_commit(&list.sha)) {
            (None, true) => Ok(list),
            (Some(file), _) => {
                Err(HubError::NotAHub(format!("{:?} is not a valid file name", file.rfilename)))
            }
            (None, false) => Err(HubError::NotAHub(format!("{:?} is not a commit", list.sha))),
        }
    }

    /// The hash and size of a file.
    ///
    /// # Errors
    /// See [`HubError`].
    pub fn look_up(&self, at: At<'_>, name: &str) -> Result<RemoteFile, HubError> {
        let url = self.url(&[], at.id, &["resolve", at.commit], name)?;
        let mut answer = self.follow("HEAD", url.clone());
        if let Err(HubError::Refused { status: 405 | 501, .. }) = answer {
            // Some mirrors do not support HEAD.
            answer = self.follow("GET", url);
        }
        let Followed { response, location, mut headers } = answer?;
        headers.push(response.headers().clone());
        // Mirrors may send it with a redirect to their storage; the last response counts.
        let header =
            |name: &str| headers.iter().rev().find_map(|headers| headers.get(name)?.to_str().ok());
        let etag = header("x-linked-etag").or_else(|| header("etag"));
        let etag = etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"').to_owned());
        let length = response.headers().get(header::CONTENT_LENGTH);
        let length = length.filter(|_| response.status().is_success());
        let size = header("x-linked-size").or_else(|| length?.to_str().ok());
        match etag.filter(|etag| files::is_relative(etag) && !etag.contains('/')) {
            Some(etag) => {
                Ok(RemoteFile { etag, size: size.and_then(|size| size.parse().ok()), location })
            }
            None => Err(HubError::NotAHub(format!("{name} of {} comes without an ETag", at.id))),
        }
    }

    /// Appends the bytes of a file that `to` lacks. If the server sends the whole file, `to` starts
    /// over.
    ///
    /// # Errors
    /// See [`HubError`]; bytes received before it stay in the file.
    pub fn download(
        &self,
        file: &RemoteFile,
        to: &mut Partial,
        progress: &Progress,
    ) -> Result<(), HubError> {
        let mut request = self.agent.get(file.location.as_str());
        request = self.with_headers(request, &file.location);
        if to.length > 0 {
            request = request.header("range", format!("bytes={}-", to.length));
        }
        let request = request.config().max_redirects(REDIRECTS_MAX).build();
        let response = checked(request.call().map_err(unreachable)?)?;
        if to.length > 0 && response.status() != StatusCode::PARTIAL_CONTENT {
            progress.take_back(to.length);
            to.restart()?;
        }
        let mut body = response.into_body().into_reader();
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let read = match body.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(HubError::Unreachable(error.to_string())),
            };
            to.write(&piece[..read])?;
            progress.add(read as u64);
        }
    }
}

/// A response, and where it came from.
struct Followed {
    response: Response<Body>,
    /// Where the bytes are: outside the Hub, or where the last redirect within it led.
    location: Url,
    /// Headers of the redirects before it.
    headers: Vec<HeaderMap>,
}

impl HubClient {
    /// Sends a request, and follows redirects that stay on the Hub: the last response there
    /// describes the file, and the token is sent nowhere else.
    fn follow(&self, method: &str, mut url: Url) -> Result<Followed, HubError> {
        let mut headers = Vec::new();
        for _ in 0..=REDIRECTS_MAX {
            let request = match method {
                "HEAD" => self.agent.head(url.as_str()),
                _ => self.agent.get(url.as_str()),
            };
            let request = self.with_headers(request, &url);
            let response = checked(request.call().map_err(unreachable)?)?;
            let target = response
                .headers()
                .get(header::LOCATION)
                .and_then(|location| location.to_str().ok());
            let target = target.filter(|_| response.status().is_redirection());
            let Some(target) = target.and_then(|target| url.join(target).ok()) else {
                return Ok(Followed { response, location: url, headers });
            };
            if !self.is_of_hub(&target) {
                return Ok(Followed { response, location: target, headers });
            }
            headers.push(response.headers().clone());
            url = target;
        }
        Err(HubError::NotAHub(format!("more than {REDIRECTS_MAX} redirects, the last to {url}")))
    }

    fn with_headers(
        &self,
        request: RequestBuilder<WithoutBody>,
        url: &Url,
    ) -> RequestBuilder<WithoutBody> {
        // So that the size is that of the bytes themselves.
        let request = request.header(header::ACCEPT_ENCODING, "identity");
        match &self.token {
            Some(token) if self.is_of_hub(url) => {
                request.header(header::AUTHORIZATION, format!("Bearer {token}"))
            }
            _ => request,
        }
    }

    fn is_of_hub(&self, url: &Url) -> bool {
        let known = PUBLIC.iter().filter_map(|known| Url::parse(known).ok());
        let mut known = known.chain([self.endpoint.clone()]);
        known.any(|known| known.origin() == url.origin())
    }

    /// Builds a URL. Each part is one path segment, except that `id` and `name` are split at
    /// slashes.
    fn url(&self, first: &[&str], id: &str, then: &[&str], name: &str) -> Result<Url, HubError> {
        let mut url = self.endpoint.clone();
        let name = name.split('/').filter(|part| !part.is_empty());
        let extended = url.path_segments_mut().map(|mut path| {
            path.pop_if_empty().extend(first).extend(id.split('/')).extend(then).extend(name);
        });
        match extended {
            Ok(()) => Ok(url),
            Err(()) => Err(HubError::NotAHub(format!("{url} cannot have a path"))),
        }
    }
}

fn unreachable(error: ureq::Error) -> HubError {
    HubError::Unreachable(error.to_string())
}

/// The response, unless it is an error.
fn checked(mut response: Response<Body>) -> Result<Response<Body>, HubError> {
    #[derive(Deserialize)]
    struct ErrorBody {
        error: String,
    }
    let status = response.status().as_u16();
    if status < 400 {
        return Ok(response);
    }
    let header = |name: &str| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
    let (code, message) = (header("x-error-code"), header("x-error-message"));
    let body = response.body_mut().with_config().limit(ERROR_BYTES_MAX).read_to_vec();
    let body = body.ok().and_then(|bytes| serde_json::from_slice::<ErrorBody>(&bytes).ok());
    Err(HubError::Refused { status, code, message: message.or(body.map(|body| body.error)) })
}
