//! vLLM's keys for how much of a text is used and how vectors are scaled: each takes effect
//! wherever it is accepted.

use serde_json::{Value, json};

use super::answered;

const LONG: &str = "one two three four five six seven eight nine ten eleven twelve";

fn with(body: &Value, keys: &Value) -> Value {
    let mut body = body.clone();
    for (key, value) in keys.as_object().expect("keys") {
        body[key] = value.clone();
    }
    body
}

/// The results of a request with additional keys, which may change the form of the answer.
async fn results(path: &str, body: &Value, keys: &Value) -> Value {
    let answer = answered(path, with(body, keys)).await;
    answer.get("data").unwrap_or(&answer["results"]).clone()
}

#[tokio::test]
async fn the_side_that_is_cut_has_two_names() {
    for (path, body) in [
        ("/v1/embeddings", json!({ "input": LONG, "model": "embedder" })),
        (
            "/v1/embeddings",
            json!({ "messages": [{ "role": "user", "content": LONG }], "model": "embedder" }),
        ),
        ("/score", json!({ "queries": "one", "documents": LONG, "model": "embedder" })),
        ("/score", json!({ "queries": "one", "documents": LONG, "model": "scorer" })),
        ("/v1/rerank", json!({ "query": "one", "documents": [LONG], "model": "scorer" })),
        ("/v1/rerank", json!({ "query": "one", "documents": [LONG], "model": "embedder" })),
    ] {
        let cut = |keys: Value| with(&json!({ "truncate_prompt_tokens": 10 }), &keys);
        let left = results(path, &body, &cut(json!({ "truncation_side": "left" }))).await;
        let same = results(path, &body, &cut(json!({ "truncation_direction": "left" }))).await;
        let right = results(path, &body, &cut(json!({ "truncation_side": "right" }))).await;
        let plain = results(path, &body, &cut(json!({}))).await;
        assert_eq!(left, same, "{path} {body}");
        assert_eq!(right, plain, "{path} {body}");
        assert_ne!(left, right, "{path} {body}");
    }
}

#[tokio::test]
async fn vectors_without_activation_are_not_scaled() {
    for input in
        [json!({ "input": LONG }), json!({ "messages": [{ "role": "user", "content": LONG }] })]
    {
        let body = with(&input, &json!({ "model": "embedder" }));
        let raw = results("/v1/embeddings", &body, &json!({ "use_activation": false })).await;
        let same = results("/v1/embeddings", &body, &json!({ "normalize": false })).await;
        let scaled = results("/v1/embeddings", &body, &json!({})).await;
        assert_eq!(raw, same);
        assert_ne!(raw, scaled);
    }
}

#[tokio::test]
async fn a_query_is_cut_for_every_kind_of_model_and_0_cuts_nothing() {
    for (path, body) in [
        ("/score", json!({ "queries": LONG, "documents": ["four", "nine"] })),
        ("/v1/rerank", json!({ "query": LONG, "documents": ["four", "nine"] })),
    ] {
        for (model, method) in
            [("embedder", None), ("scorer", None), ("list", None), ("words", Some("maxsim"))]
        {
            let mut body = with(&body, &json!({ "model": model }));
            match method {
                // `/score` has no methods.
                Some(_) if path == "/score" => continue,
                Some(method) => body["method"] = json!(method),
                None => {}
            }
            let whole = results(path, &body, &json!({})).await;
            let none = json!({ "max_tokens_per_query": 0, "max_tokens_per_doc": 0 });
            assert_eq!(results(path, &body, &none).await, whole, "{path} {model}");
            let cut = results(path, &body, &json!({ "max_tokens_per_query": 4 })).await;
            assert_ne!(cut, whole, "{path} {model}");
        }
    }
}
