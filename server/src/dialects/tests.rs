//! Rankings, word weights and classes in every dialect, with tiny checkpoints of each kind.

mod choosing;
mod lengths;
mod lists;
mod multimodal;
mod parts;
mod scores;

use std::path::Path;
use std::sync::OnceLock;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use proxima_engine::{Engine, EngineConfig, Registry};
use proxima_models::{Checkpoint, LoadOptions, Model};
use proxima_synth::{SynthOptions, write};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::http::HttpConfig;
use crate::metrics::MetricsHub;
use crate::router::router;

fn load(dir: &Path) -> Model {
    let pooling = Some(proxima_models::readout::Pooling::Cls);
    let pooling = pooling.filter(|_| dir.ends_with("bge-m3"));
    let options = LoadOptions { pooling, ..LoadOptions::default() };
    Model::load(&Checkpoint::open(dir).expect("opened"), &options).expect("loaded")
}

fn synthetic(name: &str) -> Model {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(name, folder.path(), &SynthOptions { seed: 3, tokenizer: None }).expect("written");
    load(folder.path())
}

/// An app of `embedder`, `scorer`, `classes`, `list` and `words`, in this order.
fn app() -> Arc<App> {
    static RUNTIME: OnceLock<(tokio::runtime::Runtime, Arc<App>)> = OnceLock::new();
    let (_, app) = RUNTIME.get_or_init(|| {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/scores");
        let metrics = MetricsHub::new();
        let models = [
            ("embedder", synthetic("tiny-bert")),
            ("scorer", load(&golden.join("xlmr-reranker"))),
            ("classes", load(&golden.join("bert-classifier"))),
            ("list", synthetic("tiny-e2rank")),
            ("words", load(&golden.join("bge-m3"))),
        ];
        let engines = models.map(|(name, model)| {
            let engine = Engine::start(model, EngineConfig::default(), metrics.for_model(name));
            (name.to_owned(), engine)
        });
        let registry = Registry::new(engines.into()).expect("names differ");
        (runtime, Arc::new(App::new(registry, metrics, HttpConfig::default())))
    });
    app.clone()
}

async fn post(path: &str, body: &Value) -> (StatusCode, Value) {
    let request = Request::post(path).body(Body::from(body.to_string())).expect("a request");
    let response = router(app()).oneshot(request).await.expect("answered");
    let status = response.status();
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a body");
    (status, serde_json::from_slice(&bytes).expect("JSON"))
}

async fn answered(path: &str, body: Value) -> Value {
    let (status, answer) = post(path, &body).await;
    assert_eq!(status, StatusCode::OK, "{path} {body}: {answer}");
    answer
}

fn documents() -> Value {
    json!(["the city of light", "gravity attracts two bodies", "the city of light", ""])
}

/// `(index, score)` of a list of results.
fn ranks(results: &Value, score: &str) -> Vec<(u64, f64)> {
    let results = results.as_array().expect("a list");
    let rank =
        |result: &Value| (result["index"].as_u64().expect("a place"), result[score].as_f64());
    results.iter().map(rank).map(|(index, score)| (index, score.expect("a score"))).collect()
}

#[tokio::test]
async fn every_dialect_ranks_the_same_in_its_own_shape() {
    let (query, documents) = ("which city", documents());
    let tei = answered("/rerank", json!({ "query": query, "texts": documents })).await;
    let expected = ranks(&tei, "score");
    let mut indices: Vec<u64> = expected.iter().map(|(index, _)| *index).collect();
    assert!(expected.windows(2).all(|pair| pair[0].1 >= pair[1].1), "{expected:?}");
    let rank = |wanted: u64| indices.iter().position(|index| *index == wanted).expect("a place");
    assert_eq!(rank(0) + 1, rank(2), "equal documents keep their order");
    indices.sort_unstable();
    assert_eq!(indices, [0, 1, 2, 3]);
    let body = json!({ "query": query, "documents": documents });
    for path in ["/rerank", "/v1/rerank", "/v2/rerank", "/reranking"] {
        let answer = answered(path, body.clone()).await;
        assert_eq!(ranks(&answer["results"], "relevance_score"), expected, "{path}");
        assert_eq!(answer["method"], "pointwise");
        let returned = answer["results"][0]["document"]["text"].is_string();
        assert_eq!(returned, path != "/v2/rerank", "{path}");
    }
    let with = |key: &str, value: Value| {
        let mut body = body.clone();
        body[key] = value;
        body
    };
    let voyage = answered("/v1/rerank", with("top_k", json!(2))).await;
    assert_eq!(ranks(&voyage["data"], "relevance_score"), expected[..2]);
    let vllm = answered("/rerank", with("truncate_prompt_tokens", json!(-1))).await;
    assert_eq!(ranks(&vllm["results"], "relevance_score"), expected);
    let weaviate = answered("/rerank", with("property", json!("text"))).await;
    for (index, score) in &expected {
        assert_eq!(weaviate["scores"][*index as usize]["score"].as_f64(), Some(*score));
    }
    let score = json!({ "queries": query, "documents": documents });
    let scores = answered("/v1/score", score).await;
    for (index, score) in &expected {
        assert_eq!(scores["data"][*index as usize]["score"].as_f64(), Some(*score));
    }
    let best = answered("/v1/rerank", with("top_n", json!(1))).await;
    assert_eq!(ranks(&best["results"], "relevance_score"), expected[..1]);
}

