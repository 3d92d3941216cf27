//! Bodies that come compressed (`Content-Encoding`): gzip and zstd are decoded as they are read, so
//! all limits of bodies count what is decoded; other codings are refused.
//!
//! Must not know: what is in a body.

use std::fmt;
use std::io::Write as _;
use std::sync::Arc;

use axum::body::{Body, BodyDataStream, Bytes, HttpBody as _};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use flate2::write::MultiGzDecoder;
use futures_util::stream::{self, Fuse, Stream, StreamExt as _};
use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

use super::{App, Failure};
use crate::dialects;

/// The codings that are decoded, for `Accept-Encoding`.
const CODINGS: &str = "gzip, zstd";
/// Bytes that a decoder gives at a time, about.
const PIECE_BYTES: usize = 64 * 1024;
/// The window of a zstd frame is at most 8 MiB, as RFC 9659 asks of this coding: 2 to this power.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// A coding of bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Gzip,
    Zstd,
}

impl Coding {
    /// That of a body; `None` for a body as it is.
    ///
    /// # Errors
    /// A coding that is not decoded, or several.
    fn of(headers: &HeaderMap) -> Result<Option<Self>, Failure> {
        let mut found = None;
        for value in headers.get_all(header::CONTENT_ENCODING) {
            let value = String::from_utf8_lossy(value.as_bytes());
            for name in value.split(',').map(str::trim) {
                let coding = match name.to_ascii_lowercase().as_str() {
                    "" | "identity" => continue,
                    "gzip" | "x-gzip" => Self::Gzip,
                    "zstd" => Self::Zstd,
                    _ => return Err(Failure::Coding { coding: format!("{name:.40}") }),
                };
                if found.replace(coding).is_some() {
                    return Err(Failure::Coding { coding: format!("{value:.40}") });
                }
            }
        }
        Ok(found)
    }
}

/// Decodes the body of a request, or refuses its coding.
pub async fn decode(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    // Where there is no body, nothing has a coding.
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let limit = app.config().body_bytes_max;
    match Coding::of(request.headers()).and_then(|coding| within(request.body(), limit, coding)) {
        Ok(None) => next.run(request).await,
        Ok(Some(coding)) => {
            let (mut parts, body) = request.into_parts();
            for name in [header::CONTENT_ENCODING, header::CONTENT_LENGTH] {
                parts.headers.remove(name);
            }
            let decoded = decoded(body, coding, limit);
            next.run(Request::from_parts(parts, Body::from_stream(decoded))).await
        }
        Err(failure) => {
            app.metrics().refused(&failure);
            let mut response = dialects::failure_at(request.uri().path(), &failure);
            if matches!(failure, Failure::Coding { .. }) {
                let codings = HeaderValue::from_static(CODINGS);
                response.headers_mut().insert(header::ACCEPT_ENCODING, codings);
            }
            response
        }
    }
}

/// Refuses an encoded body whose declared length is above the limit.
fn within(body: &Body, limit: usize, coding: Option<Coding>) -> Result<Option<Coding>, Failure> {
    let declared = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    match coding {
        Some(_) if declared > limit => Err(Failure::BodyTooLarge { limit }),
        coding => Ok(coding),
    }
}

/// Why a body cannot be decoded.
#[derive(Debug)]
enum DecodeError {
    /// It broke off, or is larger than allowed.
    Body(axum::Error),
    /// It is not of its coding.
    Coding(&'static str, String),
    /// Encoded it is larger than it may be decoded.
    TooLarge(usize),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Body(error) => error.fmt(f),
            Self::Coding(coding, problem) => write!(f, "it is not valid {coding}: {problem}"),
            Self::TooLarge(limit) => write!(f, "encoded it has more than {limit} bytes"),
        }
    }
}

impl std::error::Error for DecodeError {}

enum Decoder {
    Gzip(MultiGzDecoder<Vec<u8>>),
    /// With whether the last frame has ended.
    Zstd(DCtx<'static>, bool),
}

impl Decoder {
    fn new(coding: Coding) -> Result<Self, DecodeError> {
        match coding {
            Coding::Gzip => Ok(Self::Gzip(MultiGzDecoder::new(Vec::new()))),
            Coding::Zstd => {
                let mut context = DCtx::create();
                let limit = DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX);
                context.set_parameter(limit).map_err(zstd_error)?;
                Ok(Self::Zstd(context, true))
            }
        }
    }

