//! Which web pages may call the server, by `Origin`, `Sec-Fetch-*` and `Host`.
//!
//! Must not know: layers, other settings.

use std::net::IpAddr;

use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use url::Url;

/// Sent by browsers: how the calling page relates to the server (Fetch Metadata).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// The mode of the request, and the destination of its response.
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// The web pages that may call the server from a browser.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BrowserSettings {
    /// Allowed origins, as browsers write them.
    pub origins: Origins,
    /// Names of this server, in lower case, besides loopback names; a name with a port is valid
    /// only with that port.
    pub hosts: Vec<String>,
}

/// Origins of pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// Any.
    All,
    /// These.
    These(Vec<String>),
}

impl Default for Origins {
    fn default() -> Self {
        Self::These(Vec::new())
    }
}

impl Origins {
    /// Whether an origin is among them.
    pub fn have(&self, origin: &[u8]) -> bool {
        match self {
            Self::All => true,
            Self::These(origins) => origins.iter().any(|allowed| allowed.as_bytes() == origin),
        }
    }
}

impl BrowserSettings {
    /// The settings of `--cors-allow-origin` and `--allowed-host`.
    ///
    /// # Errors
    /// An invalid origin or host, as a sentence.
    pub fn parse(origins: &[String], hosts: &[String]) -> Result<Self, String> {
        let host = |host: &String| match host.parse::<Authority>() {
            Ok(authority) if !host.contains('@') && !authority.host().is_empty() => {
                Ok(host.to_ascii_lowercase())
            }
            _ => Err(format!("allowed-host {host:?} is not a host name with an optional port")),
        };
        let hosts = hosts.iter().map(host).collect::<Result<_, _>>()?;
        if origins.iter().any(|origin| origin == "*") {
            return Ok(Self { origins: Origins::All, hosts });
        }
        let origins = origins.iter().map(|text| origin(text)).collect::<Result<_, _>>()?;
        Ok(Self { origins: Origins::These(origins), hosts })
    }

    /// Whether a request comes from a page that may not call the server.
    pub fn refuse(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> bool {
        let (origin, site) = (headers.get(header::ORIGIN), headers.get(SEC_FETCH_SITE));
        let allowed = match (origin, site) {
            // Browsers always send at least one of them.
            (None, None) => return false,
            (Some(origin), _) => self.origins.have(origin.as_bytes()),
            (None, Some(_)) => self.origins == Origins::All,
        };
        let host = uri.authority().map(Authority::as_str);
        let host = host.or_else(|| headers.get(header::HOST)?.to_str().ok());
        let own = |host: &str| {
            let by_origin = origin.is_none_or(|origin| is_origin_of(origin, host));
            let by_site =
                site.is_none_or(|site| matches!(site.as_bytes(), b"same-origin" | b"none"));
            ((by_origin && by_site) || is_visit(method, headers)) && self.is_served_as(host)
        };
        !allowed && !host.is_some_and(own)
    }

    /// Whether a `Host` is a loopback name or one of the allowed hosts.
    fn is_served_as(&self, host: &str) -> bool {
        let Ok(authority) = host.parse::<Authority>() else { return false };
        let name = authority.host().trim_end_matches('.').to_ascii_lowercase();
        let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let loopback = match address {
            Ok(address) => address.is_loopback(),
            Err(_) => name == "localhost" || name.ends_with(".localhost"),
        };
        let whole = host.to_ascii_lowercase();
        loopback || self.hosts.iter().any(|known| *known == name || *known == whole)
    }
}

/// Whether a browser opens the address as a page of its own, as when a user follows a link. The
/// linking page cannot read the response, and a `GET` changes nothing and runs no model.
fn is_visit(method: &Method, headers: &HeaderMap) -> bool {
    let is = |name: &HeaderName, value: &str| headers.get(name).is_some_and(|sent| sent == value);
    let reads = matches!(*method, Method::GET | Method::HEAD);
    reads
        && is(&SEC_FETCH_MODE, "navigate")
        // A frame within another page does not count.
        && is(&SEC_FETCH_DEST, "document")
        && !headers.contains_key(header::ORIGIN)
}

/// An origin as browsers write it: lower case, without the default port of its scheme.
fn origin(text: &str) -> Result<String, String> {
    let wrong = || format!("cors-allow-origin {text:?} is not an origin like https://example.com");
    if text == "null" {
        return Ok(text.to_owned());
    }
    let url = Url::parse(text).map_err(|_| wrong())?;
    let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    if !bare || !url.has_host() || !url.username().is_empty() || url.password().is_some() {
        return Err(wrong());
    }
    match url.origin() {
        known @ url::Origin::Tuple(..) => Ok(known.ascii_serialization()),
        // Browser extensions, for example.
        url::Origin::Opaque(_) => Ok(text.trim_end_matches('/').to_owned()),
    }
}

/// Whether an origin has this host and port, whatever its scheme: a proxy may terminate TLS.
fn is_origin_of(origin: &HeaderValue, host: &str) -> bool {
    let parsed = origin.to_str().ok().and_then(|text| Url::parse(text).ok());
    let (Some(url), Ok(authority)) = (parsed, host.parse::<Authority>()) else { return false };
    let name = url.host_str().unwrap_or_default();
    let default = if url.scheme() == "https" { 443 } else { 80 };
    name.eq_ignore_ascii_case(authority.host())
        && url.port_or_known_default() == Some(authority.port_u16().unwrap_or(default))
}

#[cfg(test)]
mod tests;
