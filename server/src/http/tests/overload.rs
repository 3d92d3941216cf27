//! What is refused under load, and how little work that takes.

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::*;

/// A server whose queue is full until its knobs are opened.
async fn full() -> (Server, tokio::task::JoinHandle<()>) {
    let engine = EngineConfig {
        queue_tokens_max: 800,
        interactive_tokens_max: 32,
        ..EngineConfig::default()
    };
    let server = server(HttpConfig::default(), engine);
    server.knobs.shut();
    let router = server.router.clone();
    let send = move |from: usize, count: usize| {
        let text = |index: usize| format!("text {index} a b c d e f g h i j k l");
        let inputs: Vec<String> = (from..from + count).map(text).collect();
        let body = json!({ "inputs": inputs }).to_string();
        let request = Request::post("/embed").body(Body::from(body)).expect("a request");
        tokio::spawn(router.clone().oneshot(request))
    };
    let first = send(0, 1);
    let knobs = server.knobs.clone();
    let held = tokio::task::spawn_blocking(move || knobs.wait_until_a_batch_waits());
    held.await.expect("no panic");
    let second = send(1, 48);
    while server.engine.queue_tokens() < 48 * 16 {
        tokio::task::yield_now().await;
    }
    let waits = tokio::spawn(async move {
        for answer in [first, second] {
            let answer = answer.await.expect("no panic").expect("answered");
            assert_eq!(answer.status(), StatusCode::OK);
        }
    });
    (server, waits)
}

async fn raw(server: &Server, path: &str, body: String) -> TestResponse {
    send(server, Request::post(path).body(Body::from(body)).expect("a request")).await
}

#[tokio::test]
async fn a_large_body_is_refused_before_it_is_read_as_json() {
    let (server, waits) = full().await;
    // None of these is JSON, so parsing them would fail with another message.
    let strings = "\"some words of a text\",".repeat(1_000);
    for (path, message) in [
        ("/embed", "/error"),
        ("/v1/embeddings", "/error/message"),
        ("/v1/rerank", "/detail"),
        ("/v2/rerank", "/message"),
    ] {
        let answer = raw(&server, path, format!("{{\"inputs\": [{strings}")).await;
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{path}: {}", answer.body);
        assert!(answer.headers.contains_key("retry-after"), "{path}");
        let said = answer.json();
        let said = said.pointer(message).and_then(Value::as_str).unwrap_or_default();
        assert!(said.contains("overloaded"), "{path}: {}", answer.body);
    }
    // What needs no device, is small, or only looks large is parsed.
    let vectors = format!("{{\"document_embeddings\": [{strings}");
    let long = format!("{{\"inputs\": \"{}", "a ".repeat(20_000));
    let small = "{\"inputs\": [\"a\",".to_owned();
    let tokens = format!("{{\"inputs\": [{strings}");
    for (path, body) in
        [("/v1/rerank", vectors), ("/embed", long), ("/embed", small), ("/tokenize", tokens)]
    {
        let answer = raw(&server, path, body).await;
        assert!(answer.status != StatusCode::TOO_MANY_REQUESTS, "{path}: {}", answer.body);
        assert!(answer.status.is_client_error(), "{path}: {}", answer.body);
    }
    server.knobs.open();
    waits.await.expect("all that was let in is answered");
    let answer = raw(&server, "/embed", format!("{{\"inputs\": [{strings}")).await;
    assert!(answer.status != StatusCode::TOO_MANY_REQUESTS, "nothing waits: {}", answer.body);
}

#[tokio::test]
async fn a_refusal_holds_its_permit_until_it_is_written() {
    let http = HttpConfig { requests_max: 1, ..HttpConfig::default() };
    let server = server(http, EngineConfig::default());
    let ask = |body: &'static str| {
        let request = Request::post("/embed").body(Body::from(body)).expect("a request");
        server.router.clone().oneshot(request)
    };
    // The body takes a permit before it is read as JSON.
    let refused = ask("not JSON").await.expect("answered");
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    let next = ask(r#"{"inputs": "a"}"#).await.expect("answered");
    assert_eq!(next.status(), StatusCode::TOO_MANY_REQUESTS);
    drop((refused, next));
    let last = ask(r#"{"inputs": "a"}"#).await.expect("answered");
    assert_eq!(last.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_client_leaves_permits_for_others() {
    let api_keys = vec!["one".into(), "two".into()];
    let http = HttpConfig { requests_max: 16, api_keys, ..HttpConfig::default() };
    let server = server(http, EngineConfig::default());
    server.knobs.shut();
    let ask = |key: &str, text: String| {
        let request = Request::post("/embed").header("authorization", key.to_owned());
        let body = Body::from(json!({ "inputs": text }).to_string());
        let request = request.body(body).expect("a request");
        tokio::spawn(server.router.clone().oneshot(request))
    };
    let mut first: FuturesUnordered<_> =
        (0..16).map(|index| ask("one", format!("text {index}"))).collect();
    // None of the others can be answered.
    let refused = first.next().await.expect("one").expect("no panic").expect("answered");
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    let second = ask("two", "another".into());
    server.knobs.open();
    assert_eq!(second.await.expect("no panic").expect("answered").status(), StatusCode::OK);
    while let Some(answer) = first.next().await {
        assert_eq!(answer.expect("no panic").expect("answered").status(), StatusCode::OK);
    }
}
