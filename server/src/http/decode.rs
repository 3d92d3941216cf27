//! Compressed bodies (`Content-Encoding`): gzip and zstd are decoded as they are read, so all
//! limits of bodies count decoded bytes; other codings are refused. So is a body with more members
//! or frames than any program writes: an empty one costs time but yields no bytes to count.
//!
//! Must not know: what a body contains.

use std::io::Write as _;
use std::sync::Arc;

use axum::body::{Body, BodyDataStream, Bytes, HttpBody as _};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use flate2::write::GzDecoder;
use futures_util::stream::{self, Fuse, Stream, StreamExt as _};
use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

use super::decode_error::{DecodeError, TooLarge};
use super::unshaped::unshaped;
use super::{App, Failure};

/// The supported codings, for `Accept-Encoding`.
const CODINGS: &str = "gzip, zstd";
/// Approximate bytes that a decoder yields at a time.
const PIECE_BYTES: usize = 64 * 1024;
/// Approximate number of pieces decoded at a time on another thread.
const PIECES_AT_ONCE: usize = 4;
/// Decoding steps of a body that run on the event loop, enough for a small one.
const STEPS_ON_LOOP: usize = 8;
/// Up to this many encoded bytes are always decoded on the event loop, a piece at a time.
const ON_LOOP_BYTES: usize = 1024;
/// Maximum members of a gzip body, or frames of a zstd body. Programs that write many begin one
/// every 64 KiB (bgzip) or less often.
const MEMBERS_MAX: usize = 8 * 1024;
/// The base-2 logarithm of the largest window of a zstd frame: 8 MiB, as RFC 9659 requires.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// A coding of bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Gzip,
    Zstd,
}

impl Coding {
    /// The coding of a body; `None` if it is not encoded.
    ///
    /// # Errors
    /// An unsupported coding, or several codings.
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
    // Without a body, there is nothing to decode.
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
            let mut response = unshaped(request.uri().path(), &failure);
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

/// The decoder of a body, and how many members or frames it has begun.
struct Decoder {
    of: Of,
    members: usize,
}

enum Of {
    Gzip(GzDecoder<Vec<u8>>),
    /// With whether the last frame has ended.
    Zstd(DCtx<'static>, bool),
}

impl Decoder {
    fn new(coding: Coding) -> Result<Self, DecodeError> {
        let of = match coding {
            Coding::Gzip => Of::Gzip(GzDecoder::new(Vec::new())),
            Coding::Zstd => {
                let mut context = DCtx::create();
                let limit = DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX);
                context.set_parameter(limit).map_err(zstd_error)?;
                Of::Zstd(context, true)
            }
        };
        Ok(Self { of, members: 1 })
    }

    /// Decodes about one piece from the beginning of `encoded`, and removes what was read.
    fn step(&mut self, encoded: &mut Bytes, piece: &mut Vec<u8>) -> Result<(), DecodeError> {
        match &mut self.of {
            Of::Gzip(decoder) => {
                let read = decoder.write(encoded).map_err(gzip_error)?;
                drop(encoded.split_to(read));
                piece.append(decoder.get_mut());
                if read == 0 {
                    // The member has ended; another one begins.
                    decoder.try_finish().map_err(gzip_error)?;
                    piece.append(decoder.get_mut());
                    *decoder = GzDecoder::new(Vec::new());
                    return self.begin("gzip");
                }
            }
            Of::Zstd(context, ended) => {
                let start = piece.len();
                piece.reserve_exact(PIECE_BYTES);
                let mut input = InBuffer::around(encoded);
                let mut output = OutBuffer::around_pos(piece, start);
                let left = context.decompress_stream(&mut output, &mut input);
                *ended = left.map_err(zstd_error)? == 0;
                let (read, begins) = (input.pos(), *ended);
                drop(encoded.split_to(read));
                if begins {
                    return self.begin("zstd");
                }
            }
        }
        Ok(())
    }

    /// Counts one more member or frame.
    fn begin(&mut self, coding: &'static str) -> Result<(), DecodeError> {
        self.members += 1;
        if self.members > MEMBERS_MAX {
            let problem = format!("it has more than {MEMBERS_MAX} members");
            return Err(DecodeError::Coding(coding, problem));
        }
        Ok(())
    }

