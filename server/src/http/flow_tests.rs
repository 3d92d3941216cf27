//! Clients that send slowly, read nothing, or hold streams open, over real connections.

mod ending;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use proxima_engine::EngineConfig;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::fake_model::{Knobs, WIDTH};
use crate::served::{Listening, ServedApp, fake_app, listen};

/// Inputs whose hidden states make a response larger than any socket's buffers.
const MANY: usize = 30_000;
const WORDS: &str = "a b c d e f g h i j k l m n";
const GRPC_HEADERS: [(&str, &str); 3] =
    [(":path", "/tei.v1.Embed/Embed"), ("content-type", "application/grpc"), ("te", "trailers")];
/// A message whose first field is the text `a b c`: not compressed, seven bytes.
const GRPC_MESSAGE: &[u8] = b"\0\0\0\0\x07\x0a\x05a b c";

struct Server {
    http: SocketAddr,
    grpc: SocketAddr,
    app: Arc<App>,
    knobs: Knobs,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

async fn serve(config: HttpConfig) -> Server {
    let engine = EngineConfig { inputs_max: MANY, ..EngineConfig::default() };
    let (ServedApp { app, .. }, knobs) = fake_app(config, engine);
    let Listening { http, grpc, stop, serving } = listen(app.clone()).await;
    Server { http, grpc, app, knobs, stop, serving }
}

/// A connection with a small receive buffer.
async fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("set");
    socket.connect(address).await.expect("connected")
}

/// The head of an HTTP/1 request, whose body may be sent later.
fn head(path: &str, version: &str, length: usize) -> String {
    format!("POST {path} HTTP/{version}\r\nhost: a\r\ncontent-length: {length}\r\n\r\n")
}

/// The whole response to an HTTP/1 request that ends its connection.
async fn answer(address: SocketAddr, path: &str, version: &str, body: &Value) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    let body = body.to_string();
    let head = head(path, version, body.len()).replace("host: a", "host: a\r\nconnection: close");
    stream.write_all((head + &body).as_bytes()).await.expect("sent");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.expect("an answer");
    let at = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
    let head = String::from_utf8(bytes[..at].to_vec()).expect("text").to_ascii_lowercase();
    (head, bytes.split_off(at))
}

async fn status(server: &Server) -> u16 {
    let (head, _) = answer(server.http, "/embed", "1.1", &json!({ "inputs": "a" })).await;
    head[9..12].parse().expect("a status")
}

/// The contents of chunks.
fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    loop {
        let end = bytes.windows(2).position(|window| window == b"\r\n").expect("a length");
        let length = std::str::from_utf8(&bytes[..end]).expect("text");
        let length = usize::from_str_radix(length, 16).expect("a number");
        if length == 0 {
            return whole;
        }
        whole.extend_from_slice(&bytes[end + 2..end + 2 + length]);
        bytes = &bytes[end + 4 + length..];
    }
}

fn many(count: usize) -> Value {
    let inputs: Vec<String> = (0..count).map(|index| format!("{WORDS} {index}")).collect();
    json!({ "inputs": inputs })
}

#[tokio::test]
async fn small_answers_say_their_length_and_large_ones_are_streamed() {
    let server = serve(HttpConfig::default()).await;
    let (head, body) = answer(server.http, "/embed_all", "1.1", &many(100)).await;
    assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
    let (head, body) = answer(server.http, "/embed_all", "1.1", &many(2_000)).await;
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    assert!(!head.contains("content-length"), "{head}");
    let streamed = unchunked(&body);
    assert!(streamed.len() > 1024 * 1024);
    let rows: Vec<Vec<Vec<f32>>> = serde_json::from_slice(&streamed).expect("JSON");
    assert_eq!((rows.len(), rows[1_999][15].len()), (2_000, WIDTH));
    // HTTP/1.0 has no chunks: the end of the connection, or a length, ends the body.
    let (head, whole) = answer(server.http, "/embed_all", "1.0", &many(2_000)).await;
    assert!(!head.contains("transfer-encoding"), "{head}");
    assert!(head.contains("content-length") || head.contains("connection: close"), "{head}");
    assert_eq!(whole, streamed);
}