#[tokio::test]
async fn a_document_alone_has_the_score_it_has_among_others() {
    for model in ["scorer", "embedder", "words"] {
        let ask = |texts: Value| {
            let body = json!({ "query": "which city", "texts": texts, "model": model });
            async move { ranks(&answered("/rerank", body).await, "score") }
        };
        let together = ask(documents()).await;
        for (index, text) in documents().as_array().expect("a list").iter().enumerate() {
            let alone = ask(json!([text])).await;
            let among = together.iter().find(|rank| rank.0 == index as u64).expect("a place");
            assert_eq!(alone[0].1.to_bits(), among.1.to_bits(), "{model}: {text}");
        }
    }
}

#[tokio::test]
async fn lists_rank_by_vectors_sent_kept_or_computed() {
    let texts: Vec<String> = (0..26).map(|n| format!("passage {n} of {}", n * n)).collect();
    let ask = |more: Value| {
        let mut body = json!({ "query": "which", "documents": texts, "model": "list" });
        let more = more.as_object().expect("an object").clone();
        body.as_object_mut().expect("an object").extend(more);
        async move {
            let answer = answered("/v1/rerank", body).await;
            (ranks(&answer["results"], "relevance_score"), answer["method"].clone())
        }
    };
    let (computed, method) = ask(json!({})).await;
    assert_eq!((computed.len(), method), (26, json!("listwise")));
    let (similar, method) = ask(json!({ "method": "similarity" })).await;
    assert_eq!(method, json!("similarity"));
    assert_ne!(computed, similar);
    for encoding in ["float", "base64"] {
        let body = json!({ "inputs": texts, "model": "list", "encoding_format": encoding });
        let vectors = answered("/embed", body).await;
        let (sent, _) = ask(json!({ "document_embeddings": vectors })).await;
        for (sent, computed) in sent.iter().zip(&computed) {
            assert_eq!(sent.0, computed.0, "{encoding}");
            assert!((sent.1 - computed.1).abs() < 1e-6, "{encoding}");
        }
    }
    let (windows, _) = ask(json!({ "listwise": { "step": 10 } })).await;
    assert!(windows.windows(2).all(|pair| pair[0].1 >= pair[1].1), "{windows:?}");
    assert_ne!(windows, computed);
    let (readme, _) = ask(json!({ "listwise": { "template": "readme" } })).await;
    assert_ne!(readme, computed);
    for method in ["listwise", "similarity"] {
        let body = json!({
            "model": "list", "query": "q", "documents": ["a", "b"], "method": method,
            "listwise": { "candidates": 1 }
        });
        let (status, answer) = post("/v1/rerank", &body).await;
        let refused = status == StatusCode::BAD_REQUEST || status.as_u16() == 422;
        assert_eq!(refused, method == "similarity", "{answer}");
        assert!(!refused || answer.to_string().contains("listwise options"), "{answer}");
    }
}

#[tokio::test]
async fn a_request_that_names_no_model_goes_to_one_made_for_it() {
    let classes = answered("/predict", json!({ "inputs": ["a", "b"] })).await;
    assert_eq!(classes.as_array().map(Vec::len), Some(1), "the first that scores is the scorer");
    let body = json!({ "inputs": [["a"], ["a", "b"]], "model": "classes" });
    let classes = answered("/predict", body).await;
    assert_eq!(classes[1].as_array().map(Vec::len), Some(3));
    let total: f64 = classes[1]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|class| class["score"].as_f64())
        .sum();
    assert!((total - 1.0).abs() < 1e-5);
    let words = answered(
        "/embed_sparse",
        json!({ "inputs": "Gravity is a force that attracts two bodies." }),
    )
    .await;
    let weights = words[0].as_array().expect("a list");
    assert!(
        !weights.is_empty() && weights.iter().all(|weight| weight["value"].as_f64() > Some(0.0))
    );
    let body = json!({ "input": "the river", "return_multivector": true });
    let vectors = answered("/v1/embeddings", body).await;
    assert!(vectors["data"][0]["embeddings"][0].is_array());
    let body = json!({ "query": "q", "documents": ["a"], "model": "words", "method": "maxsim" });
    assert_eq!(answered("/v1/rerank", body).await["method"], "maxsim");
}

