//! Responses sent before a body has arrived, and bodies that violate HTTP, over real connections.

use std::io::Read as _;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

async fn listening(http: HttpConfig) -> Listening {
    let (served, _) = fake_app(http, EngineConfig::default());
    listen(served.app).await
}

/// A server's response to raw bytes, until it closes the connection; the client keeps listening.
async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    stream.write_all(bytes).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer, and the end");
    answer
}

fn status(answer: &str) -> Option<u16> {
    answer.split(' ').nth(1)?.parse().ok()
}

#[tokio::test]
async fn what_needs_no_body_does_not_wait_for_it() {
    let server = listening(HttpConfig::default()).await;
    for (request, expected) in [
        ("POST /nothing", 404),
        ("POST /v1/nothing", 404),
        ("PUT /embed", 405),
        ("POST /health", 405),
        ("DELETE /v1/embeddings", 405),
        ("POST /v1/models", 405),
    ] {
        for framing in ["content-length: 100000", "transfer-encoding: chunked"] {
            let head = format!("{request} HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n");
            let answer = raw(server.http, head.as_bytes()).await.to_ascii_lowercase();
            assert_eq!(status(&answer), Some(expected), "{request}: {answer}");
            assert!(answer.contains("connection: close"), "{request}: {answer}");
            assert!(answer.contains("{\"error\":"), "{request}: {answer}");
        }
    }
    // A client that sends everything all the same receives the response.
    let body = "x".repeat(500_000);
    let head = "POST /nothing HTTP/1.1\r\nhost: a\r\ncontent-length: 500000\r\n\r\n";
    let answer = raw(server.http, format!("{head}{body}").as_bytes()).await;
    assert_eq!(status(&answer), Some(404), "{answer}");
    // A client that asks first is told not to send.
    let head = "POST /nothing HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\nexpect: 100-continue";
    let answer = raw(server.http, format!("{head}\r\n\r\n").as_bytes()).await;
    assert_eq!(status(&answer), Some(404), "{answer}");
}

#[tokio::test]
async fn a_body_that_was_read_keeps_its_connection() {
    let server = listening(HttpConfig::default()).await;
    let body = "{\"inputs\": \"a\"}";
    let head = format!("POST /embed HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n", body.len());
    let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let all = format!(
        "{head}\r\n{body}POST /embed HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunked}\
         GET /nothing HTTP/1.1\r\nhost: a\r\n\r\n{head}connection: close\r\n\r\n{body}"
    );
    let answer = raw(server.http, all.as_bytes()).await;
    let found: Vec<_> = answer.split("HTTP/1.1 ").skip(1).map(|response| &response[..3]).collect();
    assert_eq!(found, ["200", "200", "404", "200"], "{answer}");
}

#[tokio::test]
async fn transfer_codings_other_than_chunked_are_not_implemented() {
    let server = listening(HttpConfig::default()).await;
    for path in ["/embed", "/v1/embeddings", "/v1/rerank", "/v2/embed", "/score", "/vectors"] {
        for coding in ["gzip, chunked", "gzip,chunked", "deflate, chunked", "chunked, chunked"] {
            let head = format!(
                "POST {path} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: {coding}\r\n\r\n0\r\n\r\n"
            );
            let answer = raw(server.http, head.as_bytes()).await;
            let named = answer.contains("transfer-encoding") && answer.contains("{\"");
            assert!(status(&answer) == Some(501) && named, "{path} {coding}: {answer}");
        }
    }
}

#[tokio::test]
async fn invalid_hosts_are_refused() {
    let server = listening(HttpConfig::default()).await;
    for (target, host) in [
        ("/health", "[::1"),
        ("/health", "a:99999"),
        ("/health", "a:b"),
        ("http://a:99999/health", "a"),
        ("http://me@a/health", "a"),
    ] {
        let head = format!("GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        let answer = raw(server.http, head.as_bytes()).await;
        assert_eq!(status(&answer), Some(400), "{target} {host}: {answer}");
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::new();
    let mut encoder = flate2::read::GzEncoder::new(bytes, flate2::Compression::none());
    encoder.read_to_end(&mut encoded).expect("encoded");
    encoded
}

#[tokio::test]
async fn an_encoded_body_above_the_limit_is_too_large_however_its_length_is_told() {
    let http = HttpConfig { body_bytes_max: 10_000, ..HttpConfig::default() };
    let server = listening(http).await;
    let long = format!("{{\"inputs\": \"{}\"}}", "a ".repeat(20_000));
    // Empty members have bytes but yield none.
    for body in [gzip(long.as_bytes()), gzip(b"").repeat(1_000)] {
        let head =
            "POST /embed HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-encoding: gzip\r\n";
        let length = format!("content-length: {}\r\n\r\n", body.len());
        let declared = [head.as_bytes(), length.as_bytes(), &body].concat();
        let chunk = format!("transfer-encoding: chunked\r\n\r\n{:x}\r\n", body.len());
        let chunked = [head.as_bytes(), chunk.as_bytes(), &body, b"\r\n0\r\n\r\n"].concat();
        for request in [declared, chunked] {
            let answer = raw(server.http, &request).await;
            assert_eq!(status(&answer), Some(413), "{answer}");
        }
    }
}
