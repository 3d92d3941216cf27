//! Scores, similarities and warnings follow a checkpoint's files, and `/info` shows them.

use std::fs;

use super::*;
use crate::served;

/// A checkpoint of `tests/golden/scores` with these keys set in its `config.json`.
fn changed(name: &str, keys: &Value, options: &LoadOptions) -> Model {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/scores").join(name);
    let folder = tempfile::tempdir().expect("a temporary folder");
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        fs::copy(golden.join(file), folder.path().join(file)).expect("copied");
    }
    let path = folder.path().join("config.json");
    let mut config: Value =
        serde_json::from_slice(&fs::read(&path).expect("a file")).expect("JSON");
    for (key, value) in keys.as_object().expect("keys") {
        config[key] = value.clone();
    }
    fs::write(path, config.to_string()).expect("written");
    Model::load(&Checkpoint::open(folder.path()).expect("opened"), options).expect("loaded")
}

fn app_of(model: Model) -> (Arc<App>, Engine) {
    let served = served::app_of("it", model, HttpConfig::default(), EngineConfig::default());
    (served.app, served.engine)
}

async fn ask(app: &Arc<App>, request: Request<Body>) -> (StatusCode, Value) {
    let response = router(app.clone()).oneshot(request).await.expect("answered");
    let status = response.status();
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a body");
    (status, serde_json::from_slice(&bytes).expect("JSON"))
}

async fn post_to(app: &Arc<App>, path: &str, body: Value) -> Value {
    let request = Request::post(path).body(Body::from(body.to_string())).expect("a request");
    let (status, answer) = ask(app, request).await;
    assert_eq!(status, StatusCode::OK, "{path} {body}: {answer}");
    answer
}

async fn info(app: &Arc<App>) -> Value {
    let request = Request::get("/info").body(Body::empty()).expect("a request");
    ask(app, request).await.1
}

#[tokio::test]
async fn the_checkpoints_own_scores_are_given_where_a_request_asks() {
    let identity = json!({
        "sentence_transformers": { "activation_fn": "torch.nn.modules.linear.Identity" },
        "a_new_switch": true,
    });
    let model = changed("xlmr-reranker", &identity, &LoadOptions::default());
    let (app, engine) = app_of(model);
    let texts = |key: &str, extra: Value| {
        let mut body = json!({ "query": "which city", key: ["the city of light", "gravity"] });
        for (key, value) in extra.as_object().expect("keys") {
            body[key] = value.clone();
        }
        body
    };
    let logits = post_to(&app, "/rerank", texts("texts", json!({ "raw_scores": true }))).await;
    let logits = ranks(&logits, "score");
    let own = json!({ "scores": "checkpoint" });
    let tei = post_to(&app, "/rerank", texts("texts", own.clone())).await;
    assert_eq!(ranks(&tei, "score"), logits);
    let jina = post_to(&app, "/v1/rerank", texts("documents", own)).await;
    assert_eq!(ranks(&jina["results"], "relevance_score"), logits);
    let plain = post_to(&app, "/rerank", texts("texts", json!({}))).await;
    for ((_, probability), (_, logit)) in ranks(&plain, "score").iter().zip(&logits) {
        assert!((probability - 1.0 / (1.0 + (-logit).exp())).abs() < 1e-6);
    }
    let info = info(&app).await;
    assert_eq!(info["scores"], json!({ "predict": "sigmoid", "checkpoint": "identity" }));
    let warnings = info["warnings"].as_array().expect("a list");
    assert!(warnings.len() == 1 && warnings[0].as_str().expect("text").contains("a_new_switch"));
    engine.shutdown().await;
}

#[tokio::test]
async fn classes_of_several_labels_at_a_time_have_a_probability_each() {
    let several = json!({ "problem_type": "multi_label_classification" });
    let model = changed("bert-classifier", &several, &LoadOptions::default());
    let (app, engine) = app_of(model);
    let body = |extra: Value| {
        let mut body = json!({ "inputs": "gravity" });
        for (key, value) in extra.as_object().expect("keys") {
            body[key] = value.clone();
        }
        body
    };
    let logits = post_to(&app, "/predict", body(json!({ "raw_scores": true }))).await;
    let scores = post_to(&app, "/predict", body(json!({}))).await;
    let own = post_to(&app, "/predict", body(json!({ "scores": "checkpoint" }))).await;
    assert_eq!(own, logits);
    let numbers = |all: &Value| -> Vec<f64> {
        let all = all.as_array().expect("a list").iter();
        all.map(|class| class["score"].as_f64().expect("a number")).collect()
    };
    for (score, logit) in numbers(&scores).into_iter().zip(numbers(&logits)) {
        assert!((score - 1.0 / (1.0 + (-logit).exp())).abs() < 1e-6, "{score} of {logit}");
    }
    engine.shutdown().await;
}

#[tokio::test]
async fn a_sparse_model_says_that_it_embeds() {
    let options =
        LoadOptions { task: Some(proxima_models::Task::Sparse), ..LoadOptions::default() };
    let (app, engine) = app_of(changed("splade-bert", &json!({}), &options));
    let kind = &info(&app).await["model_type"];
    assert_eq!(kind, &json!({ "embedding": { "pooling": "splade" } }));
    engine.shutdown().await;
}

#[tokio::test]
async fn vectors_are_compared_as_the_checkpoint_says() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = SynthOptions { seed: 3, tokenizer: None };
    write("tiny-bert-dense", folder.path(), &options).expect("written");
    let settings = json!({ "similarity_fn_name": "dot" }).to_string();
    fs::write(folder.path().join("config_sentence_transformers.json"), settings).expect("written");
    let modules = json!([
        { "path": "", "type": "sentence_transformers.models.Transformer" },
        { "path": "1_Pooling", "type": "sentence_transformers.models.Pooling" },
    ]);
    fs::write(folder.path().join("modules.json"), modules.to_string()).expect("written");
    let (app, engine) = app_of(load(folder.path()));
    let texts = ["gravity", "a city"];
    let vectors = json!({ "inputs": texts, "normalize": false });
    let vectors = post_to(&app, "/embed", vectors).await;
    let vector = |index: usize| -> Vec<f64> {
        let numbers = vectors[index].as_array().expect("a vector").iter();
        numbers.map(|number| number.as_f64().expect("a number")).collect()
    };
    let dot: f64 = vector(0).iter().zip(vector(1)).map(|(a, b)| a * b).sum();
    let close = |found: &Value| {
        let found = found.as_f64().expect("a number");
        assert!((found - dot).abs() < 1e-3 * dot.abs(), "{found} is not {dot}");
    };
    let similarity = json!({ "inputs": { "source_sentence": texts[0], "sentences": [texts[1]] } });
    close(&post_to(&app, "/similarity", similarity).await[0]);
    let ranked = json!({ "query": texts[0], "texts": [texts[1]] });
    close(&post_to(&app, "/rerank", ranked).await[0]["score"]);
    assert_eq!(info(&app).await["similarity_fn_name"], "dot");
    engine.shutdown().await;
}
