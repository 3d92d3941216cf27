//! A local hub with the files of one repository. It responds as the public one does:
//! `X-Repo-Commit` and an ETag on `resolve`, large files by a redirect to another host.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt as _, stream};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// How a hub misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// It behaves well.
    Well,
    /// Every response has this status, code and message.
    Says(u16, &'static str, &'static str),
    /// The list is public; files are refused with this message.
    GatedFiles(&'static str),
    /// It is the captive portal of a network that requires a login.
    Portal,
    /// Files have no ETag.
    NoEtag,
    /// It does not support HEAD.
    NoHead,
    /// The repository has been renamed.
    Renamed,
    /// The bytes of large files are wrong.
    Damages,
    /// Connections break after this many bytes of a large file.
    Breaks(usize),
    /// They break once after half of a file; from then on all of it is sent, whatever the range.
    NoRanges,
}

/// The hub.
pub struct FakeHub {
    /// Its address.
    pub address: String,
    world: Arc<World>,
    _runtime: tokio::runtime::Runtime,
}

struct World {
    files: BTreeMap<String, Vec<u8>>,
    mood: Mood,
    /// Where large files are.
    storage: String,
    /// Method, path, authorization and range of the requests.
    requests: Mutex<Vec<String>>,
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl FakeHub {
    pub fn start(files: &[(&str, &[u8])]) -> Self {
        Self::moody(files, Mood::Well)
    }

    pub fn moody(files: &[(&str, &[u8])], mood: Mood) -> Self {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().expect("a runtime");
        let bind = || runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let (hub, storage) = (bind(), bind());
        let address = |listener: &TcpListener| {
            format!("http://{}", listener.local_addr().expect("an address"))
        };
        let files = files.iter().map(|(name, bytes)| ((*name).into(), bytes.to_vec())).collect();
        let (address, storage_address) = (address(&hub), address(&storage));
        let world = World { files, mood, storage: storage_address, requests: Mutex::default() };
        let world = Arc::new(world);
        let router = Router::new().fallback(answer).with_state(world.clone());
        for listener in [hub, storage] {
            runtime.spawn(axum::serve(listener, router.clone()).into_future());
        }
        Self { address, world, _runtime: runtime }
    }

    /// The requests since the last call.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.world.requests.lock().expect("no panic"))
    }
}

async fn answer(State(world): State<Arc<World>>, request: Request) -> Response {
    let text = |headers: &HeaderMap, name| {
        headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    let range = text(request.headers(), header::RANGE);
    let key = text(request.headers(), header::AUTHORIZATION);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let earlier = {
        let mut requests = world.requests.lock().expect("no panic");
        let earlier = requests.iter().filter(|line| line.contains(&path)).count();
        requests.push(format!("{method} {path} {key} {range}").trim().to_owned());
        earlier
    };
    match world.mood {
        Mood::Says(status, code, message) => return says(status, code, message),
        Mood::Portal => return "<html>Please log in</html>".into_response(),
        _ => {}
    }
    if path.starts_with("/api/models/owner/name/revision/") {
        let names = world.files.keys();
        let names: Vec<_> = names.map(|name| serde_json::json!({ "rfilename": name })).collect();
        let list = serde_json::json!({ "sha": COMMIT, "siblings": names });
        return axum::Json(list).into_response();
    }
    let start = range.strip_prefix("bytes=").and_then(|range| range.strip_suffix('-'));
    let start: usize = start.and_then(|start| start.parse().ok()).unwrap_or(0);
    if let Some(name) = path.strip_prefix("/storage/") {
        return world.stored(name, start, earlier);
    }
    let new_name = format!("/new/name/resolve/{COMMIT}/");
    let old_name = format!("/owner/name/resolve/{COMMIT}/");
    match (path.strip_prefix(&old_name), path.strip_prefix(&new_name)) {
        (Some(name), _) if world.mood == Mood::Renamed => {
            let headers = [(header::LOCATION, format!("{new_name}{name}"))];
            (StatusCode::TEMPORARY_REDIRECT, headers).into_response()
        }
        (Some(name), _) | (_, Some(name)) => world.resolved(name, &method),
        _ => says(404, "EntryNotFound", "Entry not found"),
    }
}

fn says(status: u16, code: &str, message: &str) -> Response {
    let status = StatusCode::from_u16(status).expect("a status");
    let headers = [("x-error-code", code), ("x-error-message", message)];
    let headers = headers.into_iter().filter(|(_, value)| !value.is_empty());
    let headers = headers
        .map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")));
    (status, headers.collect::<HeaderMap>()).into_response()
}

impl World {
    /// Responds with a file: small ones are sent, large ones redirected.
    fn resolved(&self, name: &str, method: &Method) -> Response {
        let Some(bytes) = self.files.get(name) else {
            return says(404, "EntryNotFound", "Entry not found");
        };
        match self.mood {
            Mood::GatedFiles(message) => return says(403, "GatedRepo", message),
            Mood::NoHead if method == Method::HEAD => return says(405, "", ""),
            _ => {}
        }
        let mut headers = HeaderMap::new();
        let mut set = |name: &'static str, value: String| {
            headers.insert(name, value.parse().expect("a value"));
        };
        set("x-repo-commit", COMMIT.to_owned());
        if name.ends_with(".safetensors") {
            if self.mood != Mood::NoEtag {
                set("x-linked-etag", format!("\"{}\"", sha256(bytes)));
            }
            set("x-linked-size", bytes.len().to_string());
            set("location", format!("{}/storage/{name}", self.storage));
            return (StatusCode::FOUND, headers).into_response();
        }
        if self.mood != Mood::NoEtag {
            // Weak, as after a compressing proxy.
            set("etag", format!("W/\"{}\"", &sha256(bytes)[..40]));
        }
        (headers, bytes.clone()).into_response()
    }

    /// The bytes of a large file from `start` on.
    fn stored(&self, name: &str, start: usize, earlier: usize) -> Response {
        let Some(whole) = self.files.get(name) else { return says(404, "", "") };
        let start = if self.mood == Mood::NoRanges { 0 } else { start };
        let mut bytes = whole[start..].to_vec();
        if self.mood == Mood::Damages {
            bytes.iter_mut().for_each(|byte| *byte ^= 1);
        }
        let sent = match self.mood {
            Mood::Breaks(after) => after.min(bytes.len()),
            Mood::NoRanges if earlier == 0 => bytes.len() / 2,
            _ => bytes.len(),
        };
        let status = if start > 0 { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
        let length = [(header::CONTENT_LENGTH, bytes.len().to_string())];
        let breaks = sent < bytes.len();
        bytes.truncate(sent);
        let sent = stream::once(async move { Ok(Bytes::from(bytes)) });
        let broken = stream::once(async move {
            // A pending body is flushed, so what came before the break arrives.
            tokio::task::yield_now().await;
            Err(io::Error::other("broken off"))
        });
        let body = sent.chain(broken.take(usize::from(breaks)));
        (status, length, Body::from_stream(body)).into_response()
    }
}
