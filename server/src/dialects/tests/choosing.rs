//! A request that names no model is answered by one model, chosen once: the first made for the
//! task, else the first that can do it.

use super::*;

/// An app with these models, in this order.
struct Several {
    app: Arc<App>,
    engines: Vec<Engine>,
}

impl Several {
    fn of(models: Vec<(&str, Model)>) -> Self {
        let metrics = MetricsHub::new();
        let start = |(name, model): (&str, Model)| {
            let engine = Engine::start(model, EngineConfig::default(), metrics.for_model(name));
            (name.to_owned(), engine)
        };
        let models: Vec<(String, Engine)> = models.into_iter().map(start).collect();
        let engines = models.iter().map(|(_, engine)| engine.clone()).collect();
        let registry = Registry::new(models).expect("names differ");
        Self { app: Arc::new(App::new(registry, metrics, HttpConfig::default())), engines }
    }

    async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        let request = Request::post(path).body(Body::from(body.to_string())).expect("a request");
        let response = router(self.app.clone()).oneshot(request).await.expect("answered");
        let status = response.status();
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a body");
        (status, serde_json::from_slice(&bytes).expect("JSON"))
    }

    async fn ok(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.post(path, body).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
        answer
    }

    async fn end(self) {
        for engine in self.engines {
            engine.shutdown().await;
        }
    }
}

fn golden(name: &str) -> Model {
    load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/scores").join(name))
}

#[tokio::test]
async fn pairs_are_scored_by_the_reranker_beside_a_classifier() {
    let several = Several::of(vec![
        ("classes", golden("bert-classifier")),
        ("scorer", golden("xlmr-reranker")),
    ]);
    let body = json!({ "text_1": "which city", "text_2": ["the city of light", "gravity"] });
    let mut named = body.clone();
    named["model"] = json!("scorer");
    let (found, wanted) = (several.ok("/score", body).await, several.ok("/score", named).await);
    assert_eq!(found["model"], "scorer");
    assert_eq!(found["data"], wanted["data"]);
    let classes = several.ok("/predict", json!({ "inputs": "gravity" })).await;
    assert_eq!(classes.as_array().map(Vec::len), Some(3), "the classifier's");
    several.end().await;
}

#[tokio::test]
async fn an_embedder_ranks_where_nothing_is_made_for_it() {
    let several = Several::of(vec![
        ("classes", golden("bert-classifier")),
        ("embedder", synthetic("tiny-bert")),
    ]);
    let body = json!({ "query": "which city", "documents": ["the city of light", "gravity"] });
    let ranked = several.ok("/v1/rerank", body.clone()).await;
    assert_eq!((&ranked["model"], &ranked["method"]), (&json!("embedder"), &json!("similarity")));
    let mut named = body;
    named["model"] = json!("classes");
    let (status, refused) = several.post("/v1/rerank", named).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{refused}");
    let message = refused["detail"].as_str().expect("a message");
    assert_eq!(message, "this model cannot rerank; models that can: embedder");
    several.end().await;
}

#[tokio::test]
async fn token_ids_for_a_model_that_cannot_embed_are_told_who_can() {
    let several = Several::of(vec![
        ("classes", golden("bert-classifier")),
        ("embedder", synthetic("tiny-bert")),
    ]);
    let body = json!({ "input": [[5, 6]], "model": "classes" });
    let (status, refused) = several.post("/v1/embeddings", body).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{refused}");
    let message = "this model cannot embed; models that can: embedder";
    assert_eq!(refused["error"]["message"], message);
    several.end().await;
}

#[tokio::test]
async fn refusals_of_weaviates_paths_are_counted() {
    let several = Several::of(vec![("embedder", synthetic("tiny-bert"))]);
    for (path, count) in [("/vectors", " 1"), ("/rerank", " 2")] {
        // Only a request of Weaviate has a property.
        let (status, refused) = several.post(path, json!({ "property": "text" })).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path}: {refused}");
        let text = several.app.metrics().text();
        let line = text.lines().find(|line| line.contains("errors") && line.contains("\"body\""));
        assert!(line.is_some_and(|line| line.ends_with(count)), "{path}: {line:?}");
    }
    several.end().await;
}

