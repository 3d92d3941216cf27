//! Files inside a request's text: data URIs and base64.
//!
//! Must not know: the network, what the bytes contain.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::SourceError;

/// Standard base64, read as leniently as by common decoders: padding is optional, and surplus bits
/// of the last character are ignored.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The colon after a URL's scheme is within this many bytes.
const SCHEME_BYTES_MAX: usize = 32;

/// The text of a media source, by its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceText<'a> {
    /// A data URI, without its `data:`.
    Data(&'a str),
    /// A URL.
    Address(&'a str),
    /// Base64, not validated.
    Base64(&'a str),
}

impl<'a> SourceText<'a> {
    /// Classifies a text; base64 is not validated.
    pub fn of(text: &'a str) -> Result<Self, SourceError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(wrong("the media is empty"));
        }
        // Base64 has no colons.
        let Some(colon) = text.bytes().take(SCHEME_BYTES_MAX).position(|byte| byte == b':') else {
            return Ok(Self::Base64(text));
        };
        let scheme = &text[..colon];
        if scheme.eq_ignore_ascii_case("data") {
            return Ok(Self::Data(&text[colon + 1..]));
        }
        let mut letters = scheme.bytes();
        let begins = letters.next().is_some_and(|byte| byte.is_ascii_alphabetic());
        let rest = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        match begins && letters.all(rest) {
            true => Ok(Self::Address(text)),
            false => Err(wrong("the media is neither a URL nor base64")),
        }
    }
}

/// Decodes a data URI, given without its `data:`.
pub fn data_uri(rest: &str, limit: usize) -> Result<Vec<u8>, SourceError> {
    let Some((head, data)) = rest.split_once(',') else {
        return Err(wrong("the data URI has no comma"));
    };
    let encoding = head.rsplit(';').next().unwrap_or_default().trim();
    if !head.contains(';') || !encoding.eq_ignore_ascii_case("base64") {
        return Err(wrong("the data URI is not in base64 (\";base64\" before the comma)"));
    }
    match base64(data, limit)? {
        bytes if bytes.is_empty() => Err(wrong("the data URI is empty")),
        bytes => Ok(bytes),
    }
}

/// Decodes base64: standard or URL-safe, with or without padding and whitespace.
pub fn base64(text: &str, limit: usize) -> Result<Vec<u8>, SourceError> {
    let text = standard(text);
    let letters = text.iter().rev().skip_while(|byte| **byte == b'=').count();
    // Checked before memory is allocated.
    if letters / 4 * 3 + (letters % 4).saturating_sub(1) > limit {
        return Err(SourceError::TooLarge { limit });
    }
    if letters == 0 {
        return Err(wrong("the media is empty"));
    }
    LENIENT.decode(&text).map_err(|error| wrong(&format!("the media is not base64: {error}")))
}

/// Converts URL-safe to standard base64 and removes whitespace.
fn standard(text: &str) -> Cow<'_, [u8]> {
    if !text.bytes().any(|byte| byte.is_ascii_whitespace() || matches!(byte, b'-' | b'_')) {
        return Cow::Borrowed(text.as_bytes());
    }
    let letters = text.bytes().filter(|byte| !byte.is_ascii_whitespace());
    let letters = letters.map(|byte| match byte {
        b'-' => b'+',
        b'_' => b'/',
        other => other,
    });
    Cow::Owned(letters.collect())
}

fn wrong(problem: &str) -> SourceError {
    SourceError::Text { problem: problem.to_owned() }
}
