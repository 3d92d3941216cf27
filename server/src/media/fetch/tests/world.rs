//! An in-memory network of names and servers, for the tests of fetching.
//!
//! Must not know: what is tested.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, duplex};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::super::super::budget::HeldBytes;
use super::super::super::network::Pending;
use super::super::*;

pub const PUBLIC: &str = "93.184.216.34";
pub const FILE: &[u8] = b"\x89PNG not really";

/// What a server does once it has read a request's head.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Sends this and closes the connection.
    Bytes(Vec<u8>),
    /// Sends this and then nothing, leaving the connection open.
    Stall(Vec<u8>),
    /// Sends this and then single bytes forever, at intervals.
    Drip(Vec<u8>),
}

impl Reply {
    pub fn text(text: &str) -> Self {
        Self::Bytes(text.as_bytes().to_vec())
    }

    pub fn file() -> Self {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", FILE.len());
        Self::Bytes([head.as_bytes(), FILE].concat())
    }

    pub fn moved(to: &str) -> Self {
        Self::text(&format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n"))
    }
}

/// Names, servers, and a log of what was requested.
#[derive(Debug, Default)]
pub struct World {
    /// IP addresses of names: the answers to successive lookups, the last of which is repeated.
    pub names: Mutex<HashMap<String, Vec<Vec<IpAddr>>>>,
    /// Replies by `Host` and path.
    pub replies: BTreeMap<String, Reply>,
    /// TLS of the servers, on port 443.
    pub tls: Option<Arc<ServerConfig>>,
    /// Names that were resolved and addresses that were connected to.
    pub log: Mutex<Vec<String>>,
    /// The heads of requests.
    pub heads: Mutex<Vec<String>>,
    pub open: AtomicUsize,
    pub open_most: AtomicUsize,
}

#[derive(Debug, Clone)]
pub struct Fake(pub Arc<World>);

impl Connector for Fake {
    fn resolve<'a>(&'a self, name: &'a str) -> Pending<'a, Vec<IpAddr>> {
        self.0.log.lock().expect("no panic").push(name.to_owned());
        let mut names = self.0.names.lock().expect("no panic");
        let found = names.get_mut(name).map(|answers| match answers.len() {
            0 | 1 => answers.first().cloned().unwrap_or_default(),
            _ => answers.remove(0),
        });
        Box::pin(async move { found.ok_or_else(|| std::io::Error::other("no such name")) })
    }

    fn connect(&self, address: SocketAddr) -> Pending<'_, Box<dyn Stream>> {
        self.0.log.lock().expect("no panic").push(address.to_string());
        let (ours, theirs) = duplex(64 * 1024);
        let world = self.0.clone();
        tokio::spawn(async move {
            match (&world.tls, address.port()) {
                (Some(config), 443) => {
                    let acceptor = TlsAcceptor::from(config.clone());
                    // A client that does not trust the server disconnects.
                    if let Ok(stream) = acceptor.accept(theirs).await {
                        world.serve(stream).await;
                    }
                }
                _ => world.serve(theirs).await,
            }
        });
        Box::pin(async move { Ok(Box::new(ours) as Box<dyn Stream>) })
    }
}

impl World {
    pub async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.open_most.fetch_max(open, Ordering::SeqCst);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let head = String::from_utf8(head).expect("text");
        let path = head.split(' ').nth(1).expect("a path").to_owned();
        let host = head.lines().find_map(|line| line.strip_prefix("host: ")).expect("a host");
        let reply = self.replies.get(&format!("{host}{path}"));
        let reply = reply.unwrap_or_else(|| panic!("nothing is at {host}{path}")).clone();
        self.heads.lock().expect("no panic").push(head);
        // Writing fails once the client has disconnected, as it may.
        match reply {
            Reply::Bytes(bytes) => {
                // Before the client can have all bytes and the next one connects.
                self.open.fetch_sub(1, Ordering::SeqCst);
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
            }
            Reply::Stall(bytes) => {
                let _ = stream.write_all(&bytes).await;
                std::future::pending::<()>().await;
            }
            Reply::Drip(bytes) => {
                let _ = stream.write_all(&bytes).await;
                let mut pace = tokio::time::interval(Duration::from_millis(2));
                while stream.write_all(b"x").await.is_ok() {
                    pace.tick().await;
                }
            }
        }
    }

    /// Lookups and connections since the last call.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock().expect("no panic"))
    }
}

pub fn addresses(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|text| text.parse().expect("an address")).collect()
}

pub fn world(names: &[(&str, &[&str])], replies: &[(&str, Reply)]) -> World {
    let names = names.iter().map(|(name, list)| ((*name).to_owned(), vec![addresses(list)]));
    World {
        names: Mutex::new(names.collect()),
        replies: replies.iter().map(|(at, reply)| ((*at).to_owned(), reply.clone())).collect(),
        ..World::default()
    }
}

pub fn settings(allowed: &[&str]) -> MediaSettings {
    MediaSettings {
        allowed_hosts: allowed.iter().map(|text| (*text).to_owned()).collect(),
        file_bytes_max: 1000,
        fetch_timeout: Duration::from_secs(60),
        ..MediaSettings::default()
    }
}

/// The share of the only client.
pub fn share() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(Semaphore::MAX_PERMITS))
}

impl FetchClient {
    /// Fetches the file at a URL, in a request of its own.
    pub async fn fetch(&self, address: &str) -> Result<Vec<u8>, SourceError> {
        let held = Arc::new(HeldBytes::new(usize::MAX));
        self.fetch_within(address, &MediaBudget::new(usize::MAX, 1, share(), &held)).await
    }
}

pub fn client(world: World, settings: &MediaSettings) -> (FetchClient, Arc<World>) {
    let world = Arc::new(world);
    (FetchClient::on(Box::new(Fake(world.clone())), tls(), settings), world)
}

/// A server's TLS configuration for a name, and root certificates that trust it.
pub fn certified(name: &str) -> (Arc<ServerConfig>, RootCertStore) {
    let certified = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into());
    let provider = tokio_rustls::rustls::crypto::ring::default_provider();
    let config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .expect("a server");
    let mut roots = RootCertStore::empty();
    roots.add(certified.cert.der().clone()).expect("a certificate");
    (Arc::new(config), roots)
}
