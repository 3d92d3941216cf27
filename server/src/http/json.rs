//! JSON of bodies.
//!
//! Must not know: any dialect's bodies.

use axum::body::Bytes;
use serde::de::DeserializeOwned;

use super::{Failure, surrogates};

/// Bytes of JSON above which reading or writing it moves to another thread.
pub const OFF_LOOP_BYTES: usize = 256 * 1024;
/// What some programs put before UTF-8; RFC 8259 (8.1) lets parsers ignore it.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// JSON of a body, read on another thread if it is large.
///
/// # Errors
/// If it is not the JSON expected.
pub async fn parse_body<T: DeserializeOwned + Send + 'static>(bytes: Bytes) -> Result<T, Failure> {
    if bytes.len() > OFF_LOOP_BYTES {
        let parse = move || parse(&bytes);
        tokio::task::spawn_blocking(parse).await.unwrap_or(Err(Failure::Bug))
    } else {
        parse(&bytes)
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    let json = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    serde_json::from_slice(json).map_err(|error| match surrogates::at(json, &error) {
        // It is JSON, but no text.
        Some(found) => Failure::body(found.to_string()),
        None => Failure::Body {
            message: format!("the request body is not the JSON expected: {error}"),
            syntax: !error.is_data(),
        },
    })
}
