//! Downloads from a hub on this machine that behaves, and misbehaves, as told.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::*;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A hub with the files of one repository.
#[derive(Clone)]
struct FakeHub {
    address: String,
    files: Arc<BTreeMap<String, Vec<u8>>>,
    /// Answered instead of anything, if given.
    status: Option<u16>,
    /// Sent instead of a file's bytes, if given.
    damage: bool,
    /// First lines and authorization of the requests.
    requests: Arc<Mutex<Vec<String>>>,
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl FakeHub {
    fn start(files: &[(&str, &[u8])], status: Option<u16>, damage: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let files = files.iter().map(|(name, bytes)| ((*name).into(), bytes.to_vec())).collect();
        let hub = Self {
            address: format!("http://{}", listener.local_addr().expect("an address")),
            files: Arc::new(files),
            status,
            damage,
            requests: Arc::default(),
        };
        let serving = hub.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that breaks off is its own business.
                let _ = serving.answer(stream);
            }
        });
        hub
    }

    fn answer(&self, stream: TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(&stream);
        let (mut first, mut range, mut key) = (String::new(), None, String::new());
        reader.read_line(&mut first)?;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let line = line.trim().to_ascii_lowercase();
            if line.is_empty() {
                break;
            } else if let Some(value) = line.strip_prefix("range: bytes=") {
                range = value.split_once('-').map(|(from, to)| (from.to_owned(), to.to_owned()));
            } else if let Some(value) = line.strip_prefix("authorization: ") {
                key = value.to_owned();
            }
        }
        let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
        let asked = range.as_ref().map_or(String::new(), |(from, to)| format!("{from}-{to}"));
        let note = format!("{path} {asked} {key}").trim().to_owned();
        self.requests.lock().expect("no panic").push(note);
        let mut stream = &stream;
        let respond = |stream: &mut &TcpStream, head: String, body: &[u8]| {
            let length = body.len();
            let head =
                format!("HTTP/1.1 {head}content-length: {length}\r\nconnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body))
        };
        if let Some(status) = self.status {
            return respond(&mut stream, format!("{status} No\r\n"), b"");
        }
        if path.starts_with("/api/models/") {
            let siblings: Vec<_> =
                self.files.keys().map(|name| serde_json::json!({ "rfilename": name })).collect();
            let info = serde_json::json!({ "sha": COMMIT, "siblings": siblings }).to_string();
            return respond(&mut stream, "200 OK\r\n".into(), info.as_bytes());
        }
        let name = path.split("/resolve/main/").nth(1).unwrap_or_default();
        let Some(bytes) = self.files.get(name) else {
            return respond(&mut stream, "404 Not Found\r\n".into(), b"");
        };
        let from: usize = range.as_ref().and_then(|(from, _)| from.parse().ok()).unwrap_or(0);
        let last = range.as_ref().and_then(|(_, to)| to.parse().ok()).unwrap_or(bytes.len() - 1);
        let head = format!(
            "206 Partial Content\r\netag: \"{}\"\r\nx-repo-commit: {COMMIT}\r\ncontent-range: bytes {from}-{last}/{}\r\n",
            sha256(bytes),
            bytes.len()
        );
        let mut part = bytes[from..=last].to_vec();
        if self.damage && last > 0 {
            part.iter_mut().for_each(|byte| *byte ^= 1);
        }
        respond(&mut stream, head, &part)
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.requests.lock().expect("no panic"))
    }
}

fn settings(endpoint: &str, cache: &Path, offline: bool) -> HubSettings {
    HubSettings {
        cache: cache.to_owned(),
        endpoint: Some(endpoint.to_owned()),
        token: Some("secret".into()),
        offline,
    }
}

const FILES: [(&str, &[u8]); 6] = [
    ("config.json", b"{\"model_type\": \"bert\"}"),
    ("tokenizer.json", b"{}"),
    ("model.safetensors", b"0123456789012345678901234567890123456789"),
    ("1_Pooling/config.json", b"{\"pooling\": 1}"),
    ("onnx/model.onnx", b"never needed"),
    ("pytorch_model.bin", b"never needed either"),
];

