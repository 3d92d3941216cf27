//! The heads of requests: their host (RFC 9112, 3.2) and their transfer coding.
//!
//! Must not know: which hosts there are.

use std::net::Ipv6Addr;

use axum::Router;
use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri, Version, header};
use axum::middleware::{self, Next};
use axum::response::Response;

use super::Failure;
use super::unshaped::unshaped;
use crate::noted::note_failure;

/// A router that answers 400 to HTTP/1.1 requests without exactly one valid `Host`, and to request
/// targets with an invalid host. HTTP/1.0 allows requests without `Host`, such as HAProxy's health
/// checks; HTTP/2 has an authority instead. Bodies in a transfer coding other than `chunked` get
/// 501: hyper does not decode them.
pub fn required(router: Router) -> Router {
    router.layer(middleware::from_fn(require))
}

async fn require(request: Request, next: Next) -> Response {
    let (version, uri, headers) = (request.version(), request.uri(), request.headers());
    let failure = match problem(version, headers).or_else(|| authority_problem(uri)) {
        Some(problem) => Failure::Malformed { message: problem.into() },
        None => match transfer_coding(headers) {
            Some(coding) => Failure::TransferCoding { coding },
            None => return next.run(request).await,
        },
    };
    note_failure(&failure);
    unshaped(uri.path(), &failure)
}

/// What is wrong with the host of a request target, if it has one.
fn authority_problem(uri: &Uri) -> Option<&'static str> {
    let authority = uri.authority().map(Authority::as_str)?;
    (!is_host(authority)).then_some("the request's URL has no valid host and port")
}

/// The transfer codings of a body, if they are not a single `chunked` (RFC 9112, 6.1).
fn transfer_coding(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all(header::TRANSFER_ENCODING).iter();
    let values: Vec<_> = values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    let whole = values.join(", ");
    let mut codings = whole.split(',').map(str::trim).filter(|coding| !coding.is_empty());
    match (codings.next(), codings.next()) {
        (None, _) => None,
        (Some(coding), None) if coding.eq_ignore_ascii_case("chunked") => None,
        _ => Some(format!("{whole:.40}")),
    }
}

fn problem(version: Version, headers: &HeaderMap) -> Option<&'static str> {
    if version != Version::HTTP_11 {
        return None;
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => Some("an HTTP/1.1 request needs a Host header"),
        (Some(_), Some(_)) => Some("a request may have only one Host header"),
        // A request whose target has no host sends an empty one.
        (Some(host), None) if host.is_empty() || host.to_str().is_ok_and(is_host) => None,
        (Some(_), None) => Some("the Host header is not a host with an optional port"),
    }
}

/// Whether a text is a host with an optional port (RFC 3986, 3.2.2 and 3.2.3).
fn is_host(text: &str) -> bool {
    let (name, port) = match text.strip_prefix('[') {
        Some(literal) => {
            let Some((address, rest)) = literal.split_once(']') else { return false };
            let good = address.parse::<Ipv6Addr>().is_ok() || is_later_address(address);
            let port = match rest.strip_prefix(':') {
                None if rest.is_empty() => "",
                None => return false,
                Some(port) => port,
            };
            (good, port)
        }
        None => {
            let (name, port) = text.split_once(':').unwrap_or((text, ""));
            (!name.is_empty() && is_name(name), port)
        }
    };
    // A port may be empty.
    name && port.bytes().all(|byte| byte.is_ascii_digit())
        && (port.is_empty() || port.parse::<u16>().is_ok())
}

/// Whether it is a name or an IPv4 address: letters, digits, some punctuation, and percent-encoded
/// bytes.
fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    while let Some(byte) = bytes.next() {
        let good = match byte {
            b'%' => (0..2).all(|_| bytes.next().is_some_and(|digit| digit.is_ascii_hexdigit())),
            byte => is_of_name(byte),
        };
        if !good {
            return false;
        }
    }
    true
}

/// Whether it is an address of a future IP version: `v1.a`.
fn is_later_address(address: &str) -> bool {
    let rest = address.strip_prefix(['v', 'V']).and_then(|rest| rest.split_once('.'));
    rest.is_some_and(|(version, rest)| {
        let version = !version.is_empty() && version.bytes().all(|digit| digit.is_ascii_hexdigit());
        version && !rest.is_empty() && rest.bytes().all(|byte| byte == b':' || is_of_name(byte))
    })
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn of(version: Version, hosts: &[&'static str]) -> Option<&'static str> {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(header::HOST, HeaderValue::from_static(host));
        }
        problem(version, &headers)
    }

    #[test]
    fn a_request_in_http_1_1_has_one_valid_host() {
        for right in [
            "localhost",
            "example.com:8080",
            "127.0.0.1:80",
            "[::1]:8080",
            "[::1]",
            "[v1.a:b]:1",
            "",
            "a_b",
            "a:",
            "a%20b",
            "a:65535",
        ] {
            assert_eq!(of(Version::HTTP_11, &[right]), None, "{right}");
        }
        for wrong in [&[][..], &["a", "a"]] {
            assert!(of(Version::HTTP_11, wrong).is_some(), "{wrong:?}");
        }
        for wrong in [
            "a b",
            "user@host",
            "host/path",
            "[::1",
            "::1",
            "[::1]a",
            "[::1]80",
            "[a]",
            "[]",
            "[v1.]",
            "a:99999",
            "a:65536",
            "a:b",
            "a:-1",
            "a:+1",
            "a:1:2",
            ":80",
            ":",
            "a]",
            "a[",
            "a%2",
            "a%zz",
            "a,b:c",
            "a\\b",
        ] {
            assert!(of(Version::HTTP_11, &[wrong]).is_some(), "{wrong:?}");
        }
        for other in [Version::HTTP_10, Version::HTTP_2] {
            assert_eq!(of(other, &[]), None, "{other:?}");
        }
    }

    #[test]
    fn hosts_of_addresses_are_valid_too() {
        for (uri, right) in [
            ("http://a:80/embed", true),
            ("/embed", true),
            ("http://a:99999/", false),
            ("http://me@a/", false),
        ] {
            assert_eq!(authority_problem(&Uri::from_static(uri)).is_none(), right, "{uri}");
        }
    }

    #[test]
    fn chunked_is_the_one_transfer_coding() {
        for (values, coding) in [
            (&[][..], None),
            (&["chunked"], None),
            (&["Chunked"], None),
            (&["gzip, chunked"], Some("gzip, chunked")),
            (&["gzip", "chunked"], Some("gzip, chunked")),
            (&["chunked, chunked"], Some("chunked, chunked")),
            (&["identity"], Some("identity")),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::TRANSFER_ENCODING, HeaderValue::from_static(value));
            }
            assert_eq!(transfer_coding(&headers).as_deref(), coding, "{values:?}");
        }
    }
}
