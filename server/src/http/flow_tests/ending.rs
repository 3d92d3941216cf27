//! How connections end: when the server stops or is about to, and when clients stop sending.

use super::*;

/// So long that a test that waits for it never ends.
const EVER: Duration = Duration::from_secs(24 * 3600);
const REQUEST: &str = "{\"inputs\":\"a b c\"}";

/// Waits until a request is held at the closed gate of the model.
async fn until_it_waits(knobs: &Knobs) {
    let knobs = knobs.clone();
    let waits = tokio::task::spawn_blocking(move || knobs.wait_until_a_batch_waits());
    waits.await.expect("no panic");
}

async fn ask(http2: &mut Http2, stream: u32) {
    http2.post(stream, &[(":path", "/embed")], Some(REQUEST.into())).await;
}

/// The body of a stream's response, to its end.
async fn body_of(http2: &mut Http2, stream: u32) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let frame = http2.receive().await.expect("the connection lives");
        assert_ne!(frame.kind, RST_STREAM, "{frame:?}");
        if frame.stream == stream && frame.kind == DATA {
            body.extend(frame.payload);
        }
        if frame.stream == stream && frame.flags & END_STREAM != 0 {
            return body;
        }
    }
}

fn drains_for_ever() -> HttpConfig {
    HttpConfig { drain_timeout: EVER, ..HttpConfig::default() }
}

#[tokio::test]
async fn a_server_that_stops_waits_for_no_connection_without_a_request() {
    let second = Duration::from_secs(1);
    let config = HttpConfig { write_timeout: second, body_timeout: second, ..drains_for_ever() };
    let server = serve(config).await;
    let silent = connect(server.http).await;
    let mut half_head = connect(server.http).await;
    half_head.write_all(b"POST /embed HTTP/1.1\r\nhost: a\r\n").await.expect("sent");
    let mut between = connect(server.http).await;
    let request = head("/embed", "1.1", REQUEST.len()) + REQUEST;
    between.write_all(request.as_bytes()).await.expect("sent");
    let mut first = [0; 12];
    between.read_exact(&mut first).await.expect("a head");
    // None of these clients replies to the server's frames.
    let mut idle = Http2::connect(server.http, 65_535).await;
    idle.next(SETTINGS).await;
    let mut answered = Http2::connect(server.http, 65_535).await;
    ask(&mut answered, 1).await;
    body_of(&mut answered, 1).await;
    let mut grpc = Http2::connect(server.grpc, 65_535).await;
    grpc.next(SETTINGS).await;
    let mut unread = Http2::connect(server.http, 0).await;
    ask(&mut unread, 1).await;
    assert_eq!(unread.next(RST_STREAM).await.stream, 1);
    let mut slow = Http2::connect(server.http, 65_535).await;
    slow.post(1, &[(":path", "/embed")], None).await;
    assert_eq!(slow.next(HEADERS).await.stream, 1, "its body was too slow");
    server.stop.send(()).expect("it serves");
    server.serving.await.expect("it ends, though all are still connected");
    drop((silent, half_head, between, idle, answered, grpc, unread, slow));
}

#[tokio::test]
async fn a_server_that_stops_answers_what_it_accepted_on_every_kind_of_connection() {
    let server = serve(drains_for_ever()).await;
    let expected = answer(server.http, "/embed", "1.1", &json!({ "inputs": "a b c" })).await.1;
    server.knobs.shut();
    let mut http2 = Http2::connect(server.http, 65_535).await;
    ask(&mut http2, 1).await;
    let mut http1 = connect(server.http).await;
    let request = head("/embed", "1.1", REQUEST.len()) + REQUEST;
    http1.write_all(request.as_bytes()).await.expect("sent");
    until_it_waits(&server.knobs).await;
    // Both are accepted once both have a permit.
    let all = server.app.config().requests_max;
    while server.app.permits().available_permits() > all - 2 {
        tokio::task::yield_now().await;
    }
    server.stop.send(()).expect("it serves");
    http2.next(GOAWAY).await;
    server.knobs.open();
    assert_eq!(body_of(&mut http2, 1).await, expected);
    let mut whole = Vec::new();
    http1.read_to_end(&mut whole).await.expect("an answer, and the end");
    assert!(whole.ends_with(&expected), "{}", String::from_utf8_lossy(&whole));
    server.serving.await.expect("it ends");
}

#[tokio::test]
async fn clients_of_http2_are_told_when_the_server_is_about_to_stop() {
    let server = serve(drains_for_ever()).await;
    let mut before = Http2::connect(server.http, 65_535).await;
    let mut grpc = Http2::connect(server.grpc, 65_535).await;
    ask(&mut before, 1).await;
    body_of(&mut before, 1).await;
    grpc.next(SETTINGS).await;
    server.app.leave();
    let goaway = before.next(GOAWAY).await;
    // No stream is refused yet: some may be in flight.
    assert_eq!(goaway.payload[..4], 0x7fff_ffff_u32.to_be_bytes());
    grpc.next(GOAWAY).await;
    ask(&mut before, 3).await;
    assert!(!body_of(&mut before, 3).await.is_empty());
    // New connections are served as before: their clients would only reconnect.
    let mut later = Http2::connect(server.http, 65_535).await;
    for stream in [1, 3] {
        ask(&mut later, stream).await;
        assert!(!body_of(&mut later, stream).await.is_empty());
    }
    server.stop.send(()).expect("it serves");
    server.serving.await.expect("it ends");
}

#[tokio::test]
async fn a_half_closed_client_of_http2_gets_its_answers() {
    let server = serve(HttpConfig::default()).await;
    let expected = answer(server.http, "/embed", "1.1", &json!({ "inputs": "a b c" })).await.1;
    server.knobs.shut();
    let mut http2 = Http2::connect(server.http, 65_535).await;
    ask(&mut http2, 1).await;
    ask(&mut http2, 3).await;
    http2.stream.shutdown().await.expect("half closed");
    until_it_waits(&server.knobs).await;
    // The server has seen the end, and says that it accepts nothing more.
    http2.next(GOAWAY).await;
    server.knobs.open();
    let (mut first, mut second, mut ended) = (Vec::new(), Vec::new(), 0);
    while ended < 2 {
        let frame = http2.receive().await.expect("the connection lives");
        assert_ne!(frame.kind, RST_STREAM, "{frame:?}");
        if frame.kind == DATA {
            let body = if frame.stream == 1 { &mut first } else { &mut second };
            body.extend(frame.payload);
            ended += usize::from(frame.flags & END_STREAM);
        }
    }
    assert_eq!((&first, &second), (&expected, &expected));
    while http2.receive().await.is_ok() {}
}

#[tokio::test]
async fn the_requests_of_a_client_of_http2_that_disconnects_end() {
    let server = serve(HttpConfig { requests_max: 1, ..HttpConfig::default() }).await;
    server.knobs.shut();
    let mut http2 = Http2::connect(server.http, 65_535).await;
    ask(&mut http2, 1).await;
    until_it_waits(&server.knobs).await;
    assert_eq!(server.app.permits().available_permits(), 0);
    drop(http2);
    // Its batch still waits at the gate, but it no longer has its permit.
    drop(server.app.permits().acquire().await.expect("never closed"));
    server.knobs.open();
    assert_eq!(status(&server).await, 200);
}