    /// Decodes some of `encoded`, which is shortened by it, to about a piece.
    fn step(&mut self, encoded: &mut Bytes) -> Result<Vec<u8>, DecodeError> {
        match self {
            Self::Gzip(decoder) => {
                let read = decoder.write(encoded).map_err(gzip_error)?;
                drop(encoded.split_to(read));
                let piece = std::mem::take(decoder.get_mut());
                if read == 0 && piece.is_empty() {
                    return Err(DecodeError::Coding("gzip", "it does not go on".into()));
                }
                Ok(piece)
            }
            Self::Zstd(context, ended) => {
                let mut piece = Vec::with_capacity(PIECE_BYTES);
                let mut input = InBuffer::around(encoded);
                let mut output = OutBuffer::around(&mut piece);
                let left = context.decompress_stream(&mut output, &mut input);
                *ended = left.map_err(zstd_error)? == 0;
                let read = input.pos();
                drop(encoded.split_to(read));
                Ok(piece)
            }
        }
    }

    /// What is left after the last byte.
    fn end(&mut self) -> Result<Vec<u8>, DecodeError> {
        match self {
            Self::Gzip(decoder) => {
                decoder.try_finish().map_err(gzip_error)?;
                Ok(std::mem::take(decoder.get_mut()))
            }
            Self::Zstd(_, true) => Ok(Vec::new()),
            // What did not fit into a piece comes without further bytes.
            Self::Zstd(_, false) => match self.step(&mut Bytes::new())? {
                rest if rest.is_empty() && matches!(self, Self::Zstd(_, false)) => {
                    Err(DecodeError::Coding("zstd", "the last frame is cut off".into()))
                }
                rest => Ok(rest),
            },
        }
    }
}

fn gzip_error(error: std::io::Error) -> DecodeError {
    DecodeError::Coding("gzip", error.to_string())
}

fn zstd_error(code: zstd_safe::ErrorCode) -> DecodeError {
    DecodeError::Coding("zstd", zstd_safe::get_error_name(code).to_owned())
}

/// A body that is being decoded.
struct Decoding {
    body: Fuse<BodyDataStream>,
    coding: Coding,
    decoder: Option<Decoder>,
    /// Bytes that are here and not decoded yet.
    encoded: Bytes,
    /// Encoded bytes that may still come.
    left: usize,
    limit: usize,
}

impl Decoding {
    /// The next piece; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, DecodeError> {
        let decoder = match &mut self.decoder {
            Some(decoder) => decoder,
            none => none.insert(Decoder::new(self.coding)?),
        };
        loop {
            // A large body is decoded between the work of others.
            tokio::task::coop::consume_budget().await;
            let (piece, last) = if !self.encoded.is_empty() {
                (decoder.step(&mut self.encoded)?, false)
            } else if let Some(chunk) = self.body.next().await {
                self.encoded = chunk.map_err(DecodeError::Body)?;
                let left = self.left.checked_sub(self.encoded.len());
                self.left = left.ok_or(DecodeError::TooLarge(self.limit))?;
                continue;
            } else {
                (decoder.end()?, true)
            };
            if !piece.is_empty() {
                return Ok(Some(piece.into()));
            }
            if last {
                return Ok(None);
            }
        }
    }
}

/// The pieces of a body that is decoded as it is read; encoded it may have `limit` bytes.
fn decoded(
    body: Body,
    coding: Coding,
    limit: usize,
) -> impl Stream<Item = Result<Bytes, DecodeError>> {
    let body = body.into_data_stream().fuse();
    let start = Decoding { body, coding, decoder: None, encoded: Bytes::new(), left: limit, limit };
    stream::try_unfold(start, |mut decoding| async move {
        let piece = decoding.next().await?;
        Ok(piece.map(|piece| (piece, decoding)))
    })
}

#[cfg(test)]
mod tests;
