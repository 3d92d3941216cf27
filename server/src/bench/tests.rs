use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use proxima_engine::EngineConfig;
use proxima_models::Progress;

use super::load::Latency;
use super::*;
use crate::http::HttpConfig;
use crate::served::{fake_app, listen};

fn load(address: &str, path: &str) -> LoadPlan {
    LoadPlan {
        address: address.to_owned(),
        path: path.to_owned(),
        model: None,
        api_key: Some("secret".into()),
        clients: 2,
        batch: 3,
        mixed: false,
        words: 4,
        time: Duration::from_millis(200),
        rate: None,
        encoding: "float".into(),
        waits: false,
    }
}

#[tokio::test]
async fn what_is_counted_is_what_the_server_counts() {
    let config = HttpConfig { api_keys: vec!["secret".into()], ..HttpConfig::default() };
    let (served, _) = fake_app(config, EngineConfig::default());
    let app = served.app.clone();
    let server = listen(served.app).await;
    let address = server.http.to_string();
    for path in ["/embed", "/v1/embeddings"] {
        let load = load(&address, path);
        let sent = tokio::task::spawn_blocking(move || load::run(&load, &Progress::default()))
            .await
            .expect("it ends");
        assert_eq!(sent.errors, Vec::<String>::new(), "{path}");
        assert!(!sent.latencies.is_empty() && sent.tokens > 0, "{path}");
        assert_eq!(sent.texts(), 3 * sent.latencies.len(), "{path}");
        let metrics = app.metrics().text();
        let value = |name: &str| -> f64 {
            let line = metrics.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.rsplit_once(' ')).expect("a value").1;
            value.parse().expect("a number")
        };
        if path == "/embed" {
            let requests = "proxima_requests_total{endpoint=\"batch\",model=\"fake\"}";
            assert_eq!(value(requests), sent.latencies.len() as f64);
            let tokens = "proxima_request_tokens_total{model=\"fake\"}";
            assert_eq!(value(tokens), sent.tokens as f64);
        }
    }
    // A failed request does not count as answered.
    let wrong = LoadPlan { api_key: None, ..load(&address, "/embed") };
    let sent = tokio::task::spawn_blocking(move || load::run(&wrong, &Progress::default()))
        .await
        .expect("it ends");
    assert!(sent.latencies.is_empty());
    // With the server's message.
    let refused =
        |error: &String| error.starts_with("status 401") && error.contains("valid API key");
    assert!(sent.errors.iter().all(refused) && !sent.errors.is_empty(), "{:?}", sent.errors);
}

/// A server that refuses every request for a minute; it ends with its last connection.
fn refusing(connections: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().take(connections) {
            let mut stream = BufReader::new(stream.expect("a client"));
            while let Some(Ok(line)) = (&mut stream).lines().next() {
                let Some(length) = line.strip_prefix("content-length: ") else { continue };
                // An empty line, and the body.
                let rest = 2 + length.parse::<u64>().expect("a length");
                io::copy(&mut (&mut stream).take(rest), &mut io::sink()).expect("a body");
                let answer = "HTTP/1.1 429 Too\r\nretry-after: 60\r\ncontent-length: 0\r\n\r\n";
                stream.get_mut().write_all(answer.as_bytes()).expect("read");
            }
        }
    });
    address
}

#[test]
fn a_refused_client_waits_as_long_as_it_is_told_if_it_should() {
    let address = refusing(2);
    let load = LoadPlan { clients: 1, waits: true, ..load(&address, "/embed") };
    let sent = load::run(&load, &Progress::default());
    assert_eq!((sent.refused, sent.errors.len()), (1, 0), "{sent:?}");
    let sent = load::run(&LoadPlan { waits: false, ..load }, &Progress::default());
    assert!(sent.refused > 1 && sent.errors.is_empty(), "{sent:?}");
}

#[test]
fn rates_and_percentiles_are_those_of_the_requests() {
    let latency = |texts, millis| Latency { texts, took: Duration::from_millis(millis) };
    let mut latencies: Vec<Latency> = (1..=100).map(|millis| latency(1, millis)).collect();
    latencies.push(latency(64, 1_000));
    let took = Duration::from_secs(2);
    let tally = LoadTally { latencies, tokens: 500, took, ..LoadTally::default() };
    assert_eq!((tally.texts(), tally.sizes()), (164, vec![1, 64]));
    assert_eq!(tally.per_second(tally.texts()), 82.0);
    assert_eq!(tally.percentile(0.5, Some(1)), 50.0);
    assert_eq!(tally.percentile(0.99, Some(1)), 99.0);
    assert_eq!(tally.percentile(1.0, None), 1_000.0);
    let shown = table("it", &load("a:1", "/embed"), &tally);
    for part in [
        "requests             101",
        "requests/s          50.5",
        "texts/s             82.0",
        "tokens/s             250",
    ] {
        assert!(shown.contains(part), "{shown}");
    }
    assert!(shown.lines().any(|line| line.starts_with("64 texts") && line.contains("1000.00")));
}

#[test]
fn a_target_is_an_address_or_a_model() {
    assert_eq!(address("http://[::1]:80").expect("one").as_deref(), Some("[::1]:80"));
    assert_eq!(address("http://a").expect("one").as_deref(), Some("a:80"));
    assert_eq!(address("BAAI/bge-m3").expect("a model"), None);
    for wrong in ["https://a", "http://", "http://a/embed", "http://a:99999"] {
        assert!(address(wrong).is_err(), "{wrong}");
    }
}
