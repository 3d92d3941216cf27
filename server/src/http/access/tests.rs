use std::net::SocketAddr;
use std::time::Duration;

use proxima_engine::{EngineConfig, Registry};
use serde_json::{Value, json};
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::captured::Log;
use super::*;
use crate::fake_model::{Knobs, TOKENS_MAX};
use crate::http::HttpConfig;
use crate::metrics::MetricsHub;
use crate::served::{Listening, fake_app, listen};

async fn serve(http: HttpConfig) -> (Listening, Knobs) {
    let (served, knobs) = fake_app(http, EngineConfig::default());
    (listen(served.app).await, knobs)
}

fn request(line: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{line} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n\
         {body}"
    )
}

/// A response's head, in lower case, and its body.
async fn send(address: SocketAddr, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer, and the end");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.to_ascii_lowercase(), body.to_owned())
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[tokio::test]
async fn a_line_says_what_was_asked_for_and_what_it_took_but_no_input() {
    let log = Log::begin();
    let (server, _) = serve(HttpConfig::default()).await;
    let body = json!({ "inputs": ["apricot", "two apricot"] }).to_string();
    let sent = request("POST /embed?key=apricot", "x-request-id: one\r\n", &body);
    let (head, answer) = send(server.http, &sent).await;
    assert_eq!(header(&head, "x-request-id"), Some("one"));
    let line = log.line("one").await;
    let tokens: u64 =
        header(&head, "x-compute-tokens").and_then(|count| count.parse().ok()).expect("a");
    for (key, expected) in [
        ("method", json!("POST")),
        ("path", json!("/embed")),
        ("dialect", json!("tei")),
        ("model", json!("fake")),
        ("status", json!(200)),
        ("inputs", json!(2)),
        ("tokens", json!(tokens)),
        ("bytes_in", json!(body.len())),
        ("bytes_out", json!(answer.len())),
        ("client", json!("127.0.0.1")),
        ("truncated", Value::Null),
        ("aborted", Value::Null),
        ("error", Value::Null),
        ("reason", Value::Null),
        ("grpc_status", Value::Null),
    ] {
        assert_eq!(line[key], expected, "{key}: {line}");
    }
    let time = |key: &str| line[key].as_f64().expect("milliseconds");
    assert!(time("total_ms") >= time("inference_ms") && time("inference_ms") > 0.0, "{line}");
    assert!(time("total_ms") >= time("tokenization_ms") && time("tokenization_ms") > 0.0, "{line}");
    assert!(time("total_ms") >= time("queue_ms"), "{line}");
    assert!(!log.text().contains("apricot"), "{}", log.text());
}

#[tokio::test]
async fn inputs_that_were_cut_are_counted() {
    let log = Log::begin();
    let (server, _) = serve(HttpConfig::default()).await;
    let long = "word ".repeat(TOKENS_MAX);
    let body = json!({ "inputs": [long, "word", long] }).to_string();
    let (head, _) =
        send(server.http, &request("POST /embed", "x-request-id: cut\r\n", &body)).await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert_eq!(log.line("cut").await["truncated"], 2);
    let (_, metrics) = send(server.http, &request("GET /metrics", "", "")).await;
    let counted = "proxima_truncated_inputs_total{model=\"fake\"} 2";
    assert!(metrics.lines().any(|line| line == counted), "{metrics}");
}

#[tokio::test]
async fn routes_and_dialects_are_those_that_answered() {
    let log = Log::begin();
    let (server, _) = serve(HttpConfig::default()).await;
    for (index, (line, body, path, dialect)) in [
        ("POST /v1/embeddings", r#"{"input": "a"}"#, "/v1/embeddings", json!("openai")),
        (
            "POST /v1/embeddings",
            r#"{"input": "a", "input_type": "query"}"#,
            "/v1/embeddings",
            json!("voyage"),
        ),
        ("POST /v2/embed", r#"{"texts": ["a"]}"#, "/v2/embed", json!("cohere")),
        ("POST /vectors", r#"{"text": "a"}"#, "/vectors", json!("weaviate")),
        ("GET /v1/models/fake", "", "/v1/models/{*id}", json!("openai")),
        ("GET /docs", "", "/docs", Value::Null),
        ("GET /no%20way/there", "", "/no%20way/there", Value::Null),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("id-{index}");
        send(server.http, &request(line, &format!("x-request-id: {id}\r\n"), body)).await;
        let logged = log.line(&id).await;
        assert_eq!((&logged["path"], &logged["dialect"]), (&json!(path), &dialect), "{logged}");
    }
    assert_eq!(log.line("id-0").await["inputs"], 1);
}

#[tokio::test]
async fn every_answer_has_an_id_and_errors_are_logged_with_theirs() {
    let log = Log::begin();
    let config = HttpConfig { api_keys: vec!["secret".into()], ..HttpConfig::default() };
    let (server, _) = serve(config).await;
    let key = "authorization: Bearer secret\r\n";
    let mut ids = Vec::new();
    for (line, headers, body, status, error) in [
        ("POST /embed", key, "{", 400, json!("body")),
        ("POST /embed", key, r#"{"inputs": []}"#, 400, json!("empty")),
        (
            "POST /v1/embeddings",
            key,
            r#"{"input": "a", "model": "no"}"#,
            404,
            json!("unknown_model"),
        ),
        ("POST /embed", key, r#"{"inputs": "a", "model": 1, "b": "secret"}"#, 422, json!("body")),
        (
            "POST /embed",
            key,
            r#"{"inputs": "a", "truncation_direction": "secret `secret` \"secret"}"#,
            422,
            json!("body"),
        ),
        ("POST /v2/embed", key, "[]", 400, json!("body")),
        ("POST /v1/rerank", key, "{}", 400, json!("body")),
        ("POST /nothing", key, "", 404, json!("unknown_path")),
        ("PUT /embed", key, "", 405, json!("unknown_path")),
        ("POST /embed", "", r#"{"inputs": "a"}"#, 401, json!("unauthorized")),
        ("POST /embed", "host: b\r\n", "", 400, json!("malformed")),
        ("POST /embed", key, r#"{"inputs": 5551234567}"#, 422, json!("body")),
        ("GET /info/none", key, "", 404, json!("unknown_model")),
        ("GET /v1/models/none", key, "", 404, json!("unknown_model")),
        ("GET /readyz/none", key, "", 404, json!("unknown_model")),
    ] {
        let (head, _) = send(server.http, &request(line, headers, body)).await;
        let id = header(&head, "x-request-id").expect("an id").to_owned();
        let logged = log.line(&id).await;
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{line}: {head}");
        assert_eq!((&logged["status"], &logged["error"]), (&json!(status), &error), "{logged}");
        assert_eq!(logged["reason"].is_string(), error.is_string(), "{logged}");
        // The beginning of SHA-256("secret"); a client without a key is identified by its address.
        let client = if headers == key { "key:2bb80d53" } else { "127.0.0.1" };
        assert_eq!(logged["client"], client, "{logged}");
        ids.push(id);
    }
    assert!(!log.text().contains("secret"), "{}", log.text());
    assert!(!log.text().contains("555123456"), "{}", log.text());
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 15, "each has its own");
    let (_, metrics) = send(server.http, &request("GET /metrics", key, "")).await;
    for (path, status) in [("/embed", 401), ("/v1/rerank", 400), ("other", 404)] {
        let sample =
            format!("proxima_http_responses_total{{path=\"{path}\",status=\"{status}\"}} 1");
        assert!(metrics.contains(&sample), "{sample} is not in {metrics}");
    }
}

#[tokio::test]
async fn failures_of_the_server_are_warnings_and_readiness_says_why() {
    let log = Log::begin();
    let (server, _) = serve(HttpConfig::default()).await;
    for body in [r#"{"inputs": "panic"}"#, r#"{"inputs": "tokenizer bug"}"#, r#"{"inputs": []}"#] {
        send(server.http, &request("POST /embed", "", body)).await;
    }
    let registry = Registry::starting(["a".to_owned()]).expect("one name");
    let starting = listen(Arc::new(App::new(registry, MetricsHub::new(), HttpConfig::default())));
    let starting = starting.await;
    send(starting.http, &request("GET /readyz", "x-request-id: probe\r\n", "")).await;
    let line = log.line("probe").await;
    assert_eq!((&line["status"], &line["error"]), (&json!(503), &json!("not_ready")), "{line}");
    assert!(line["reason"].as_str().is_some_and(|text| text.contains("not ready")), "{line}");
    let text = log.text();
    let lines = text.lines().map(|line| serde_json::from_str(line).expect("an object a line"));
    let access = lines.filter(|line: &Value| line["target"] == "proxima::access");
    let levels = access.map(|line| {
        let status = line["fields"]["status"].as_u64().unwrap_or_default();
        (status, line["level"].as_str().unwrap_or_default().to_owned())
    });
    let expected = [(424, "WARN"), (500, "WARN"), (400, "INFO"), (503, "INFO")];
    assert_eq!(levels.collect::<Vec<_>>(), expected.map(|(status, level)| (status, level.into())));
}

#[tokio::test]
async fn ids_that_cannot_be_repeated_everywhere_are_replaced() {
    let (server, _) = serve(HttpConfig::default()).await;
    let longest = "x".repeat(ID_CHARS_MAX);
    for (sent, taken) in [
        (longest.clone(), true),
        ("a-b_c.d:{e}\"f".into(), true),
        (longest + "x", false),
        (String::new(), false),
        ("two words".into(), false),
        ("caf\u{e9}".into(), false),
        ("one\r\nx-request-id: two".into(), false),
    ] {
        let (head, _) =
            send(server.http, &request("GET /livez", &format!("x-request-id: {sent}\r\n"), ""))
                .await;
        let id = header(&head, "x-request-id").expect("an id");
        assert_eq!(id == sent, taken, "{sent:?}: {id}");
        assert!(!id.is_empty() && id.bytes().all(|byte| byte.is_ascii_graphic()), "{id:?}");
    }
}

#[tokio::test]
async fn probes_are_logged_if_they_fail_and_others_as_it_is_set() {
    for (setting, expected) in [
        (LogRequests::All, &["/embed", "/nothing", "/readyz/{*model}"][..]),
        (LogRequests::Errors, &["/nothing", "/readyz/{*model}"]),
        (LogRequests::Off, &[]),
    ] {
        let log = Log::begin();
        let config = HttpConfig { log_requests: setting, ..HttpConfig::default() };
        let (server, _) = serve(config).await;
        for path in ["/livez", "/readyz", "/health", "/ping", "/metrics", "/readyz/fake", "/"] {
            let (head, _) = send(server.http, &request(&format!("GET {path}"), "", "")).await;
            assert!(head.starts_with("http/1.1 200"), "{path}: {head}");
        }
        send(server.http, &request("POST /embed", "", r#"{"inputs": "a"}"#)).await;
        send(server.http, &request("GET /nothing", "", "")).await;
        // The second says nothing new.
        send(server.http, &request("GET /readyz/other", "", "")).await;
        send(server.http, &request("GET /readyz/another", "", "")).await;
        // A connection that has ended has dropped everything it held.
        let _ = server.stop.send(());
        server.serving.await.expect("it ends");
        let requests = log.requests();
        let paths: Vec<_> = requests.iter().filter_map(|line| line["path"].as_str()).collect();
        assert_eq!(paths, expected, "{setting:?}");
    }
}

#[tokio::test]
async fn a_request_that_its_client_gave_up_is_logged_as_such() {
    let log = Log::begin();
    let (server, knobs) = serve(HttpConfig::default()).await;
    knobs.shut();
    let sent = request("POST /embed", "x-request-id: gone\r\n", r#"{"inputs": "a"}"#);
    let mut stream = TcpStream::connect(server.http).await.expect("connected");
    stream.write_all(sent.as_bytes()).await.expect("sent");
    let waits = knobs.clone();
    let waited = tokio::task::spawn_blocking(move || waits.wait_until_a_batch_waits());
    waited.await.expect("it waits");
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("set");
    drop(stream);
    let line = log.line("gone").await;
    assert_eq!((&line["status"], &line["aborted"]), (&json!(499), &json!(true)), "{line}");
    knobs.open();
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_logged_as_broken_off() {
    let log = Log::begin();
    let engine = EngineConfig { inputs_max: 30_000, ..EngineConfig::default() };
    let (served, _) = fake_app(HttpConfig::default(), engine);
    let server = listen(served.app).await;
    let inputs = vec!["a b c d e f g h i j k l m n"; 30_000];
    let body = json!({ "inputs": inputs }).to_string();
    let sent = request("POST /embed_all", "x-request-id: broken\r\n", &body);
    let mut stream = TcpStream::connect(server.http).await.expect("connected");
    stream.write_all(sent.as_bytes()).await.expect("sent");
    let mut first = [0; 12];
    stream.read_exact(&mut first).await.expect("a head");
    assert!(log.requests().is_empty(), "it is not at its end");
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("set");
    drop(stream);
    let line = log.line("broken").await;
    assert_eq!((&line["status"], &line["aborted"]), (&json!(200), &json!(true)), "{line}");
    assert_eq!(line["inputs"], 30_000);
}

#[test]
fn what_grpc_itself_refuses_has_a_reason_without_inputs() {
    let noted = |status: &'static str, message: Option<&'static str>| {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-status", HeaderValue::from_static(status));
        message.map(|text| headers.insert("grpc-message", HeaderValue::from_static(text)));
        let mut noted = Noted::default();
        note_grpc(&mut noted, &headers);
        (noted.error, noted.reason)
    };
    assert_eq!(noted("0", None), (None, None));
    let (error, reason) = noted("12", None);
    assert_eq!((error, reason.is_some_and(|text| !text.is_empty())), (Some("unknown_path"), true));
    let decoded = noted("13", Some("failed%20to%20decode%20%22secret%22"));
    assert_eq!(decoded, (Some("malformed"), Some("failed to decode \"...\"".into())));
}

/// The log of a process as text: a request is one line, and nothing in it can break it.
#[test]
fn text_of_clients_breaks_no_line() {
    assert_eq!(shown("/a b\n\u{1b}[31m\u{e9}"), "/a?b??[31m?");
    assert_eq!(shown(&"x".repeat(1000)).len(), TEXT_CHARS_MAX);
}
