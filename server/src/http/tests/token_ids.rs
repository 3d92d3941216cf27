//! Token ids in place of texts: which dialects accept which. The tokenizer of the fake model puts 0
//! before and 1 after a text.

use super::*;

/// Ids of a tokenizer that adds no special tokens, such as tiktoken's.
const FOREIGN: [u32; 2] = [5_339, 1_917];
const OWN: [u32; 4] = [0, 12, 13, 1];

/// Bodies of each dialect whose API does not define whose ids it means.
fn open(inputs: &Value) -> [(&'static str, Value); 4] {
    [
        ("/v1/embeddings", json!({ "input": inputs })),
        ("/embeddings", json!({ "input": inputs })),
        ("/v1/embeddings", json!({ "input": inputs, "task": "retrieval.query" })),
        ("/v1/embeddings", json!({ "input": inputs, "input_type": "query" })),
    ]
}

fn with(token_ids: TokenIds) -> Server {
    server(HttpConfig { token_ids, ..HttpConfig::default() }, EngineConfig::default())
}

#[tokio::test]
async fn ids_without_the_models_special_tokens_are_refused_where_apis_leave_it_open() {
    let server = default_server();
    for wrong in [json!(FOREIGN), json!([FOREIGN]), json!(["text", OWN, FOREIGN])] {
        for (path, body) in open(&wrong) {
            let answer = post(&server, path, &body).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}: {}", answer.body);
            for says in ["--token-ids allow", "check_embedding_ctx_length=False"] {
                assert!(answer.body.contains(says), "{}", answer.body);
            }
            let index = if wrong.as_array().is_some_and(|list| list.len() == 3) { 2 } else { 0 };
            assert!(answer.body.contains(&format!("input {index} ")), "{}", answer.body);
        }
    }
    let of_text = vectors(&post(&server, "/embed", &json!({ "inputs": [OWN] })).await);
    for (path, body) in open(&json!([OWN, "text"])) {
        let answer = post(&server, path, &body).await;
        assert_eq!(answer.status, StatusCode::OK, "{body}: {}", answer.body);
        let written = serde_json::to_string(&of_text[0]).expect("written");
        assert!(answer.body.contains(&written), "{body}: {}", answer.body);
    }
    let unknown = json!({ "input": [FOREIGN], "model": "none" });
    let unknown = post(&server, "/v1/embeddings", &unknown).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    assert!(unknown.body.contains("served: fake"), "{}", unknown.body);
}

#[tokio::test]
async fn paths_of_text_embeddings_inference_take_ids_as_the_models_own() {
    let server = default_server();
    for path in ["/embed", "/embed_all", "/", "/invocations"] {
        let answer = post(&server, path, &json!({ "inputs": [FOREIGN] })).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
    }
}

#[tokio::test]
async fn the_option_takes_or_refuses_ids_everywhere() {
    let server = with(TokenIds::Allow);
    for (path, body) in open(&json!(FOREIGN)) {
        assert_eq!(post(&server, path, &body).await.status, StatusCode::OK, "{body}");
    }
    let server = with(TokenIds::Refuse);
    for (path, body) in open(&json!([OWN])) {
        let answer = post(&server, path, &body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        assert!(answer.body.contains("--token-ids refuse"), "{}", answer.body);
    }
    let answer = post(&server, "/embed", &json!({ "inputs": ["text", OWN] })).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(answer.body.contains("input 1 "), "{}", answer.body);
    let instances = json!({ "instances": [{ "inputs": [OWN] }] });
    let answer = post(&server, "/vertex", &instances).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    let texts = post(&server, "/v1/embeddings", &json!({ "input": ["text"] })).await;
    assert_eq!(texts.status, StatusCode::OK);
}
