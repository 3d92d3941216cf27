use std::io::Read as _;

use flate2::Compression;
use flate2::read::GzEncoder;

use super::*;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::new();
    GzEncoder::new(bytes, Compression::best()).read_to_end(&mut encoded).expect("encoded");
    encoded
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(zstd_safe::compress_bound(bytes.len()));
    zstd_safe::compress(&mut encoded, bytes, 3).expect("room");
    encoded
}

/// The decoded body, read in pieces of `size` bytes.
async fn all(encoded: &[u8], coding: Coding, size: usize, limit: usize) -> Result<Vec<u8>, String> {
    let pieces: Vec<_> =
        encoded.chunks(size).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
    let body = Body::from_stream(stream::iter(pieces));
    let mut decoded = std::pin::pin!(decoded(body, coding, limit));
    let mut bytes = Vec::new();
    while let Some(piece) = decoded.next().await {
        let piece = piece.map_err(|error| error.to_string())?;
        assert!(piece.len() <= (PIECES_AT_ONCE + 1) * PIECE_BYTES, "{}", piece.len());
        bytes.extend(piece);
    }
    Ok(bytes)
}

#[tokio::test]
async fn bodies_are_decoded_however_they_are_cut_into_pieces() {
    let mixed: Vec<u8> = (0..300_000u32).map(|at| (at.wrapping_mul(at) >> 9) as u8).collect();
    for bytes in [&b""[..], b"{\"inputs\": \"a\"}", &vec![b'a'; 1_000_000], &mixed] {
        for (encoded, coding) in [(gzip(bytes), Coding::Gzip), (zstd(bytes), Coding::Zstd)] {
            for size in [1, 7, 4096, 1 << 20] {
                let whole = all(&encoded, coding, size, 1 << 20).await;
                assert!(whole.is_ok_and(|whole| whole == bytes), "{coding:?} by {size}");
            }
            // Members of gzip, and frames of zstd, may be concatenated.
            let twice = [&encoded[..], &encoded].concat();
            let whole = all(&twice, coding, 4096, 1 << 20).await;
            assert!(whole.is_ok_and(|whole| whole == [bytes, bytes].concat()), "{coding:?}");
        }
    }
}

#[tokio::test]
async fn truncated_bodies_and_wrong_codings_are_refused() {
    let bytes = vec![b'a'; 100_000];
    for (encoded, coding) in [(gzip(&bytes), Coding::Gzip), (zstd(&bytes), Coding::Zstd)] {
        for end in [1, 5, encoded.len() / 2, encoded.len() - 1] {
            let error = all(&encoded[..end], coding, 4096, 1 << 20).await;
            assert!(error.is_err(), "{coding:?} to {end} of {}", encoded.len());
        }
        let error = all(b"{\"inputs\": \"a\"}", coding, 4096, 1 << 20).await.expect_err("refused");
        assert!(error.contains("not valid"), "{error}");
        let error = all(&encoded, coding, 4096, 10).await.expect_err("refused");
        assert!(error.contains("larger than allowed"), "{error}");
    }
}

#[tokio::test]
async fn a_window_above_what_the_coding_allows_is_refused() {
    let bytes: Vec<u8> = (0..100_000u32).map(|at| (at >> 3) as u8).collect();
    for (log, taken) in [(23, true), (24, false), (27, false)] {
        let mut context = zstd_safe::CCtx::create();
        let window = zstd_safe::CParameter::WindowLog(log);
        context.set_parameter(window).expect("a window");
        let mut encoded = Vec::with_capacity(2 * bytes.len());
        // Streamed, so that the frame does not know its size and requires the whole window.
        {
            let mut output = OutBuffer::around(&mut encoded);
            let mut input = InBuffer::around(&bytes);
            context.compress_stream(&mut output, &mut input).expect("room");
            assert_eq!(context.end_stream(&mut output).expect("room"), 0);
        }
        let decoded = all(&encoded, Coding::Zstd, 4096, 1 << 20).await;
        assert_eq!(decoded.is_ok(), taken, "2^{log}: {:?}", decoded.err());
    }
}

#[tokio::test]
async fn members_are_bounded_however_little_is_in_them() {
    for (empty, coding) in [(gzip(b""), Coding::Gzip), (zstd(b""), Coding::Zstd)] {
        for size in [100, 4096, 1 << 20] {
            let some = empty.repeat(MEMBERS_MAX - 2);
            assert_eq!(all(&some, coding, size, 1 << 24).await, Ok(Vec::new()), "{coding:?}");
            let many = empty.repeat(MEMBERS_MAX + 1);
            let error = all(&many, coding, size, 1 << 24).await.expect_err("refused");
            assert!(error.contains("more than 8192 members"), "{coding:?}: {error}");
        }
    }
}

#[test]
fn codings_are_read_as_the_standard_has_them() {
    let of = |values: &[&'static str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::CONTENT_ENCODING, HeaderValue::from_static(value));
        }
        Coding::of(&headers)
    };
    for none in [&[][..], &["identity"], &[""], &["identity, Identity"]] {
        assert_eq!(of(none), Ok(None), "{none:?}");
    }
    for gzip in [&["gzip"][..], &["GZip"], &["x-gzip"], &["identity, gzip"]] {
        assert_eq!(of(gzip), Ok(Some(Coding::Gzip)), "{gzip:?}");
    }
    assert_eq!(of(&["zstd"]), Ok(Some(Coding::Zstd)));
    for other in [&["br"][..], &["deflate"], &["gzip, gzip"], &["gzip", "zstd"], &["gzipped"]] {
        assert!(matches!(of(other), Err(Failure::Coding { .. })), "{other:?}");
    }
}