    /// Decodes some pieces of `encoded`, or all of it.
    fn steps(&mut self, encoded: &mut Bytes) -> Result<Vec<u8>, DecodeError> {
        let mut piece = Vec::new();
        while !encoded.is_empty() && piece.len() < PIECES_AT_ONCE * PIECE_BYTES {
            self.step(encoded, &mut piece)?;
        }
        Ok(piece)
    }

    /// The output that is left after the last input byte.
    fn end(&mut self) -> Result<Vec<u8>, DecodeError> {
        match &mut self.of {
            Of::Gzip(decoder) => {
                decoder.try_finish().map_err(gzip_error)?;
                Ok(std::mem::take(decoder.get_mut()))
            }
            Of::Zstd(_, true) => Ok(Vec::new()),
            // Output that did not fit into a piece comes without further input.
            Of::Zstd(_, false) => {
                let mut rest = Vec::new();
                self.step(&mut Bytes::new(), &mut rest)?;
                if rest.is_empty() && matches!(self.of, Of::Zstd(_, false)) {
                    return Err(DecodeError::Coding("zstd", "the last frame is cut off".into()));
                }
                Ok(rest)
            }
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
    /// Bytes that were received but not decoded yet.
    encoded: Bytes,
    /// Encoded bytes that may still arrive.
    left: usize,
    /// Steps that may still run on the event loop.
    on_loop: usize,
}

impl Decoding {
    /// Decodes some pieces of what was received: small bodies here, others on another thread.
    async fn steps(&mut self, mut decoder: Decoder) -> Result<(Decoder, Vec<u8>), DecodeError> {
        let bytes = self.encoded.len();
        if bytes <= ON_LOOP_BYTES || (self.on_loop > 0 && bytes <= PIECE_BYTES) {
            self.on_loop = self.on_loop.saturating_sub(1);
            let mut piece = Vec::new();
            decoder.step(&mut self.encoded, &mut piece)?;
            return Ok((decoder, piece));
        }
        let mut encoded = std::mem::take(&mut self.encoded);
        let work = tokio::task::spawn_blocking(move || {
            let piece = decoder.steps(&mut encoded);
            (decoder, encoded, piece)
        });
        let (decoder, encoded, piece) = work.await.map_err(|_| DecodeError::Lost)?;
        self.encoded = encoded;
        Ok((decoder, piece?))
    }

    /// The next pieces; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, DecodeError> {
        loop {
            // Yields to other tasks while a large body is decoded.
            tokio::task::coop::consume_budget().await;
            let mut decoder = match self.decoder.take() {
                Some(decoder) => decoder,
                None => Decoder::new(self.coding)?,
            };
            let (piece, last) = if !self.encoded.is_empty() {
                let piece;
                (decoder, piece) = self.steps(decoder).await?;
                (piece, false)
            } else if let Some(chunk) = self.body.next().await {
                self.encoded = chunk.map_err(DecodeError::Body)?;
                let left = self.left.checked_sub(self.encoded.len());
                self.left = left.ok_or(DecodeError::TooLarge(TooLarge))?;
                (Vec::new(), false)
            } else {
                let rest = decoder.end()?;
                let last = rest.is_empty();
                (rest, last)
            };
            self.decoder = Some(decoder);
            if !piece.is_empty() {
                return Ok(Some(piece.into()));
            }
            if last {
                return Ok(None);
            }
        }
    }
}

/// The pieces of a body that is decoded as it is read; it may have `limit` encoded bytes.
fn decoded(
    body: Body,
    coding: Coding,
    limit: usize,
) -> impl Stream<Item = Result<Bytes, DecodeError>> {
    let start = Decoding {
        body: body.into_data_stream().fuse(),
        coding,
        decoder: None,
        encoded: Bytes::new(),
        left: limit,
        on_loop: STEPS_ON_LOOP,
    };
    stream::try_unfold(start, |mut decoding| async move {
        let piece = decoding.next().await?;
        Ok(piece.map(|piece| (piece, decoding)))
    })
}

#[cfg(test)]
mod tests;