#[tokio::test]
async fn an_answer_that_would_be_too_large_is_refused_before_it_is_computed() {
    let config = HttpConfig { answer_bytes_max: 4 * 1024 * 1024, ..HttpConfig::default() };
    let server = serve(config).await;
    let (head, body) = answer(server.http, "/embed_all", "1.1", &many(MANY)).await;
    assert!(head.starts_with("http/1.1 413"), "{head}");
    let error: Value = serde_json::from_slice(&body).expect("JSON");
    assert!(
        error["error"].as_str().is_some_and(|message| message.contains("the response would have")),
        "{error}"
    );
    let metrics = server.app.metrics().text();
    let counts = metrics.lines().filter(|line| line.starts_with("proxima_errors_total"));
    let counts = counts.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    assert_eq!(counts.sum::<f64>(), 1.0, "a refusal is counted once: {metrics}");
    assert_eq!(status(&server).await, 200);
}

#[tokio::test]
async fn who_reads_nothing_is_cut_off_and_gives_its_permit_back() {
    let write_timeout = Duration::from_secs(1);
    let config = HttpConfig { requests_max: 1, write_timeout, ..HttpConfig::default() };
    let server = serve(config).await;
    let mut unread = connect(server.http).await;
    let body = many(MANY).to_string();
    let request = head("/embed_all", "1.1", body.len()) + &body;
    unread.write_all(request.as_bytes()).await.expect("sent");
    // Its head arrives once the response is being sent.
    let mut first = [0; 12];
    unread.read_exact(&mut first).await.expect("a head");
    assert_eq!(&first, b"HTTP/1.1 200");
    assert_eq!(status(&server).await, 429, "the answer is not written: it has the permit");
    while status(&server).await == 429 {}
    assert_eq!(status(&server).await, 200);
    let mut rest = Vec::new();
    let end = unread.read_to_end(&mut rest).await;
    assert!(end.is_err() || !rest.ends_with(b"0\r\n\r\n"), "it got a whole answer");
}

#[tokio::test]
async fn bodies_that_do_not_come_keep_nobody_out_and_end() {
    let body_timeout = Duration::from_secs(2);
    let config = HttpConfig { requests_max: 2, body_timeout, ..HttpConfig::default() };
    let server = serve(config).await;
    let mut slow = Vec::new();
    for _ in 0..20 {
        let mut stream = connect(server.http).await;
        let head = head("/embed", "1.1", 5_000) + "{";
        stream.write_all(head.as_bytes()).await.expect("sent");
        slow.push(stream);
    }
    assert_eq!(status(&server).await, 200);
    for mut stream in slow {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        assert!(answer.contains("4 KiB per second"), "{answer}");
    }
}

