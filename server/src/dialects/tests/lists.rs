//! Ranking by a model that reads whole lists, over HTTP.

use std::sync::Arc;

use proxima_models::readout::combine_lists;
use proxima_models::{Input, ListwiseTemplate, Prepare, RaggedBatch};

use super::*;

/// An app with one model, which reads lists; and another of the same weights.
fn app_and_model() -> (Arc<App>, Model) {
    let metrics = MetricsHub::new();
    let model = synthetic("tiny-jina-reranker");
    let engine = Engine::start(model, EngineConfig::default(), metrics.for_model("lists"));
    let registry = Registry::new(vec![("lists".to_owned(), engine)]).expect("a name");
    let app = App::new(registry, metrics, HttpConfig::default());
    (Arc::new(app), synthetic("tiny-jina-reranker"))
}

async fn asked(app: &Arc<App>, path: &str, body: &Value) -> (StatusCode, Value) {
    let request = Request::post(path).body(Body::from(body.to_string())).expect("a request");
    let response = router(app.clone()).oneshot(request).await.expect("answered");
    let status = response.status();
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a body");
    (status, serde_json::from_slice(&bytes).expect("JSON"))
}

/// The scores that the model gives to lists of the first 125 documents and of the others.
fn expected(model: &Model, query: &str, documents: &[Arc<str>]) -> Vec<f32> {
    let lists = documents.chunks(125).map(|candidates| {
        let template = ListwiseTemplate::default();
        let candidates = candidates.to_vec();
        let input = Input::Listwise { query: query.into(), candidates, template };
        let sequence = model.recipe.prepare(&input, &Prepare::default()).expect("prepared");
        let hidden = model.encoder.encode(&RaggedBatch::new([&sequence])).expect("encoded");
        model.readouts.list.as_ref().expect("lists").vectors(&hidden).expect("read out").remove(0)
    });
    combine_lists(&lists.collect::<Vec<_>>())
}

#[tokio::test]
async fn many_documents_are_read_in_several_lists_in_every_dialect() {
    let (app, model) = app_and_model();
    let documents: Vec<Arc<str>> =
        (0..130).map(|n| format!("passage {n} of {}", n * n).into()).collect();
    let wanted = expected(&model, "which", &documents);
    let texts: Vec<&str> = documents.iter().map(|text| &**text).collect();
    for (path, key, results, score) in [
        ("/rerank", "texts", "", "score"),
        ("/v1/rerank", "documents", "/results", "relevance_score"),
        ("/v2/rerank", "documents", "/results", "relevance_score"),
    ] {
        let body = json!({ "query": "which", key: texts, "model": "lists" });
        let (status, answer) = asked(&app, path, &body).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
        let found = ranks(answer.pointer(results).expect("results"), score);
        assert_eq!(found.len(), documents.len());
        assert!(found.windows(2).all(|pair| pair[0].1 >= pair[1].1), "{path}");
        for (index, score) in found {
            assert_eq!(score as f32, wanted[index as usize], "{path}: {index}");
        }
    }
}

#[tokio::test]
async fn what_lists_cannot_have_is_refused_by_name() {
    let (app, _) = app_and_model();
    let long = "long ".repeat(600);
    for (path, body, says) in [
        ("/embed", json!({ "inputs": "a" }), "cannot embed"),
        ("/score", json!({ "text_1": "a", "text_2": "b" }), "cannot score pairs"),
        ("/predict", json!({ "inputs": "a" }), "cannot classify"),
        (
            "/rerank",
            json!({ "query": "a", "texts": ["b"], "method": "similarity" }),
            "it gives no vectors",
        ),
        ("/rerank", json!({ "query": "a", "texts": ["b"], "listwise": { "step": 1 } }), "its own"),
        ("/rerank", json!({ "query": "a", "texts": ["b", long], "truncate": false }), "input 1"),
        (
            "/v1/rerank",
            json!({ "query": "a", "documents": ["b"], "document_embeddings": [[1.0]] }),
            "does not rank by them",
        ),
        (
            "/v1/rerank",
            json!({ "query": "a", "documents": [{ "text": "b", "instruction": "find" }] }),
            "instruction goes with the query",
        ),
    ] {
        let (status, answer) = asked(&app, path, &body).await;
        assert!(status.is_client_error(), "{path} {body}: {answer}");
        assert!(answer.to_string().contains(says), "{path}: {answer}");
    }
}
