//! API keys in the headers of requests.
//!
//! Must not know: routes, settings.

use axum::http::{HeaderMap, header};
use subtle::ConstantTimeEq as _;

/// The key of an `Authorization` header: after the scheme `Bearer` in any case (RFC 9110, 11.1), or
/// bare, as some clients send it.
pub fn sent_key(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes().trim_ascii();
    match value.split_first_chunk::<6>() {
        Some((scheme, [])) if scheme.eq_ignore_ascii_case(b"bearer") => Some(b""),
        Some((scheme, [b' ' | b'\t', key @ ..])) if scheme.eq_ignore_ascii_case(b"bearer") => {
            Some(key.trim_ascii_start())
        }
        _ => Some(value),
    }
}

/// Whether a request carries one of these keys, or none is required; every key is compared in
/// constant time.
pub fn has_key(keys: &[String], headers: &HeaderMap) -> bool {
    let sent = sent_key(headers).unwrap_or_default();
    let valid =
        keys.iter().fold(false, |valid, key| valid | bool::from(key.as_bytes().ct_eq(sent)));
    valid || keys.is_empty()
}