#[tokio::test]
async fn a_key_is_asked_for_before_the_body() {
    let config = HttpConfig { api_keys: vec!["key".into()], ..HttpConfig::default() };
    let server = serve(config).await;
    let mut stream = connect(server.http).await;
    stream.write_all(head("/embed", "1.1", 5_000).as_bytes()).await.expect("sent");
    let mut first = [0; 12];
    stream.read_exact(&mut first).await.expect("an answer");
    assert_eq!(&first, b"HTTP/1.1 401");
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// An HTTP/2 frame.
#[derive(Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

/// An HTTP/2 connection with control over every frame.
struct Http2 {
    stream: TcpStream,
}

impl Http2 {
    /// A connection whose streams have a window of `window` bytes.
    async fn connect(address: SocketAddr, window: u32) -> Self {
        let mut http2 = Self { stream: connect(address).await };
        http2.stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("sent");
        let payload = [&[0, 4][..], &window.to_be_bytes()].concat();
        http2.send(Frame { kind: SETTINGS, flags: 0, stream: 0, payload }).await;
        http2
    }

    async fn send(&mut self, frame: Frame) {
        let length = u32::try_from(frame.payload.len()).expect("small").to_be_bytes();
        let stream = frame.stream.to_be_bytes();
        let head = [&length[1..], &[frame.kind, frame.flags], &stream].concat();
        self.stream.write_all(&[head, frame.payload].concat()).await.expect("sent");
    }

    async fn receive(&mut self) -> io::Result<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.stream.read_exact(&mut payload).await?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Ok(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame of this kind.
    async fn next(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.receive().await.expect("the connection lives");
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// Sends a request, with or without its body.
    async fn post(&mut self, stream: u32, headers: &[(&str, &str)], body: Option<Vec<u8>>) {
        let fixed = [(":method", "POST"), (":scheme", "http"), (":authority", "a")];
        let mut payload = Vec::new();
        for (name, value) in fixed.iter().chain(headers) {
            // A literal that is not indexed.
            payload.push(0);
            for text in [name, value] {
                payload.push(u8::try_from(text.len()).expect("short"));
                payload.extend_from_slice(text.as_bytes());
            }
        }
        self.send(Frame { kind: HEADERS, flags: END_HEADERS, stream, payload }).await;
        if let Some(payload) = body {
            self.send(Frame { kind: DATA, flags: END_STREAM, stream, payload }).await;
        }
    }
}

#[tokio::test]
async fn a_stream_with_a_closed_window_is_reset_and_others_live() {
    let write_timeout = Duration::from_secs(1);
    let config = HttpConfig { requests_max: 1, write_timeout, ..HttpConfig::default() };
    let server = serve(config).await;
    // A window for nothing, and one for a part of the response.
    for window in [0, 10] {
        let mut http2 = Http2::connect(server.http, window).await;
        let body = json!({ "inputs": "a b c" }).to_string().into_bytes();
        http2.post(1, &[(":path", "/embed")], Some(body)).await;
        assert_eq!(http2.next(HEADERS).await.stream, 1);
        assert_eq!(status(&server).await, 429, "the answer is not written");
        let reset = http2.next(RST_STREAM).await;
        assert_eq!(reset.stream, 1);
        http2.send(Frame { kind: PING, flags: 0, stream: 0, payload: vec![7; 8] }).await;
        assert_eq!(http2.next(PING).await.payload, [7; 8]);
        while status(&server).await == 429 {}
    }
    let mut grpc = Http2::connect(server.grpc, 0).await;
    grpc.post(1, &GRPC_HEADERS, Some(GRPC_MESSAGE.to_vec())).await;
    assert_eq!(grpc.next(HEADERS).await.stream, 1);
    assert_eq!(status(&server).await, 429, "the answer is not written");
    assert_eq!(grpc.next(RST_STREAM).await.stream, 1);
    while status(&server).await == 429 {}
}

#[tokio::test]
async fn answers_that_nobody_reads_make_room_for_new_requests() {
    // Longer than any test, so that it cuts nothing off.
    let write_timeout = Duration::from_secs(24 * 60 * 60);
    let config = HttpConfig { requests_max: 2, write_timeout, ..HttpConfig::default() };
    let server = serve(config).await;
    let mut http2 = Http2::connect(server.http, 0).await;
    let body = json!({ "inputs": "a b c" }).to_string().into_bytes();
    for stream in [1, 3] {
        http2.post(stream, &[(":path", "/embed")], Some(body.clone())).await;
    }
    for _ in 0..2 {
        assert!([1, 3].contains(&http2.next(HEADERS).await.stream));
    }
    // Once it is clear that they are not being read.
    while status(&server).await == 429 {}
    assert_eq!(status(&server).await, 200);
    assert!([1, 3].contains(&http2.next(RST_STREAM).await.stream));
    // Over gRPC too: two calls take the free permit and that of the other response.
    let mut grpc = Http2::connect(server.grpc, 0).await;
    for stream in [1, 3] {
        grpc.post(stream, &GRPC_HEADERS, Some(GRPC_MESSAGE.to_vec())).await;
        assert_eq!(grpc.next(HEADERS).await.stream, stream);
        while status(&server).await == 429 {}
    }
    assert_eq!(grpc.next(RST_STREAM).await.stream, 1);
}

#[tokio::test]
async fn streams_without_bodies_keep_nobody_out() {
    let config = HttpConfig { requests_max: 160, ..HttpConfig::default() };
    let server = serve(config).await;
    let mut connections = Vec::new();
    for _ in 0..8 {
        let mut http2 = Http2::connect(server.http, 65_535).await;
        let settings = http2.next(SETTINGS).await;
        let settings: HashMap<u16, u32> = settings
            .payload
            .chunks_exact(6)
            .map(|setting| {
                let value = u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
                (u16::from_be_bytes([setting[0], setting[1]]), value)
            })
            .collect();
        // SETTINGS_MAX_CONCURRENT_STREAMS: a quarter of all requests.
        assert_eq!(settings[&3], 40);
        for index in 0..40 {
            http2.post(2 * index + 1, &[(":path", "/embed")], None).await;
        }
        http2.send(Frame { kind: PING, flags: 0, stream: 0, payload: vec![1; 8] }).await;
        http2.next(PING).await;
        connections.push(http2);
    }
    assert_eq!(status(&server).await, 200);
}
