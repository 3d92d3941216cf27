//! DNS, connections and TLS for fetching files.
//!
//! Must not know: HTTP, which hosts are allowed.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use url::Host;

use super::allow::literal;

/// A future result of network I/O.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// A connection.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Resolves names and connects. Tests have their own.
pub trait Connector: fmt::Debug + Send + Sync {
    /// The IP addresses of a name.
    fn resolve<'a>(&'a self, name: &'a str) -> Pending<'a, Vec<IpAddr>>;

    /// Connects to an IP address and port.
    fn connect(&self, address: SocketAddr) -> Pending<'_, Box<dyn Stream>>;
}

/// This machine's network; no proxy, whatever the environment says.
#[derive(Debug)]
pub struct Tcp;

impl Connector for Tcp {
    fn resolve<'a>(&'a self, name: &'a str) -> Pending<'a, Vec<IpAddr>> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }

    fn connect(&self, address: SocketAddr) -> Pending<'_, Box<dyn Stream>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

/// TLS that trusts the certificate authorities browsers trust. They are compiled in, so that TLS
/// works in container images without any.
pub fn tls() -> TlsConnector {
    tls_trusting(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect())
}

/// TLS that trusts these certificate authorities.
pub fn tls_trusting(roots: RootCertStore) -> TlsConnector {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has the suites of both versions");
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    TlsConnector::from(Arc::new(config))
}

/// Wraps a connection in TLS and verifies the host's certificate.
///
/// # Errors
/// A certificate that is not valid for this host, a server without TLS.
pub async fn secured(
    tls: &TlsConnector,
    host: &Host<String>,
    stream: Box<dyn Stream>,
) -> io::Result<Box<dyn Stream>> {
    let name = match (literal(host), host) {
        (Some(address), _) => ServerName::from(address),
        (None, name) => ServerName::try_from(name.to_string()).map_err(io::Error::other)?,
    };
    Ok(Box::new(tls.connect(name, stream).await?))
}
