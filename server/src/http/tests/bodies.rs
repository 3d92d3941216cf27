//! Bodies that are not valid in any dialect, however close they come.

use std::collections::BTreeSet;

use super::*;
use crate::dialects::misspelt;

pub async fn sent(server: &Server, path: &str, body: &str) -> TestResponse {
    send(server, Request::post(path).body(Body::from(body.to_owned())).expect("a request")).await
}

#[tokio::test]
async fn an_array_is_never_taken_for_an_object() {
    let server = default_server();
    for (path, body) in [
        ("/embed", r#"["a"]"#),
        ("/embed", r#"["a", null, null, null, null, null, null, null, null]"#),
        ("/", r#"["a", null, null]"#),
        ("/invocations", r#"["a"]"#),
        ("/embed_all", r#"["a"]"#),
        ("/embed_sparse", r#"["a"]"#),
        ("/predict", r#"["a"]"#),
        ("/tokenize", r#"["a"]"#),
        ("/decode", "[[1]]"),
        ("/vertex", r#"[[{"inputs": "a"}]]"#),
        ("/vertex", r#"{"instances": [["a"]]}"#),
        ("/similarity", r#"[{"source_sentence": "a", "sentences": ["b"]}]"#),
        ("/similarity", r#"{"inputs": ["a", ["b"]]}"#),
        (
            "/similarity",
            r#"{"inputs": {"source_sentence": "a", "sentences": ["b"]}, "parameters": [true]}"#,
        ),
        ("/rerank", r#"["a", ["b"]]"#),
        ("/rerank", r#"{"query": "a", "texts": ["b"], "listwise": [5]}"#),
        ("/v1/rerank", r#"{"query": "a", "documents": ["b"], "listwise": [5]}"#),
        ("/v2/rerank", r#"["fake", "a", ["b"]]"#),
        ("/v1/embeddings", r#"["a"]"#),
        ("/embeddings", r#"["a", "fake"]"#),
        (
            "/v1/embeddings",
            r#"{"messages": [{"role": "user", "content": "a"}], "chat_template_kwargs": ["i"]}"#,
        ),
        ("/v2/embed", r#"["fake", null, ["a"]]"#),
        ("/v2/embed", r#"{"inputs": [["a"]]}"#),
        ("/v1/multimodalembeddings", r#"{"inputs": [["a"]]}"#),
        ("/score", r#"["fake", "a", "b"]"#),
        ("/vectors", r#"["a"]"#),
        ("/vectors", r#"{"text": "a", "config": ["query"]}"#),
    ] {
        let answer = sent(&server, path, body).await;
        let refused = matches!(answer.status.as_u16(), 400 | 422);
        assert!(refused, "{path} {body}: {} {}", answer.status, answer.body);
        assert!(answer.body.contains("object"), "{path} {body}: {}", answer.body);
    }
}

#[tokio::test]
async fn instances_count_together_against_the_limit_of_inputs() {
    let engine = EngineConfig { inputs_max: 5, ..EngineConfig::default() };
    let server = server(HttpConfig::default(), engine);
    let instances =
        |count: usize| json!({ "instances": vec![json!({ "inputs": ["a", "b"] }); count] });
    assert_eq!(post(&server, "/vertex", &instances(2)).await.status, 200);
    let refused = post(&server, "/vertex", &instances(3)).await;
    assert_eq!(refused.status, 422);
    assert!(refused.body.contains("6 inputs in one request"), "{}", refused.body);
}

#[tokio::test]
async fn a_body_of_very_many_values_is_refused_before_they_are_made() {
    let server = default_server();
    let parts = vec!["\"\""; 300_000].join(",");
    for (path, body) in [
        ("/embed", format!(r#"{{"inputs": [{{"content": [{parts}]}}]}}"#)),
        ("/v1/embeddings", format!(r#"{{"input": [{parts}]}}"#)),
        ("/rerank", format!(r#"{{"query": "a", "texts": [{parts}]}}"#)),
    ] {
        let answer = sent(&server, path, &body).await;
        assert!(matches!(answer.status.as_u16(), 400 | 422), "{path}: {}", answer.status);
        assert!(answer.body.contains("strings, lists and objects"), "{path}: {}", answer.body);
    }
}

#[tokio::test]
async fn a_byte_order_mark_changes_nothing() {
    let server = default_server();
    for (path, body) in [
        ("/embed", r#"{"inputs": "a"}"#),
        ("/v1/embeddings", r#"{"input": "a"}"#),
        ("/", r#"{"inputs": "a"}"#),
        ("/v2/embed", r#"{"texts": ["a"], "embedding_types": ["float"]}"#),
        ("/rerank", r#"{"query": "a", "texts": ["a"]}"#),
    ] {
        let marked = sent(&server, path, &format!("\u{feff}{body}")).await;
        assert_eq!(marked.status, StatusCode::OK, "{path}: {}", marked.body);
    }
    let twice = sent(&server, "/embed", "\u{feff}\u{feff}{\"inputs\": \"a\"}").await;
    assert_eq!(twice.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_lone_surrogate_is_named_as_such_in_every_dialect() {
    let server = default_server();
    for (path, body, says) in [
        ("/embed", r#"{"inputs": ["a", "b\ud83d"]}"#, "input 1 "),
        ("/v1/embeddings", r#"{"input": ["a", "b", "\ude00"]}"#, "input 2 "),
        ("/v1/embeddings", r#"{"input": "\ude00", "task": "query"}"#, "input 0 "),
        ("/v2/embed", r#"{"texts": ["\ud83d"]}"#, "input 0 "),
        ("/rerank", r#"{"query": "a", "texts": ["b", "\ud83d"]}"#, "input 1 "),
        ("/v1/rerank", r#"{"query": "a", "documents": ["b", {"text": "\ud83d"}]}"#, "document 1 "),
        ("/v1/rerank", r#"{"query": "\ud83d", "documents": []}"#, "the query "),
        ("/score", r#"{"queries": "a", "documents": ["\ud83d"]}"#, "document 0 "),
        ("/vectors", r#"{"text": "\ud83d"}"#, "input 0 "),
    ] {
        let answer = sent(&server, path, body).await;
        let refused = matches!(answer.status.as_u16(), 400 | 422);
        assert!(refused, "{path} {body}: {} {}", answer.status, answer.body);
        let named = answer.body.contains(says) && answer.body.contains("lone surrogate");
        assert!(named && answer.json().is_object(), "{path} {body}: {}", answer.body);
    }
    let whole = r#"{"inputs": "\ud83d\ude00"}"#;
    assert_eq!(sent(&server, "/embed", whole).await.status, StatusCode::OK);
}

#[tokio::test]
async fn misspelt_keys_of_a_closed_list_are_refused_and_others_ignored() {
    let server = default_server();
    let bodies = [
        ("/embed", json!({ "inputs": "a" }), &misspelt::TEI),
        ("/v1/embeddings", json!({ "input": "a" }), &misspelt::OPENAI),
        ("/embeddings", json!({ "input": "a" }), &misspelt::OPENAI),
        ("/v1/embeddings", json!({ "input": "a", "task": "query" }), &misspelt::JINA),
        ("/v1/embeddings", json!({ "input": "a", "input_type": "query" }), &misspelt::VOYAGE),
        ("/v2/embed", json!({ "texts": ["a"] }), &misspelt::COHERE),
        ("/rerank", json!({ "query": "a", "texts": ["a"] }), &misspelt::TEI_RERANK),
        ("/v1/rerank", json!({ "query": "a", "documents": ["a"] }), &misspelt::RERANK),
        ("/v2/rerank", json!({ "query": "a", "documents": ["a"] }), &misspelt::RERANK),
        ("/rerank", json!({ "query": "a", "documents": ["a"], "top_k": 1 }), &misspelt::RERANK),
        (
            "/rerank",
            json!({ "query": "a", "documents": ["a"], "request_id": "1" }),
            &misspelt::RERANK,
        ),
    ];
    for (path, body, list) in bodies {
        for (wrong, meant) in list.refused {
            let mut body = body.clone();
            body[*wrong] = json!(3);
            let answer = post(&server, path, &body).await;
            let refused = matches!(answer.status.as_u16(), 400 | 422);
            assert!(refused, "{path} {body}: {} {}", answer.status, answer.body);
            for says in [*wrong, *meant, "did you mean"] {
                assert!(answer.body.contains(says), "{path} {body}: {}", answer.body);
            }
        }
        let mut other = body.clone();
        other["user"] = json!("me");
        other["something_else"] = json!({ "a": [1] });
        let answer = post(&server, path, &other).await;
        assert_eq!(answer.status, StatusCode::OK, "{path} {other}: {}", answer.body);
    }
    for (path, body, meant) in [
        ("/v1/embeddings", json!({ "inputs": "a" }), "`input`"),
        ("/v1/embeddings", json!({ "inputs": ["a"], "task": "query" }), "`input`"),
        ("/embed", json!({ "input": "a" }), "`inputs`"),
        ("/rerank", json!({ "query": "a", "document": ["a"] }), "`documents`"),
    ] {
        let answer = post(&server, path, &body).await;
        let says = answer.body.contains("did you mean") && answer.body.contains(meant);
        assert!(says && answer.status.is_client_error(), "{path} {body}: {}", answer.body);
    }
    // A key of another dialect beside the required one is ignored.
    let both = json!({ "inputs": "a", "input": "b", "text": "c" });
    assert_eq!(post(&server, "/embed", &both).await.status, StatusCode::OK);
    assert_eq!(post(&server, "/v1/embeddings", &both).await.status, StatusCode::OK);
}

/// A body with one more key.
fn with(body: &Value, key: &str, value: Value) -> Value {
    let mut body = body.clone();
    body[key] = value;
    body
}

#[tokio::test]
async fn keys_that_change_results_elsewhere_are_read_or_refused() {
    let server = default_server();
    let query = json!({ "query": "a", "documents": ["a"] });
    for (path, body, unread) in [
        ("/vectors", json!({ "text": "a" }), &["dimensions", "normalize", "instruction"][..]),
        ("/embed_all", json!({ "inputs": "a" }), &["dimensions", "normalize"]),
        (
            "/similarity",
            json!({ "inputs": { "source_sentence": "a", "sentences": ["b"] } }),
            &["truncate", "prompt_name"],
        ),
        ("/tokenize", json!({ "inputs": "a" }), &["truncate"]),
        ("/v1/embeddings", json!({ "input": "a" }), &["embedding_types"]),
        (
            "/embed",
            json!({ "inputs": "a" }),
            &["output_dimension", "truncation_side", "truncate_prompt_tokens", "use_activation"],
        ),
        ("/v2/embed", json!({ "texts": ["a"] }), &["truncation_direction"]),
        (
            "/score",
            json!({ "queries": "a", "documents": "b" }),
            &["truncate", "raw_scores", "method"],
        ),
        ("/v1/rerank", with(&query, "top_k", json!(1)), &["truncate", "max_tokens_per_doc"]),
        ("/v1/rerank", with(&query, "request_id", json!("1")), &["truncate", "raw_scores"]),
        ("/rerank", with(&query, "property", json!("x")), &["top_n", "instruction"]),
        ("/v1/rerank", query.clone(), &["dimensions", "normalize"]),
        (
            "/vertex",
            json!({ "instances": [{ "inputs": "a" }] }),
            &["dimensions", "truncate", "model", "parameters"],
        ),
    ] {
        for key in unread {
            let answer = post(&server, path, &with(&body, key, json!("left"))).await;
            let refused = matches!(answer.status.as_u16(), 400 | 422);
            let named = answer.body.contains(&format!("`{key}` has no effect at this path"));
            assert!(refused && named, "{path} {key}: {} {}", answer.status, answer.body);
            // As clients send keys that are not set.
            let answer = post(&server, path, &with(&body, key, Value::Null)).await;
            assert_eq!(answer.status, StatusCode::OK, "{path} {key}: {}", answer.body);
        }
    }
    let same = json!({ "text_1": "a", "queries": "b", "documents": "c" });
    let answer = post(&server, "/score", &same).await;
    assert!(answer.body.contains("means the same as another key"), "{}", answer.body);
}

#[tokio::test]
async fn unread_keys_may_have_values_that_change_nothing() {
    let server = default_server();
    for (path, body, key, changes, nothing) in [
        (
            "/v1/embeddings",
            json!({ "input": "a" }),
            "embed_dtype",
            json!("float16"),
            json!("float32"),
        ),
        ("/v1/embeddings", json!({ "input": "a" }), "modality", json!("image"), json!("text")),
        (
            "/embed",
            json!({ "inputs": "a" }),
            "parameters",
            json!({ "normalize": false }),
            json!({}),
        ),
        (
            "/score",
            json!({ "queries": "a", "documents": "b" }),
            "activation",
            json!(false),
            json!(true),
        ),
    ] {
        let answer = post(&server, path, &with(&body, key, changes)).await;
        assert!(
            answer.body.contains("has no effect at this path"),
            "{path} {key}: {}",
            answer.body
        );
        let answer = post(&server, path, &with(&body, key, nothing)).await;
        assert_eq!(answer.status, StatusCode::OK, "{path} {key}: {}", answer.body);
    }
    let config = |pooling: &str| json!({ "text": "a", "config": { "pooling_strategy": pooling } });
    assert_eq!(post(&server, "/vectors", &config("masked_mean")).await.status, StatusCode::OK);
    let answer = post(&server, "/vectors", &config("cls")).await;
    assert!(answer.body.contains("`pooling_strategy` has no effect"), "{}", answer.body);
}

/// The names of all properties in schemas.
fn properties<'a>(schemas: &'a Value, names: &mut BTreeSet<&'a str>) {
    match schemas {
        Value::Object(object) => {
            for (key, value) in object {
                if let ("properties", Some(keys)) = (key.as_str(), value.as_object()) {
                    names.extend(keys.keys().map(String::as_str));
                }
                properties(value, names);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| properties(value, names)),
        _ => {}
    }
}

#[test]
fn no_misspelling_is_a_key_of_a_served_dialect() {
    let document: Value =
        serde_json::from_str(&crate::router::document()).expect("the document is JSON");
    let mut served = BTreeSet::new();
    properties(&document["components"]["schemas"], &mut served);
    assert!(served.contains("dimensions") && served.contains("top_n"));
    // Aliases of keys, and keys that the dialects define and the server ignores.
    served.extend([
        "encoding_type",
        "truncation",
        "instruct",
        "text_1",
        "text_2",
        "data_1",
        "data_2",
        "items",
        "user",
        "priority",
        "max_chunks_per_doc",
        "rank_fields",
        "top_k",
        "property",
        "pooling_strategy",
        "embed_dtype",
        "endianness",
        "truncation_side",
        "add_special_tokens",
        "cache_salt",
        "request_id",
        "late_chunking",
        "output_encoding",
        "output_dtype",
        "labels",
        "keep_alive",
        "options",
        "prompt",
        "modality",
        "embd_normalize",
        "content",
    ]);
    for (dialect, list) in misspelt::ALL {
        for (wrong, meant) in list.refused {
            assert!(!served.contains(wrong), "{dialect}: {wrong}");
            assert!(served.contains(meant), "{dialect}: {meant}");
        }
        for (wrong, meant) in list.elsewhere {
            assert!(served.contains(meant) && wrong != meant, "{dialect}: {meant}");
        }
        assert!(list.elsewhere.len() <= 32, "{dialect}");
    }
}