#[tokio::test]
async fn each_model_tells_of_itself() {
    let info = async |path: &str| {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let response = router(app()).oneshot(request).await.expect("answered");
        let status = response.status();
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a body");
        (status, serde_json::from_slice::<Value>(&bytes).expect("JSON"))
    };
    assert_eq!(info("/info").await, info("/info/embedder").await);
    let (_, classes) = info("/info/classes").await;
    assert_eq!(classes["model_id"], "classes");
    assert!(classes["model_type"]["classifier"]["id2label"].is_object(), "{classes}");
    let (status, unknown) = info("/info/other").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(
        unknown["error"].as_str().is_some_and(|message| message.contains("words")),
        "{unknown}"
    );
}

#[tokio::test]
async fn vectors_are_the_same_in_every_dialect() {
    let text = "gravity attracts";
    let plain = answered("/embed", json!({ "inputs": text })).await[0].clone();
    let cohere = json!({ "texts": [text], "input_type": "search_document", "embedding_types": ["float", "int8"] });
    let cohere = answered("/v2/embed", cohere).await;
    assert_eq!(cohere["embeddings"]["float"][0], plain);
    assert!(cohere["embeddings"]["int8"][0][0].is_i64());
    let jina = json!({ "input": [{ "text": text }], "task": "retrieval.passage" });
    assert_eq!(answered("/v1/embeddings", jina).await["data"][0]["embedding"], plain);
    let voyage = json!({ "input": text, "input_type": "document" });
    assert_eq!(answered("/v1/embeddings", voyage).await["data"][0]["embedding"], plain);
    assert_eq!(answered("/vectors", json!({ "text": text })).await["vector"], plain);
}

#[tokio::test]
async fn what_is_wrong_is_said_in_the_dialects_own_shape() {
    let cases = [
        ("/rerank", json!({ "query": "q", "texts": [] }), 400, "error"),
        ("/v1/rerank", json!({ "query": "q", "documents": [] }), 400, "detail"),
        ("/v2/rerank", json!({ "query": "q", "documents": [] }), 400, "message"),
        ("/v1/rerank", json!({ "query": "q", "documents": ["a"], "top_n": -1 }), 400, "detail"),
        ("/v1/rerank", json!({ "query": "q", "documents": [7], "top_k": 1 }), 400, "detail"),
        ("/rerank", json!({ "query": "q", "texts": ["a"], "documents": ["a"] }), 400, "detail"),
        ("/v2/rerank", json!({ "query": "q", "texts": ["a"], "documents": ["a"] }), 400, "message"),
        (
            "/v2/rerank",
            json!({ "query": "q", "documents": ["a"], "max_tokens_per_doc": 0 }),
            400,
            "message",
        ),
        (
            "/rerank",
            json!({ "query": "q", "documents": ["a"], "truncate_prompt_tokens": -5 }),
            400,
            "error",
        ),
        ("/rerank", json!({ "query": "q", "texts": ["a"], "instruction": "x" }), 422, "error"),
        ("/score", json!({ "queries": ["q", "q"], "documents": ["a"] }), 400, "error"),
        ("/v2/embed", json!({ "texts": ["a"], "images": ["b"] }), 400, "message"),
        ("/v2/embed", json!({}), 400, "message"),
        ("/predict", json!({ "inputs": [["a", "b", "c"]] }), 422, "error"),
        ("/vectors", json!({}), 400, "error"),
        ("/rerank", json!({ "query": "q", "texts": ["a"], "model": "none" }), 404, "error"),
        ("/rerank", json!({ "query": "q", "texts": ["a"], "model": "classes" }), 422, "error"),
    ];
    for (path, body, status, key) in cases {
        let (found, answer) = post(path, &body).await;
        assert_eq!(found.as_u16(), status, "{path} {body}: {answer}");
        assert!(!answer[key].is_null(), "{path} {body}: {answer}");
    }
    let vectors = |vectors: Value| json!({ "query": "q", "documents": ["a"], "model": "list", "document_embeddings": vectors });
    for wrong in
        [json!([[1, 2]]), json!([]), json!(["###"]), json!([vec![0.0; 64]]), json!([[1e39]])]
    {
        let (status, answer) = post("/v1/rerank", &vectors(wrong)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    }
    let many: Vec<&str> = vec!["a"; 3000];
    let (status, answer) = post("/rerank", &json!({ "query": "q", "texts": many })).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(answer["error"].as_str().is_some_and(|message| message.contains("2048")), "{answer}");
}
