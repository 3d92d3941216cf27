//! Files within a request's text: data URIs and base64.
//!
//! Must not know: the network, what the bytes show.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::SourceError;

/// Standard base64 as leniently as common decoders read it: padding may lack, and the bits that
/// the last letter has too many may be anything.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A scheme is at most this long; what is longer before a colon is no address.
const SCHEME_BYTES_MAX: usize = 32;

/// What the text of a media source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source<'a> {
    /// What follows `data:`.
    Data(&'a str),
    /// An address with a scheme.
    Address(&'a str),
    /// Nothing but base64.
    Base64(&'a str),
}

impl<'a> Source<'a> {
    /// What a text is; base64 is not looked into.
    pub fn of(text: &'a str) -> Result<Self, SourceError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(wrong("the media is empty"));
        }
        // No letter of base64 is a colon.
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
            false => Err(wrong("the media is neither an address nor base64")),
        }
    }
}

/// The bytes of a data URI, of which `data:` is cut off.
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

/// The bytes that base64 stands for: standard or URL-safe, padded or not, in lines or not.
pub fn base64(text: &str, limit: usize) -> Result<Vec<u8>, SourceError> {
    let text = standard(text);
    let letters = text.iter().rev().skip_while(|byte| **byte == b'=').count();
    // Known before memory is taken for it.
    if letters / 4 * 3 + (letters % 4).saturating_sub(1) > limit {
        return Err(SourceError::TooLarge { limit });
    }
    if letters == 0 {
        return Err(wrong("the media is empty"));
    }
    LENIENT.decode(&text).map_err(|error| wrong(&format!("the media is not base64: {error}")))
}

/// The letters of standard base64 for those of the URL-safe one, without white space.
fn standard(text: &str) -> Cow<'_, [u8]> {
    let odd = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'-' | b'_');
    if !text.as_bytes().iter().any(odd) {
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
