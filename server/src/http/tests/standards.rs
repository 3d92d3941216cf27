//! Conformance to the standards of HTTP, and browsers.

use std::io::Read as _;

use axum::http::{HeaderMap, Method};

use super::*;

fn with_key() -> Server {
    let http = HttpConfig { api_keys: vec!["one".into()], ..HttpConfig::default() };
    server(http, EngineConfig::default())
}

/// Sends a request with these headers.
async fn ask(
    server: &Server,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> TestResponse {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(server, request.body(Body::from(body)).expect("a request")).await
}

fn one_text() -> Vec<u8> {
    json!({ "inputs": "a" }).to_string().into_bytes()
}

#[tokio::test]
async fn the_scheme_of_a_key_has_no_case_and_those_without_are_told_of_it() {
    let server = with_key();
    for right in ["Bearer one", "bearer one", "BEARER one", "Bearer  one", "Bearer\tone ", "one"] {
        let answer = ask(&server, "POST", "/embed", &[("authorization", right)], one_text()).await;
        assert_eq!(answer.status, StatusCode::OK, "{right:?}");
    }
    for path in ["/embed", "/v1/embeddings", "/v1/rerank", "/v2/embed", "/score", "/vectors"] {
        let answer = ask(&server, "POST", path, &[], one_text()).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(answer.headers["www-authenticate"], "Bearer realm=\"proxima\"");
        for wrong in
            ["Bearer two", "Bearer", "Bearer ", "bearerone", "Basic one", "", "Bearer one x"]
        {
            let answer = ask(&server, "POST", path, &[("authorization", wrong)], one_text()).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{wrong:?}");
            let challenge = "Bearer realm=\"proxima\", error=\"invalid_token\"";
            assert_eq!(answer.headers["www-authenticate"], challenge, "{wrong:?}");
        }
    }
    let head = ask(&server, "HEAD", "/", &[], Vec::new()).await;
    assert_eq!((head.status, head.body.as_str()), (StatusCode::OK, ""));
}

#[tokio::test]
async fn slashes_are_normalized_before_the_key_is_checked() {
    let server = with_key();
    for open in ["//metrics", "/metrics/", "//health//", "//", "/docs/"] {
        assert_eq!(get(&server, open).await.status, StatusCode::OK, "{open}");
    }
    let key = [("authorization", "Bearer one")];
    for path in ["//embed", "/embed/", "/embed//", "///"] {
        let without = ask(&server, "POST", path, &[], one_text()).await;
        assert_eq!(without.status, StatusCode::UNAUTHORIZED, "{path}");
        let answer = ask(&server, "POST", path, &key, one_text()).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
    }
    let body = json!({ "input": "a" }).to_string().into_bytes();
    let answer = ask(&server, "POST", "//v1//embeddings/", &key, body.clone()).await;
    assert_eq!(answer.json()["object"], "list");
    let wrong = ask(&server, "POST", "//v1//embeddings/", &key, one_text()).await;
    assert_eq!(wrong.json()["error"]["type"], "invalid_request_error");
    // A path that contains a public one is not public itself.
    for path in ["/metrics/x", "//info", "/info//", "/v1//models/"] {
        assert_eq!(get(&server, path).await.status, StatusCode::UNAUTHORIZED, "{path}");
    }
    let text = json!({ "text": "a" }).to_string().into_bytes();
    assert_eq!(ask(&server, "POST", "/vectors/", &key, text).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_path_that_is_no_text_is_refused_in_its_dialects_shape() {
    let server = default_server();
    let answer = get(&server, "/v1/models/%ff").await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.body);
    assert_eq!(answer.json()["error"]["type"], "invalid_request_error");
    assert_eq!(get(&server, "/v1/models/f%61ke").await.json()["id"], "fake");
    for path in ["/%ff", "/embed/%ff", "/%00", "/readyz/%ff"] {
        let answer = get(&server, path).await;
        assert!(answer.json()["error_type"].is_string(), "{path}: {}", answer.body);
    }
}

#[tokio::test]
async fn a_path_for_other_methods_says_for_which() {
    let answer = get(&default_server(), "/embed").await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(answer.headers["allow"], "POST");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::new();
    let mut encoder = flate2::read::GzEncoder::new(bytes, flate2::Compression::best());
    encoder.read_to_end(&mut encoded).expect("encoded");
    encoded
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(zstd_safe::compress_bound(bytes.len()));
    zstd_safe::compress(&mut encoded, bytes, 3).expect("room");
    encoded
}

#[tokio::test]
async fn encoded_bodies_are_decoded_within_the_limit_of_bodies() {
    let http = HttpConfig { body_bytes_max: 100_000, ..HttpConfig::default() };
    let server = server(http, EngineConfig::default());
    let plain = vectors(&ask(&server, "POST", "/embed", &[], one_text()).await);
    let large = format!("{{\"inputs\": \"{}\"}}", "a ".repeat(1 << 20));
    let exact = format!("{{\"inputs\": \"a\"}}{}", " ".repeat(100_000 - 15));
    for (coding, encode) in
        [("gzip", gzip as fn(&[u8]) -> Vec<u8>), ("X-GZIP", gzip), ("zstd", zstd)]
    {
        let headers = [("content-encoding", coding)];
        let answer = ask(&server, "POST", "/embed", &headers, encode(&one_text())).await;
        assert_eq!(vectors(&answer), plain, "{coding}");
        let answer = ask(&server, "POST", "/embed", &headers, encode(exact.as_bytes())).await;
        assert_eq!(vectors(&answer), plain, "{coding}");
        let small = encode(large.as_bytes());
        assert!(small.len() < 10_000, "{}", small.len());
        let answer = ask(&server, "POST", "/embed", &headers, small).await;
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "{coding}: {}", answer.body);
        let answer = ask(&server, "POST", "/embed", &headers, one_text()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{coding}: {}", answer.body);
        assert!(answer.body.contains("not valid"), "{coding}: {}", answer.body);
    }
    let identity = [("content-encoding", "identity")];
    assert_eq!(vectors(&ask(&server, "POST", "/embed", &identity, one_text()).await), plain);
}

#[tokio::test]
async fn other_codings_are_refused_with_those_that_are_taken() {
    let server = default_server();
    for path in ["/embed", "/v1/embeddings", "/v1/rerank", "/v2/embed", "/score", "/vectors"] {
        for coding in ["br", "deflate", "gzip, gzip", "nothing"] {
            let headers = [("content-encoding", coding)];
            let answer = ask(&server, "POST", path, &headers, one_text()).await;
            assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{path} {coding}");
            assert_eq!(answer.headers["accept-encoding"], "gzip, zstd");
            assert!(
                answer.json().is_object() && answer.body.contains("content-encoding"),
                "{}",
                answer.body
            );
        }
    }
}

fn browsing(origins: &[&str], api_keys: &[&str]) -> Server {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let browsers = BrowserSettings::parse(&owned(origins), &[]).expect("settings");
    let http = HttpConfig { browsers, api_keys: owned(api_keys), ..HttpConfig::default() };
    server(http, EngineConfig::default())
}

const PREFLIGHT: [(&str, &str); 4] = [
    ("host", "10.0.0.7:8080"),
    ("origin", "https://app.example"),
    ("access-control-request-method", "POST"),
    ("access-control-request-headers", "authorization,content-type"),
];

fn allows(headers: &HeaderMap) -> bool {
    headers
        .get("access-control-allow-origin")
        .is_some_and(|origin| origin == "https://app.example" || origin == "*")
}

#[tokio::test]
async fn preflights_of_allowed_origins_are_answered_and_their_requests_too() {
    for server in
        [browsing(&["https://app.example"], &[]), browsing(&["*"], &[]), browsing(&["*"], &["one"])]
    {
        let answer = ask(&server, "OPTIONS", "/v1/embeddings", &PREFLIGHT, Vec::new()).await;
        assert!(answer.status.is_success() && allows(&answer.headers), "{:?}", answer.headers);
        let methods = answer.headers["access-control-allow-methods"].to_str().expect("text");
        assert!(methods.split(',').any(|method| method.trim() == "POST"), "{methods}");
        assert_eq!(answer.headers["access-control-allow-headers"], "authorization,content-type");
        // The page can read errors, too.
        let headers = [PREFLIGHT[0], PREFLIGHT[1], ("authorization", "bearer one")];
        for (body, status) in [(one_text(), 200), (b"{".to_vec(), 400)] {
            let answer = ask(&server, "POST", "/embed", &headers, body).await;
            assert!(answer.status == status && allows(&answer.headers), "{:?}", answer.headers);
        }
    }
    let keyed = browsing(&["https://app.example"], &["one"]);
    let answer = ask(&keyed, "POST", "/embed", &PREFLIGHT[..2], one_text()).await;
    assert!(answer.status == 401 && allows(&answer.headers), "{:?}", answer.headers);
}

#[tokio::test]
async fn other_pages_are_refused_without_a_key_and_not_told_anything_with_one() {
    for path in ["/embed", "/v1/embeddings", "/v2/rerank", "/metrics", "/", "/nothing"] {
        let none = default_server();
        for method in [Method::POST, Method::GET, Method::OPTIONS] {
            let answer = ask(&none, method.as_str(), path, &PREFLIGHT, one_text()).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{method} {path}");
            assert!(answer.body.contains("--cors-allow-origin"), "{}", answer.body);
            assert!(!allows(&answer.headers));
        }
    }
    let some = browsing(&["https://other.example"], &["one"]);
    let answer = ask(&some, "OPTIONS", "/embed", &PREFLIGHT, Vec::new()).await;
    assert!(!allows(&answer.headers));
    // With a key, the server's own pages work at any name.
    let keyed = with_key();
    let headers =
        [PREFLIGHT[0], ("origin", "http://10.0.0.7:8080"), ("authorization", "Bearer one")];
    assert_eq!(ask(&keyed, "POST", "/embed", &headers, one_text()).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_link_to_the_server_may_be_followed_and_no_more() {
    let server = default_server();
    let visit = [
        ("host", "localhost:8080"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-mode", "navigate"),
        ("sec-fetch-dest", "document"),
    ];
    for path in ["/docs", "/health", "/metrics", "/openapi.json", "/info"] {
        let answer = ask(&server, "GET", path, &visit, Vec::new()).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        let mut rebound = visit;
        rebound[0].1 = "evil.example:8080";
        let answer = ask(&server, "GET", path, &rebound, Vec::new()).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
    }
    // A form of another page, and what such a page fetches.
    let answer = ask(&server, "POST", "/embed", &visit, one_text()).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let answer = ask(&server, "GET", "/docs", &visit[..2], Vec::new()).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn requests_of_other_programs_are_judged_by_neither_host_nor_content_type() {
    let server = default_server();
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""] {
        let headers = [("host", "evil.example"), ("content-type", kind)];
        let answer = ask(&server, "POST", "/embed", &headers, one_text()).await;
        assert_eq!(answer.status, StatusCode::OK, "{kind}");
    }
}

/// A server's response to raw bytes, until it closes the connection.
async fn raw(address: std::net::SocketAddr, bytes: &[u8], half_close: bool) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("connected");
    stream.write_all(bytes).await.expect("sent");
    if half_close {
        stream.shutdown().await.expect("half closed");
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer, and the end");
    answer
}

#[tokio::test]
async fn a_host_is_needed_in_http_1_1_and_half_closed_clients_are_answered() {
    let (served, _) = fake_app(HttpConfig::default(), EngineConfig::default());
    let Listening { http: address, stop, serving, .. } = listen(served.app).await;
    let close = "connection: close\r\n";
    for (head, status) in [
        ("GET /health HTTP/1.0\r\n", "200"),
        ("GET /health HTTP/1.0\r\nhost: a\r\n", "200"),
        ("OPTIONS / HTTP/1.0\r\n", "405"),
        ("GET /health HTTP/1.1\r\nhost: a\r\n", "200"),
        ("GET http://a/health HTTP/1.1\r\nhost: a\r\n", "200"),
        ("GET /health HTTP/1.1\r\n", "400"),
        ("GET http://a/health HTTP/1.1\r\n", "400"),
        ("GET /health HTTP/1.1\r\nhost: a\r\nhost: a\r\n", "400"),
        ("GET /v1/models HTTP/1.1\r\nhost: a b\r\n", "400"),
    ] {
        let answer = raw(address, format!("{head}{close}\r\n").as_bytes(), false).await;
        assert_eq!(answer.split(' ').nth(1), Some(status), "{head}: {answer}");
        if status == "400" {
            assert!(answer.contains("{\"error\":"), "in the dialect's shape: {answer}");
        }
    }
    let body = "{\"inputs\": \"a\"}";
    for version in ["1.0", "1.1"] {
        let length = body.len();
        let post = format!(
            "POST /embed HTTP/{version}\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        let answer = raw(address, post.as_bytes(), true).await;
        assert!(answer.contains(" 200 OK\r\n") && answer.ends_with("]]"), "{answer}");
    }
    stop.send(()).expect("the server listens");
    serving.await.expect("no panic");
}