#[tokio::test]
async fn an_unknown_model_is_counted_wherever_it_is_asked_about() {
    let several = Several::of(vec![("embedder", synthetic("tiny-bert"))]);
    for (path, count) in [("/info/other", " 1"), ("/v1/models/other", " 2")] {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let response = router(several.app.clone()).oneshot(request).await.expect("answered");
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
        let text = several.app.metrics().text();
        let line = text.lines().find(|line| line.contains("errors_total{kind=\"unknown_model\""));
        assert!(line.is_some_and(|line| line.ends_with(count)), "{path}: {line:?}");
    }
    several.end().await;
}

#[tokio::test]
async fn instances_are_answered_whole_or_not_at_all() {
    let several = Several::of(vec![("embedder", synthetic("tiny-bert"))]);
    let good = json!({ "inputs": ["gravity", "a city"], "dimensions": 8 });
    let answer = several.ok("/vertex", json!({ "instances": [good, { "inputs": "light" }] })).await;
    for (instance, alone) in [(0, good.clone()), (1, json!({ "inputs": "light" }))] {
        assert_eq!(answer["predictions"][instance], several.ok("/embed", alone).await);
    }
    let wrong = json!({ "inputs": "light", "prompt_name": "none of these" });
    let calls = |text: &str| {
        let line = text.lines().find(|line| line.starts_with("proxima_batch_sequences_count"));
        line.map(str::to_owned)
    };
    let before = calls(&several.app.metrics().text());
    let (status, _) = several.post("/vertex", json!({ "instances": [good, wrong] })).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(before.is_some());
    assert_eq!(calls(&several.app.metrics().text()), before, "nothing was computed for nothing");
    let other = json!({ "inputs": "light", "model": "another" });
    let (status, refused) = several.post("/vertex", json!({ "instances": [good, other] })).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        refused["error"].as_str().is_some_and(|message| message.contains("go to one model")),
        "{refused}"
    );
    several.end().await;
}

#[tokio::test]
async fn similarities_of_pairs_are_those_of_each_pair_alone() {
    let several = Several::of(vec![("embedder", synthetic("tiny-bert"))]);
    let (queries, documents) = (["which city", "gravity"], ["the city of light", "a force"]);
    let together = json!({ "queries": queries, "documents": documents });
    let together = several.ok("/score", together).await;
    for (index, (query, document)) in queries.iter().zip(documents).enumerate() {
        let alone = json!({ "queries": query, "documents": document });
        let alone = several.ok("/score", alone).await;
        assert_eq!(together["data"][index]["score"], alone["data"][0]["score"]);
    }
    several.end().await;
}

#[tokio::test]
async fn files_of_a_request_for_an_unknown_model_are_not_asked_for() {
    let several = Several::of(vec![("scorer", golden("xlmr-reranker"))]);
    let image = json!({ "image": "https://example.com/a.png" });
    for (path, mut body) in [
        ("/embed", json!({ "inputs": image })),
        ("/rerank", json!({ "query": image, "texts": ["a"] })),
        ("/rerank", json!({ "query": image, "documents": ["a"] })),
        ("/v2/rerank", json!({ "query": image, "documents": ["a"] })),
        ("/score", json!({ "queries": image, "documents": ["a"] })),
        ("/v1/embeddings", json!({ "input": image })),
        ("/v1/embeddings", json!({ "input": image, "task": "text-matching" })),
        ("/v1/embeddings", json!({ "input": image, "output_dtype": "float" })),
        ("/v1/multimodalembeddings", json!({ "inputs": [{ "content": [image] }] })),
    ] {
        // Fetching fails in this server, with a 400.
        body["model"] = json!("another");
        let (status, answer) = several.post(path, body).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}: {answer}");
    }
    several.end().await;
}
