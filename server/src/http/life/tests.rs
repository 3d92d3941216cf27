//! A server whose models are not ready yet, or that is told to stop, as clients see it.

use axum::Router;
use axum::body::Body;
use axum::http::HeaderMap;
use proxima_engine::{Engine, EngineConfig, Registry};
use proxima_models::Progress;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::fake_model::fake_model;
use crate::http::HttpConfig;
use crate::metrics::MetricsHub;
use crate::router::router;

struct Server {
    router: Router,
    app: Arc<App>,
}

fn server(names: &[&str]) -> Server {
    let registry = Registry::starting(names.iter().map(|name| (*name).to_owned()));
    let registry = registry.expect("names differ");
    let app = Arc::new(App::new(registry, MetricsHub::new(), HttpConfig::default()));
    Server { router: router(app.clone()), app }
}

impl Server {
    fn slot(&self, name: &str) -> &Slot {
        self.app.registry().slot(Some(name)).expect("a slot")
    }

    fn fill(&self, name: &str) {
        let (model, _) = fake_model();
        let metrics = self.app.metrics().for_model(name);
        self.slot(name).fill(Engine::start(model, EngineConfig::default(), metrics));
    }

    async fn send(&self, request: Request) -> (u16, HeaderMap, Value) {
        let response = self.router.clone().oneshot(request).await.expect("answered");
        let (head, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.expect("a whole body");
        (head.status.as_u16(), head.headers, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    async fn get(&self, path: &str) -> (u16, HeaderMap, Value) {
        self.send(Request::get(path).body(Body::empty()).expect("a request")).await
    }

    async fn post(&self, path: &str, body: Value) -> (u16, HeaderMap, Value) {
        self.send(Request::post(path).body(Body::from(body.to_string())).expect("a request")).await
    }
}

#[tokio::test]
async fn a_server_whose_models_are_not_ready_says_so_and_how_far_they_are() {
    let server = server(&["owner/a", "b"]);
    let bytes = Arc::new(Progress::of(2_000_000));
    bytes.add(500_000);
    server.slot("owner/a").begin(LoadStep::Fetching, bytes);
    assert_eq!(server.get("/livez").await.0, 200);
    let (status, headers, body) = server.get("/readyz").await;
    assert_eq!((status, &body["status"]), (503, &json!("starting")));
    assert!(headers.contains_key("retry-after"));
    let fetching = json!({ "done": 500_000, "total": 2_000_000 });
    let expected = json!([
        { "name": "owner/a", "state": "fetching", "bytes": fetching },
        { "name": "b", "state": "waiting" },
    ]);
    assert_eq!(body["models"], expected);
    let (status, headers, body) = server.get("/health").await;
    assert_eq!((status, &body["error_type"]), (503, &json!("Unhealthy")));
    assert!(body["error"].as_str().is_some_and(|text| text.contains("0.5 of 2.0 MB")), "{body}");
    assert!(headers.contains_key("retry-after"));
    let tensors = Arc::new(Progress::of(10));
    tensors.add(3);
    server.slot("b").begin(LoadStep::Loading, tensors);
    let (_, _, body) = server.get("/readyz").await;
    assert_eq!(body["models"][1]["tensors"], json!({ "done": 3, "total": 10 }));
}

#[tokio::test]
async fn every_other_path_is_refused_in_its_dialects_shape() {
    let server = server(&["a"]);
    for (path, message) in [
        ("/embed", "/error"),
        ("/v1/embeddings", "/error/message"),
        ("/v1/rerank", "/detail"),
        ("/v2/rerank", "/message"),
        ("/nothing", "/error"),
    ] {
        let (status, headers, body) = server.post(path, json!({ "input": "a" })).await;
        assert_eq!(status, 503, "{path}");
        assert_eq!(headers["retry-after"], "5", "{path}");
        let text = body.pointer(message).and_then(Value::as_str).unwrap_or_default();
        assert!(text.contains("model a is not ready yet"), "{path}: {body}");
    }
    for path in ["/info", "/v1/models", "/docs", "/ping", "/"] {
        let (status, headers, _) = server.get(path).await;
        assert!(status == 503 && headers.contains_key("retry-after"), "{path}");
    }
    // Whoever watches the server sees that it is there.
    assert_eq!(server.get("/metrics").await.0, 200);
    let ready = |value: u8| format!("proxima_model_ready{{model=\"a\"}} {value}");
    assert!(server.app.metrics().text().contains(&ready(0)));
    server.fill("a");
    server.get("/metrics").await;
    assert!(server.app.metrics().text().contains(&ready(1)));
    assert_eq!(server.get("/readyz").await.0, 200);
    assert_eq!(server.post("/embed", json!({ "inputs": "a" })).await.0, 200);
    assert_eq!(server.get("/nothing").await.0, 404);
}

#[tokio::test]
async fn models_that_are_ready_serve_while_others_load() {
    let server = server(&["owner/a", "b"]);
    server.fill("b");
    let embed = |model: Value| {
        let mut body = json!({ "inputs": "a" });
        body["model"] = model;
        server.post("/embed", body)
    };
    assert_eq!(embed(json!("b")).await.0, 200);
    // A request that names no model might be answered by another model a moment later.
    for model in [json!("owner/a"), Value::Null] {
        let (status, headers, body) = embed(model).await;
        assert_eq!((status, headers.contains_key("retry-after")), (503, true), "{body}");
    }
    assert_eq!(embed(json!("c")).await.0, 404);
    assert_eq!(server.get("/readyz").await.0, 503);
    assert_eq!(server.get("/readyz/b").await.0, 200);
    let (status, _, body) = server.get("/readyz/owner/a").await;
    assert_eq!((status, &body["models"][0]["state"]), (503, &json!("waiting")));
    assert_eq!(body["models"][1], Value::Null, "of this model only");
    assert_eq!(server.get("/readyz/c").await.0, 404);
    for path in ["/info", "/v1/models/owner%2Fa", "/meta"] {
        assert_eq!(server.get(path).await.0, 503, "{path}");
    }
    assert_eq!(server.get("/v1/models/b").await.0, 200);
    server.fill("owner/a");
    for path in ["/readyz", "/readyz/owner/a", "/info"] {
        assert_eq!(server.get(path).await.0, 200, "{path}");
    }
    assert_eq!(embed(Value::Null).await.0, 200);
}

#[tokio::test]
async fn a_request_without_a_name_waits_for_the_model_that_fits_it_better() {
    let server = server(&["embedder", "reranker"]);
    server.fill("embedder");
    let body = json!({ "query": "a", "texts": ["b"] });
    // The embedder would rank by similarity, but a reranker may be coming.
    assert_eq!(server.post("/rerank", body.clone()).await.0, 503);
    assert_eq!(server.post("/embed", json!({ "inputs": "a" })).await.0, 200);
    server.fill("reranker");
    assert_eq!(server.post("/rerank", body).await.0, 200);
}

#[tokio::test]
async fn a_server_that_is_told_to_stop_answers_with_readiness_red_and_closes_connections() {
    let server = server(&["a"]);
    server.fill("a");
    let (status, headers, _) = server.post("/embed", json!({ "inputs": "a" })).await;
    assert_eq!((status, headers.get("connection")), (200, None));
    server.app.leave();
    for path in ["/readyz", "/readyz/a", "/health"] {
        let (status, headers, body) = server.get(path).await;
        assert_eq!((status, &headers["connection"]), (503, &HeaderValue::from_static("close")));
        assert!(body.to_string().contains("shutting down"), "{path}: {body}");
    }
    assert_eq!(server.get("/livez").await.0, 200);
    let (status, headers, _) = server.post("/embed", json!({ "inputs": "a" })).await;
    assert_eq!((status, &headers["connection"]), (200, &HeaderValue::from_static("close")));
    // HTTP/2 does this with frames.
    let request = Request::get("/livez").version(Version::HTTP_2).body(Body::empty());
    let response = server.router.clone().oneshot(request.expect("a request")).await;
    assert_eq!(response.expect("answered").headers().get("connection"), None);
}
