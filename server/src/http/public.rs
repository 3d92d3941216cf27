//! Paths that everyone may request.
//!
//! Must not know: what they answer.

use axum::extract::Request;
use axum::http::Method;

/// Paths that need no key: they reveal only whether and how the server works.
const PUBLIC: [&str; 10] = [
    "/health",
    "/ping",
    "/livez",
    "/readyz",
    "/.well-known/live",
    "/.well-known/ready",
    "/metrics",
    "/docs",
    "/openapi.json",
    "/api-doc/openapi.json",
];

/// Whether a path needs no key.
pub fn needs_no_key(path: &str) -> bool {
    PUBLIC.contains(&path) || path.starts_with("/readyz/")
}

/// Whether a request needs no key.
pub fn is_public(request: &Request) -> bool {
    let path = request.uri().path();
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    needs_no_key(path) || (path == "/" && reads)
}
