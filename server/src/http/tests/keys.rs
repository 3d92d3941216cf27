//! Keys of bodies: mutually exclusive, duplicate, and ignored ones.

use super::bodies::sent;
use super::*;

/// A valid body of each dialect, without its last brace, so that more keys can be added.
const OPEN: [(&str, &str); 17] = [
    ("/embed", r#"{"inputs": "a""#),
    ("/", r#"{"inputs": "a""#),
    ("/embed_all", r#"{"inputs": "a""#),
    ("/similarity", r#"{"inputs": {"source_sentence": "a", "sentences": ["b"]}"#),
    ("/tokenize", r#"{"inputs": "a""#),
    ("/decode", r#"{"ids": [1]"#),
    ("/v1/embeddings", r#"{"input": "a""#),
    ("/v1/embeddings", r#"{"input": "a", "task": "query""#),
    ("/v1/embeddings", r#"{"input": "a", "input_type": "query""#),
    ("/v1/embeddings", r#"{"messages": [{"role": "user", "content": "a"}]"#),
    ("/v2/embed", r#"{"texts": ["a"]"#),
    ("/rerank", r#"{"query": "a", "texts": ["b"]"#),
    ("/v1/rerank", r#"{"query": "a", "documents": ["b"]"#),
    ("/v1/rerank", r#"{"query": "a", "documents": ["b"], "top_k": 1"#),
    ("/v2/rerank", r#"{"query": "a", "documents": ["b"]"#),
    ("/rerank", r#"{"query": "a", "documents": ["b"], "use_activation": true"#),
    ("/vectors", r#"{"text": "a""#),
];

fn is_refused(answer: &TestResponse) -> bool {
    matches!(answer.status.as_u16(), 400 | 422) && answer.json().is_object()
}

#[tokio::test]
async fn of_two_keys_that_exclude_each_other_none_is_dropped() {
    let server = default_server();
    let message = r#"[{"role": "user", "content": "a"}]"#;
    for (path, body, says) in [
        ("/v1/embeddings", format!(r#"{{"input": "a", "messages": {message}}}"#), "messages"),
        ("/embeddings", format!(r#"{{"messages": {message}, "input": ["a"]}}"#), "messages"),
        ("/", r#"{"inputs": "a", "query": "a", "texts": ["a"]}"#.into(), "texts"),
        ("/rerank", r#"{"query": "a", "documents": ["a"], "texts": ["a"]}"#.into(), "texts"),
        (
            "/rerank",
            r#"{"query": "a", "documents": ["a"], "top_k": 1, "top_n": 2}"#.into(),
            "top_n",
        ),
        ("/v2/embed", r#"{"texts": ["a"], "inputs": []}"#.into(), "exactly one"),
        ("/vectors", r#"{"text": "a", "texts": ["a"]}"#.into(), "either"),
        (
            "/embed",
            r#"{"inputs": "a", "instruction": "b", "prompt_name": "query"}"#.into(),
            "either",
        ),
        (
            "/embed_all",
            r#"{"inputs": "a", "instruction": "b", "prompt_name": "query"}"#.into(),
            "either",
        ),
        (
            "/v1/embeddings",
            r#"{"input": "a", "instruction": "b", "prompt_name": "query"}"#.into(),
            "either",
        ),
        (
            "/v1/embeddings",
            format!(
                r#"{{"messages": {message}, "instruction": "a",
                    "chat_template_kwargs": {{"instruction": "b"}}}}"#
            ),
            "chat_template_kwargs",
        ),
        (
            "/score",
            r#"{"queries": "a", "documents": "b", "instruction": "a",
                "chat_template_kwargs": {"instruction": "b"}}"#
                .into(),
            "chat_template_kwargs",
        ),
    ] {
        let answer = sent(&server, path, &body).await;
        assert!(is_refused(&answer), "{path} {body}: {} {}", answer.status, answer.body);
        assert!(answer.body.contains(says), "{path} {body}: {}", answer.body);
        if path.ends_with("embeddings") && says == "messages" {
            assert_eq!(answer.status, StatusCode::BAD_REQUEST);
            assert_eq!(answer.json()["error"]["type"], "invalid_request_error");
        }
    }
    // A null value counts as absent.
    for (path, body) in [
        ("/v1/embeddings", r#"{"input": "a", "messages": null}"#),
        ("/", r#"{"inputs": "a", "texts": null}"#),
        ("/rerank", r#"{"query": "a", "documents": ["a"], "top_k": null, "top_n": 1}"#),
        ("/rerank", r#"{"query": "a", "documents": ["a"], "top_k": 1, "top_n": 1}"#),
        ("/embed", r#"{"inputs": "a", "instruction": "b", "prompt_name": null}"#),
    ] {
        let answer = sent(&server, path, body).await;
        assert_eq!(answer.status, StatusCode::OK, "{path} {body}: {}", answer.body);
    }
}

#[tokio::test]
async fn options_are_heard_in_every_dialect_that_embeds() {
    let server = default_server();
    let server = &server;
    let first = |path: &'static str, mut body: Value, more: Value| async move {
        body.as_object_mut().expect("keys").extend(more.as_object().expect("keys").clone());
        let answer = post(server, path, &body).await;
        assert_eq!(answer.status, StatusCode::OK, "{path} {body}: {}", answer.body);
        let answer = answer.json();
        let pointers = ["/data/0/embedding", "/embeddings/float/0", "/0"];
        let vector = pointers.iter().find_map(|pointer| answer.pointer(pointer)).expect("a vector");
        serde_json::from_value::<Vec<f32>>(vector.clone()).expect("numbers")
    };
    let long = "a b c d e f g h i j k l m n o p q r s t u v w x y z";
    let content = json!([{ "content": [{ "type": "text", "text": long }] }]);
    for (path, body) in [
        ("/v1/embeddings", json!({ "input": long })),
        ("/v1/embeddings", json!({ "input": long, "late_chunking": false })),
        ("/v1/embeddings", json!({ "input": long, "truncation": true })),
        ("/v1/multimodalembeddings", json!({ "inputs": content })),
        ("/v2/embed", json!({ "texts": [long] })),
    ] {
        for option in [
            json!({ "instruction": "search for" }),
            json!({ "prompt_name": "query" }),
            json!({ "dimensions": 3 }),
            json!({ "normalize": false }),
            json!({ "truncation_direction": "Left" }),
        ] {
            if path == "/v2/embed" && option["truncation_direction"].is_string() {
                continue;
            }
            let expected = first("/embed", json!({ "inputs": long }), option.clone()).await;
            assert_eq!(
                first(path, body.clone(), option.clone()).await,
                expected,
                "{path} {option}"
            );
        }
        for twice in [
            json!({ "instruction": "a", "prompt_name": "query" }),
            json!({ "instruction": "a", "task": "query", "input_type": "query" }),
            json!({ "dimensions": 3, "output_dimension": 3, "input_type": "query" }),
        ] {
            let mut body = body.clone();
            body.as_object_mut().expect("keys").extend(twice.as_object().expect("keys").clone());
            let answer = post(server, path, &body).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path} {body}: {}", answer.body);
        }
    }
}

#[tokio::test]
async fn a_value_of_another_kind_is_json_all_the_same() {
    let server = default_server();
    for (path, open, words) in [
        ("/embed", OPEN[0].1, &["truncation_direction", "encoding_format"][..]),
        ("/v1/embeddings", OPEN[6].1, &["truncation_direction", "encoding_format"]),
        ("/v1/embeddings", OPEN[8].1, &["output_dtype", "encoding_format"]),
        ("/v2/embed", OPEN[10].1, &["truncate"]),
        ("/rerank", OPEN[11].1, &["method", "scores", "truncation_direction"]),
        ("/v1/rerank", OPEN[12].1, &["method", "scores", "truncation_direction"]),
    ] {
        for word in words {
            for wrong in ["5", "true", "[]", "{}", r#"{"Left": null}"#, r#"["Left"]"#] {
                let answer = sent(&server, path, &format!(r#"{open}, "{word}": {wrong}}}"#)).await;
                let of_tei = matches!(path, "/embed" | "/rerank");
                let status = if of_tei { 422 } else { 400 };
                assert_eq!(answer.status, status, "{path} {word} {wrong}: {}", answer.body);
                assert!(answer.body.contains("expected a string"), "{}", answer.body);
            }
        }
    }
}

#[tokio::test]
async fn a_message_tells_a_little_of_what_was_sent() {
    let server = default_server();
    let long = "long ".repeat(50_000);
    for (path, body) in [
        ("/embed", json!({ "inputs": "a", "truncate": long })),
        ("/embed", json!({ "inputs": "a", "model": long })),
        ("/v1/embeddings", json!({ "input": "a", "prompt_name": long })),
        ("/v1/embeddings", json!({ "messages": [{ "role": long }] })),
        (
            "/v1/rerank",
            json!({ "query": "a", "documents": [{ "text": "a", long.as_str(): 5 }, 5] }),
        ),
        ("/v2/embed", json!({ "texts": ["a"], "truncate": long })),
        ("/score", json!({ "queries": "a", "documents": "b", "use_activation": long })),
        ("/vectors", json!({ "text": "a", "texts": long })),
    ] {
        let answer = post(&server, path, &body).await;
        assert!(answer.status.is_client_error(), "{path}: {}", answer.status);
        assert!(answer.body.len() < 2_500, "{path}: {}", answer.body.len());
    }
    // The end of a long message is shown.
    let answer = post(&server, "/embed", &json!({ "inputs": "a", "truncate": long })).await;
    assert!(answer.body.contains("expected a boolean at line 1"), "{}", answer.body);
}

#[tokio::test]
async fn a_key_that_is_there_twice_is_refused_as_it_was_sent() {
    let server = default_server();
    for (path, body, says) in [
        ("/embed", r#"{"inputs": "a", "inputs": "b"}"#, "duplicate key \\\"inputs\\\""),
        ("/embed", r#"{"inputs": {"text": "a", "text": "b"}}"#, "duplicate key \\\"text\\\""),
        ("/similarity", r#"{"inputs": {"sentences": [], "sentences": []}}"#, "\\\"sentences\\\""),
        ("/v1/embeddings", r#"{"input": [{"text": "a", "text": "b"}]}"#, "\\\"text\\\""),
        (
            "/v1/embeddings",
            r#"{"messages": [{"role": "user", "content": "a", "content": "b"}]}"#,
            "\\\"content\\\"",
        ),
        ("/v2/embed", r#"{"inputs": [{"content": [{"text": "a", "text": "b"}]}]}"#, "\\\"text\\\""),
        ("/v1/multimodalembeddings", r#"{"inputs": [{"content": [], "content": []}]}"#, "content"),
        ("/rerank", r#"{"query": "a", "texts": [{"text": "a", "text": "b"}]}"#, "\\\"text\\\""),
        ("/v1/rerank", r#"{"query": {"text": "a", "text": "b"}, "documents": []}"#, "\\\"text\\\""),
        (
            "/v1/rerank",
            r#"{"query": "a", "documents": ["b"], "instruction": "c", "instruction": "d"}"#,
            "\\\"instruction\\\"",
        ),
        (
            "/v2/rerank",
            r#"{"query": "a", "documents": ["b"], "listwise": {"step": 1, "step": 2}}"#,
            "\\\"step\\\"",
        ),
        ("/score", r#"{"text_1": "a", "text_1": "b", "text_2": "c"}"#, "key \\\"text_1\\\""),
        ("/score", r#"{"queries": "a", "data_1": "b", "text_2": "c"}"#, "key \\\"data_1\\\""),
        (
            "/vectors",
            r#"{"text": "a", "config": {"dimensions": 1, "dimensions": 2}}"#,
            "dimensions",
        ),
        ("/vertex", r#"{"instances": [{"inputs": "a", "inputs": "b"}]}"#, "\\\"inputs\\\""),
    ] {
        let answer = sent(&server, path, body).await;
        assert!(is_refused(&answer), "{path} {body}: {} {}", answer.status, answer.body);
        let named = answer.body.contains("duplicate") && answer.body.contains(says);
        assert!(named, "{path} {body}: {}", answer.body);
    }
}

#[tokio::test]
async fn what_is_ignored_is_ignored_alike_everywhere() {
    let server = default_server();
    let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
    for (path, open) in OPEN {
        for ignored in [
            r#""user": "half \ud83d""#,
            r#""user": {"name": ["half \ude00"], "name": 1}"#,
            r#""user": 1, "user": 2"#,
            r#""user": 1e999"#,
            &format!(r#""user": {deep}"#),
        ] {
            let answer = sent(&server, path, &format!("{open}, {ignored}}}")).await;
            assert_eq!(answer.status, StatusCode::OK, "{path} {ignored:.60}: {}", answer.body);
        }
    }
}

#[tokio::test]
async fn a_lone_surrogate_is_found_where_it_is() {
    let server = default_server();
    for (path, open) in OPEN {
        let answer = sent(&server, path, &format!(r#"{open}, "\ud83d": 1}}"#)).await;
        assert!(is_refused(&answer), "{path}: {} {}", answer.status, answer.body);
        assert!(answer.body.contains("a key of the body has a lone"), "{path}: {}", answer.body);
    }
    for (path, body, says) in [
        ("/embed", r#"{"inputs": "a", "model": "\ud83d"}"#, "the text at \\\"model\\\""),
        ("/v1/rerank", r#"{"query": "a", "documents": ["b"], "model": "\ud83d"}"#, "\\\"model\\\""),
        (
            "/v1/rerank",
            r#"{"query": "a", "documents": ["b", {"\ud83d": 1}]}"#,
            "a key in \\\"documents[1]\\\"",
        ),
        ("/vertex", r#"{"instances": [{"inputs": ["a", "\ud83d"]}]}"#, "instances[0].inputs[1]"),
    ] {
        let answer = sent(&server, path, body).await;
        assert!(is_refused(&answer), "{path} {body}: {} {}", answer.status, answer.body);
        assert!(answer.body.contains(says), "{path} {body}: {}", answer.body);
    }
}
