//! The `Host` of HTTP/1.1 requests (RFC 9112, 3.2).
//!
//! Must not know: which hosts there are.

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, Version, header};
use axum::middleware::{self, Next};
use axum::response::Response;

use super::Failure;
use crate::dialects;

/// A router that answers 400 to requests in HTTP/1.1 without exactly one valid `Host`. HTTP/1.0 has
/// requests without one, such as HAProxy's health checks; HTTP/2 has an authority instead.
pub fn required(router: Router) -> Router {
    router.layer(middleware::from_fn(require))
}

async fn require(request: Request, next: Next) -> Response {
    match problem(request.version(), request.headers()) {
        None => next.run(request).await,
        Some(problem) => {
            let failure = Failure::Malformed { message: problem.into() };
            dialects::failure_at(request.uri().path(), &failure)
        }
    }
}

fn problem(version: Version, headers: &HeaderMap) -> Option<&'static str> {
    if version != Version::HTTP_11 {
        return None;
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => Some("a request in HTTP/1.1 needs a Host header"),
        (Some(_), Some(_)) => Some("a request may have one Host header only"),
        // A request whose address has no host has an empty one.
        (Some(host), None) if host.as_bytes().iter().all(|byte| is_of_host(*byte)) => None,
        (Some(_), None) => Some("the Host header is not a host with an optional port"),
    }
}

/// Whether a byte may be in a host (RFC 3986, 3.2.2) or between it and a port.
fn is_of_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&byte)
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
        for right in ["localhost", "example.com:8080", "127.0.0.1:80", "[::1]:8080", "", "a_b"] {
            assert_eq!(of(Version::HTTP_11, &[right]), None, "{right}");
        }
        for wrong in [&[][..], &["a", "a"], &["a b"], &["user@host"], &["host/path"]] {
            assert!(of(Version::HTTP_11, wrong).is_some(), "{wrong:?}");
        }
        for other in [Version::HTTP_10, Version::HTTP_2] {
            assert_eq!(of(other, &[]), None, "{other:?}");
        }
    }
}