#[test]
fn a_model_is_downloaded_once_and_then_needs_no_network() {
    let (hub, cache) =
        (FakeHub::start(&FILES, None, false), tempfile::tempdir().expect("a temporary folder"));
    let online = Hub::new(&settings(&hub.address, cache.path(), false));
    let folder = online.pull("owner/name", "main").expect("downloaded");
    for (name, bytes) in &FILES[..4] {
        assert_eq!(&fs::read(folder.join(name)).expect("a file"), bytes, "{name}");
    }
    let asked = hub.asked();
    assert!(asked.iter().all(|line| line.ends_with("bearer secret")), "{asked:?}");
    assert!(!asked.iter().any(|line| line.contains("onnx") || line.contains(".bin")));
    assert_eq!(online.pull("owner/name", "main"), Ok(folder.clone()));
    let offline = Hub::new(&settings("http://127.0.0.1:1", cache.path(), true));
    assert_eq!(offline.pull("owner/name", "main"), Ok(folder));
    assert_eq!(hub.asked(), Vec::<String>::new(), "what is there is not asked for");
    let missing = offline.pull("owner/other", "main").expect_err("not there");
    assert!(missing.message.contains("proxima pull owner/other"), "{}", missing.message);
}

#[test]
fn a_broken_download_goes_on_where_it_stopped() {
    let (hub, cache) =
        (FakeHub::start(&FILES, None, false), tempfile::tempdir().expect("a temporary folder"));
    let blobs = cache.path().join("models--owner--name/blobs");
    fs::create_dir_all(&blobs).expect("made");
    let (_, bytes) = FILES[2];
    fs::write(blobs.join(format!("{}.part", sha256(bytes))), &bytes[..25]).expect("written");
    let folder = Hub::new(&settings(&hub.address, cache.path(), false)).pull("owner/name", "main");
    let weights = fs::read(folder.expect("downloaded").join("model.safetensors"));
    assert_eq!(weights.expect("a file"), bytes);
    let resumed = hub.asked().into_iter().any(|line| line.contains("model.safetensors 25-"));
    assert!(resumed, "only the rest was asked for");
}

#[test]
fn a_damaged_download_is_refused_and_removed() {
    let (hub, cache) =
        (FakeHub::start(&FILES, None, true), tempfile::tempdir().expect("a temporary folder"));
    let online = Hub::new(&settings(&hub.address, cache.path(), false));
    let error = online.pull("owner/name", "main").expect_err("refused");
    assert!(error.message.contains("damaged"), "{}", error.message);
    let blobs = fs::read_dir(cache.path().join("models--owner--name/blobs")).expect("a folder");
    let kept = blobs.flatten().filter(|entry| entry.metadata().is_ok_and(|data| data.len() > 0));
    assert_eq!(kept.filter(|entry| !entry.path().to_string_lossy().ends_with("lock")).count(), 0);
}

#[test]
fn what_the_hub_refuses_is_explained() {
    let cache = tempfile::tempdir().expect("a temporary folder");
    let pull = |hub: &FakeHub, id: &str| {
        let hub = Hub::new(&settings(&hub.address, cache.path(), false));
        hub.pull(id, "main").expect_err("refused").message
    };
    let refused = FakeHub::start(&FILES, Some(401), false);
    assert!(pull(&refused, "owner/name").contains("HF_TOKEN"));
    let unknown = FakeHub::start(&FILES, Some(404), false);
    assert!(pull(&unknown, "owner/name").contains("no model owner/name"));
    let old = FakeHub::start(&[FILES[0], FILES[5]], None, false);
    assert!(pull(&old, "owner/name").contains("no safetensors"));
    for id in ["../etc", "a/b/c", "", "owner/.hidden", "own er/name", "a/b..c"] {
        assert!(pull(&old, id).contains("not a model id"), "{id}");
    }
    let gone = Hub::new(&settings("http://127.0.0.1:1", cache.path(), false));
    let error = gone.pull("owner/name", "main").expect_err("refused");
    assert!(error.message.contains("check the network"), "{}", error.message);
}
