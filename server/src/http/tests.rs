//! The router as clients see it, around a model that can be told to misbehave.

mod bodies;
mod connections;
mod keys;
mod overload;
mod standards;
mod token_ids;

use crate::fake_model::{Knobs, WIDTH};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use proxima_engine::{Engine, EngineConfig};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::router::router;
use crate::served::{Listening, fake_app, listen};

struct Server {
    router: Router,
    engine: Engine,
    knobs: Knobs,
}

fn server(http: HttpConfig, engine: EngineConfig) -> Server {
    let (served, knobs) = fake_app(http, engine);
    Server { router: router(served.app), engine: served.engine, knobs }
}

fn default_server() -> Server {
    server(HttpConfig::default(), EngineConfig::default())
}

struct TestResponse {
    status: StatusCode,
    headers: axum::http::HeaderMap,
    body: String,
}

impl TestResponse {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.body))
    }
}

async fn send(server: &Server, request: Request<Body>) -> TestResponse {
    let response = server.router.clone().oneshot(request).await.expect("answered");
    let (head, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.expect("a whole body");
    let body = String::from_utf8(bytes.to_vec()).expect("text");
    TestResponse { status: head.status, headers: head.headers, body }
}

async fn get(server: &Server, path: &str) -> TestResponse {
    send(server, Request::get(path).body(Body::empty()).expect("a request")).await
}

async fn post(server: &Server, path: &str, body: &Value) -> TestResponse {
    send(server, Request::post(path).body(Body::from(body.to_string())).expect("a request")).await
}

fn vectors(answer: &TestResponse) -> Vec<Vec<f32>> {
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    serde_json::from_value(answer.json()).expect("vectors")
}

#[tokio::test]
async fn every_path_that_embeds_gives_the_same_vectors() {
    let server = default_server();
    let body = json!({ "inputs": ["one text", "another"] });
    let expected = vectors(&post(&server, "/embed", &body).await);
    assert_eq!(expected.len(), 2);
    for path in ["/", "/invocations"] {
        assert_eq!(vectors(&post(&server, path, &body).await), expected);
    }
    let instances = json!({ "instances": [{ "inputs": "one text" }, { "inputs": ["another"] }] });
    let predictions = post(&server, "/vertex", &instances).await;
    let written = serde_json::to_string(&[[&expected[0]], [&expected[1]]]).expect("written");
    assert_eq!(predictions.body, format!("{{\"predictions\":{written}}}"));
    for path in ["/v1/embeddings", "/embeddings"] {
        let body = json!({ "input": ["one text", "another"], "model": "fake", "user": "me" });
        let answer = post(&server, path, &body).await.json();
        let vector: Vec<f32> =
            serde_json::from_value(answer["data"][1]["embedding"].clone()).expect("a vector");
        assert_eq!(vector, expected[1]);
        assert_eq!(answer["data"][1]["index"], 1);
        assert_eq!(answer["usage"], json!({ "prompt_tokens": 7, "total_tokens": 7 }));
        assert_eq!(answer["model"], "fake");
    }
}

#[tokio::test]
async fn options_of_a_request_are_heard() {
    let server = default_server();
    let server = &server;
    let one = |body: Value| async move { vectors(&post(server, "/embed", &body).await)[0].clone() };
    let plain = one(json!({ "inputs": "text" })).await;
    let prompted = one(json!({ "inputs": "search for text" })).await;
    assert_eq!(one(json!({ "inputs": "text", "prompt_name": "query" })).await, prompted);
    assert_eq!(one(json!({ "inputs": "text", "instruction": "search for" })).await, prompted);
    assert_eq!(one(json!({ "inputs": "text", "instruction": "" })).await, plain);
    let raw = one(json!({ "inputs": "text", "normalize": false })).await;
    let length = raw.iter().map(|value| value * value).sum::<f32>().sqrt();
    assert!((length - 1.0).abs() > 1e-3 && (raw[0] / length - plain[0]).abs() < 1e-6);
    let cut = one(json!({ "inputs": "text", "dimensions": 2 })).await;
    assert!((cut.iter().map(|value| value * value).sum::<f32>() - 1.0).abs() < 1e-6);
    let long = "a b c d e f g h i j k l m n o p q r s t u v w x y z";
    let right = one(json!({ "inputs": long, "truncation_direction": "Right" })).await;
    let left = one(json!({ "inputs": long, "truncation_direction": "left" })).await;
    assert_eq!(one(json!({ "inputs": "a b c d e f g h i j k l m n" })).await, right);
    assert_eq!(one(json!({ "inputs": "m n o p q r s t u v w x y z" })).await, left);
}

#[tokio::test]
async fn the_other_endpoints_of_tei_have_their_shapes() {
    let server = default_server();
    let all = post(&server, "/embed_all", &json!({ "inputs": ["a b", "c"] })).await.json();
    assert_eq!(all[0].as_array().map(Vec::len), Some(4));
    assert_eq!(all[0][0].as_array().map(Vec::len), Some(WIDTH));
    let similarity = json!({ "inputs": { "source_sentence": "a", "sentences": ["b", "a"] } });
    let similarity = post(&server, "/similarity", &similarity).await.json();
    assert!((similarity[1].as_f64().expect("a number") - 1.0).abs() < 1e-6);
    assert!(similarity[0].as_f64().expect("a number") < 0.99);
    let tokens = post(&server, "/tokenize", &json!({ "inputs": "ab cd" })).await.json();
    assert_eq!(tokens[0][0]["special"], true);
    assert_eq!(tokens[0][0]["start"], Value::Null);
    assert_eq!((&tokens[0][2]["text"], &tokens[0][2]["start"]), (&json!("cd"), &json!(3)));
    let bare = json!({ "inputs": ["ab"], "add_special_tokens": false });
    assert_eq!(post(&server, "/tokenize", &bare).await.json()[0].as_array().map(Vec::len), Some(1));
    assert_eq!(
        post(&server, "/decode", &json!({ "ids": [0, 12, 13, 1] })).await.json(),
        json!(["w12 w13"])
    );
    let info = get(&server, "/info").await.json();
    assert_eq!(info["model_type"], json!({ "embedding": { "pooling": "mean" } }));
    assert_eq!(info["max_input_length"], crate::fake_model::TOKENS_MAX);
    let answer = post(&server, "/embed", &json!({ "inputs": "two words" })).await;
    assert_eq!(answer.headers["x-compute-tokens"], "4");
    assert_eq!(answer.headers["x-compute-characters"], "9");
    assert!(answer.headers.contains_key("x-inference-time"));
    assert!(answer.headers.contains_key("x-tokenization-queue-time"));
}

#[tokio::test]
async fn errors_have_each_dialects_shape() {
    let server = default_server();
    let cases = [
        (json!({ "inputs": "poison" }), json!({ "input": "poison" }), 424, 500, "finite"),
        (json!({ "inputs": "panic" }), json!({ "input": "panic" }), 424, 500, "panic"),
        (
            json!({ "inputs": ["a", "tokenizer bug"] }),
            json!({ "input": ["a", "tokenizer bug"] }),
            500,
            500,
            "input 1: preparing it failed because of an internal error",
        ),
        (json!({ "inputs": [] }), json!({ "input": [] }), 400, 400, "empty"),
        (
            json!({ "inputs": "a", "dimensions": 9 }),
            json!({ "input": "a", "dimensions": 9 }),
            422,
            400,
            "between 1 and 8",
        ),
        (
            json!({ "inputs": "a", "model": "b" }),
            json!({ "input": "a", "model": "b" }),
            404,
            404,
            "served: fake",
        ),
        (json!({ "inputs": 1 }), json!({ "input": 1 }), 422, 400, "expected"),
    ];
    for (tei, openai, tei_status, openai_status, says) in cases {
        let answer = post(&server, "/embed", &tei).await;
        assert_eq!(answer.status.as_u16(), tei_status, "{}", answer.body);
        let error = answer.json();
        assert!(error["error"].as_str().is_some_and(|text| text.contains(says)), "{error}");
        assert!(error["error_type"].is_string());
        let answer = post(&server, "/v1/embeddings", &openai).await;
        assert_eq!(answer.status.as_u16(), openai_status, "{}", answer.body);
        let error = &answer.json()["error"];
        assert!(error["message"].as_str().is_some_and(|text| text.contains(says)), "{error}");
        for field in ["type", "param", "code"] {
            assert!(error.get(field).is_some(), "{field} is there, if null");
        }
    }
    assert_eq!(get(&server, "/v1/nothing").await.json()["error"]["type"], "invalid_request_error");
    assert_eq!(get(&server, "/nothing").await.status, StatusCode::NOT_FOUND);
    let wrong_method = get(&server, "/embed").await;
    assert_eq!(wrong_method.status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(wrong_method.json()["error"].as_str().is_some_and(|text| text.contains("GET")));
}

#[tokio::test]
async fn a_body_above_the_limit_is_refused_whether_its_length_is_declared_or_not() {
    let http = HttpConfig { body_bytes_max: 100, ..HttpConfig::default() };
    let server = server(http, EngineConfig::default());
    let long = json!({ "inputs": "a".repeat(200) }).to_string();
    let declared = Request::post("/embed").body(Body::from(long.clone())).expect("a request");
    let answer = send(&server, declared).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(answer.body.contains("100 bytes"));
    let pieces = futures_util::stream::iter(
        long.as_bytes()
            .chunks(10)
            .map(|piece| Ok::<_, std::io::Error>(piece.to_vec()))
            .collect::<Vec<_>>(),
    );
    let streamed = Request::post("/embed").body(Body::from_stream(pieces)).expect("a request");
    assert_eq!(send(&server, streamed).await.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn only_those_with_a_key_get_in() {
    let http = HttpConfig { api_keys: vec!["one".into(), "two".into()], ..HttpConfig::default() };
    let server = server(http, EngineConfig::default());
    let body = json!({ "inputs": "a" }).to_string();
    let with = |value: Option<&str>| {
        let mut request = Request::post("/embed");
        if let Some(value) = value {
            request = request.header("authorization", value);
        }
        send(&server, request.body(Body::from(body.clone())).expect("a request"))
    };
    for wrong in [None, Some("Bearer three"), Some("Bearer "), Some("Bearer on"), Some("")] {
        let answer = with(wrong).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert!(answer.json()["error"].is_string());
    }
    for right in ["Bearer one", "Bearer two", "two"] {
        assert_eq!(with(Some(right)).await.status, StatusCode::OK);
    }
    for open in ["/", "/health", "/livez", "/readyz", "/metrics", "/docs", "/openapi.json"] {
        assert_eq!(get(&server, open).await.status, StatusCode::OK, "{open}");
    }
    assert_eq!(get(&server, "/info").await.status, StatusCode::UNAUTHORIZED);
    let unknown = get(&server, "/v1/models").await;
    assert_eq!(unknown.json()["error"]["code"], "invalid_api_key");
    assert!(
        !format!("{:?}", HttpConfig { api_keys: vec!["s3cret".into()], ..Default::default() })
            .contains("s3cret")
    );
}

#[tokio::test]
async fn too_many_requests_at_a_time_are_told_when_to_come_back() {
    let http = HttpConfig { requests_max: 1, ..HttpConfig::default() };
    let server = server(http, EngineConfig::default());
    server.knobs.shut();
    let first = tokio::spawn({
        let router = server.router.clone();
        let request = Request::post("/embed").body(Body::from("{\"inputs\": \"a\"}"));
        async move { router.oneshot(request.expect("a request")).await }
    });
    let knobs = server.knobs.clone();
    let waited = tokio::task::spawn_blocking(move || knobs.wait_until_a_batch_waits());
    waited.await.expect("waited");
    let second = post(&server, "/v1/embeddings", &json!({ "input": "b" })).await;
    assert_eq!(second.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(second.headers["retry-after"], "1");
    assert_eq!(second.json()["error"]["type"], "rate_limit_error");
    assert_eq!(get(&server, "/livez").await.status, StatusCode::OK);
    server.knobs.open();
    assert!(first.await.expect("no panic").is_ok_and(|answer| answer.status() == StatusCode::OK));
}

#[tokio::test]
async fn a_request_that_takes_too_long_ends_and_health_turns_red() {
    let limit = Duration::from_millis(50);
    let http =
        HttpConfig { request_timeout: limit, health_timeout: limit, ..HttpConfig::default() };
    let server = server(http, EngineConfig::default());
    server.knobs.shut();
    let answer = post(&server, "/embed", &json!({ "inputs": "a" })).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    let health = get(&server, "/health").await;
    assert_eq!(health.status, StatusCode::SERVICE_UNAVAILABLE);
    server.knobs.open();
}

#[tokio::test]
async fn health_is_red_when_the_engine_is_gone() {
    let server = default_server();
    server.engine.shutdown().await;
    let health = get(&server, "/health").await;
    assert_eq!(health.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(health.json()["error_type"], "Unhealthy");
    assert_eq!(get(&server, "/readyz").await.json()["status"], "unready");
    assert_eq!(get(&server, "/livez").await.status, StatusCode::OK);
    let late = post(&server, "/embed", &json!({ "inputs": "a" })).await;
    assert_eq!(late.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn metrics_have_the_documented_names() {
    let server = default_server();
    post(&server, "/embed", &json!({ "inputs": ["a", "b c"] })).await;
    post(&server, "/embed", &json!({ "inputs": "poison" })).await;
    post(&server, "/embed", &json!({ "inputs": 3 })).await;
    let text = get(&server, "/metrics").await.body;
    for line in [
        "proxima_requests_total{endpoint=\"batch\",model=\"fake\"} 1",
        "proxima_requests_total{endpoint=\"single\",model=\"fake\"} 1",
        "proxima_errors_total{kind=\"model\",model=\"fake\"} 1",
        "proxima_errors_total{kind=\"body\",model=\"\"} 1",
        // Before the first of them, so that a rate sees it.
        "proxima_errors_total{kind=\"bug\",model=\"fake\"} 0",
        "proxima_errors_total{kind=\"timeout\",model=\"\"} 0",
        "proxima_events_total{event=\"not_finite\",model=\"fake\"} 1",
        "proxima_model_ready{model=\"fake\"} 1",
        "proxima_request_tokens_total{model=\"fake\"} 7",
        "proxima_queue{model=\"fake\",unit=\"tokens\"} 0",
        "proxima_tokenizer_wait_seconds_count{model=\"fake\"} 2",
        "te_request_count{method=\"batch\"} 1",
        "te_embed_success 1",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(text.contains("proxima_batch_seconds_bucket{") && text.contains("te_queue_size 0"));
}

#[tokio::test]
async fn the_documents_are_served() {
    let server = default_server();
    let document = get(&server, "/openapi.json").await.json();
    assert!(document["paths"]["/embed"]["post"].is_object());
    assert!(document["paths"]["/v1/embeddings"]["post"].is_object());
    let page = get(&server, "/docs").await.body;
    assert!(page.contains("openapi.json") && !page.contains("src=\"http"));
}

#[tokio::test]
async fn a_stopping_server_answers_what_it_accepted_and_takes_nothing_new() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (served, knobs) = fake_app(HttpConfig::default(), EngineConfig::default());
    let Listening { http: address, stop, serving, .. } = listen(served.app).await;
    knobs.shut();
    let mut accepted = tokio::net::TcpStream::connect(address).await.expect("connected");
    let body = "{\"inputs\": \"accepted\"}";
    let request =
        format!("POST /embed HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    accepted.write_all(request.as_bytes()).await.expect("sent");
    let waiting = knobs.clone();
    let waited = tokio::task::spawn_blocking(move || waiting.wait_until_a_batch_waits());
    waited.await.expect("waited");
    stop.send(()).expect("the server listens");
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!serving.is_finished(), "it waits for what it accepted");
    knobs.open();
    let mut answer = String::new();
    accepted.read_to_string(&mut answer).await.expect("a whole answer");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("]]"), "{answer}");
    serving.await.expect("no panic");
}
