//! Images and videos in every dialect, with a model that sees an image as the word `image:` and its
//! size in bytes.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::*;
use crate::media::MediaSettings;
use crate::served::fake_app;

/// An app with a model that accepts every kind of input.
pub fn fake() -> (Arc<App>, Engine) {
    fake_with(HttpConfig::default())
}

pub async fn post_to(app: &Arc<App>, path: &str, body: String) -> (StatusCode, String) {
    let request = Request::post(path).body(Body::from(body)).expect("a request");
    let response = router(app.clone()).oneshot(request).await.expect("answered");
    let status = response.status();
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a body");
    (status, String::from_utf8_lossy(&bytes).into_owned())
}

pub async fn ask(app: &Arc<App>, path: &str, body: Value) -> Value {
    let (status, answer) = post_to(app, path, body.to_string()).await;
    assert_eq!(status, StatusCode::OK, "{path} {body:.300}: {answer}");
    serde_json::from_str(&answer).expect("JSON")
}

/// An image of `bytes` bytes; the smallest that states its size is a GIF's header.
pub fn image(bytes: usize) -> String {
    let mut file = b"GIF89a\x04\x00\x03\x00".to_vec();
    file.resize(bytes, 0);
    format!("data:image/gif;base64,{}", BASE64_STANDARD.encode(file))
}

#[tokio::test]
async fn every_path_that_embeds_takes_images() {
    let (app, engine) = fake();
    let text = json!({ "inputs": "image:10 a cat" });
    let expected = ask(&app, "/embed", text).await[0].clone();
    let image = image(10);
    let item = json!({ "text": "a cat", "image": image });
    for inputs in [item.clone(), json!([item])] {
        for path in ["/embed", "/"] {
            assert_eq!(ask(&app, path, json!({ "inputs": inputs })).await[0], expected);
        }
        for more in ["user", "task", "input_type"] {
            let body = json!({ "input": inputs, more: "it" });
            let answer = ask(&app, "/v1/embeddings", body).await;
            assert_eq!(answer["data"][0]["embedding"], expected, "{more}");
            assert_eq!(answer["usage"]["total_tokens"], 5);
        }
    }
    let all = ask(&app, "/embed_all", json!({ "inputs": [item, "a", [5]] })).await;
    let lengths: Vec<_> = all.as_array().into_iter().flatten().map(Value::as_array).collect();
    assert_eq!(
        lengths.iter().map(|vectors| vectors.map_or(0, Vec::len)).collect::<Vec<_>>(),
        [5, 3, 1]
    );
    let content = json!([{ "type": "image_url", "image_url": { "url": image } }, { "type": "text", "text": "a cat" }]);
    let user = json!({ "role": "user", "content": content });
    let chat = ask(&app, "/v1/embeddings", json!({ "messages": [[user], [user]] })).await;
    assert_eq!(chat["data"][1]["embedding"], expected);
    assert!(chat["id"].as_str().is_some_and(|id| id.starts_with("embd-")));
    let cohere = json!({ "inputs": [{ "content": content }], "embedding_types": ["float"] });
    let cohere = ask(&app, "/v2/embed", cohere).await;
    assert_eq!(cohere["embeddings"]["float"][0], expected);
    let info = json!([{ "width": 4, "height": 3, "format": "gif", "bit_depth": 8 }]);
    assert_eq!(cohere["images"], info);
    assert_eq!(cohere["meta"]["billed_units"]["images"], 1);
    let voyage = json!({ "inputs": [{ "content": content }] });
    let voyage = ask(&app, "/v1/multimodalembeddings", voyage).await;
    assert_eq!(voyage["data"][0]["embedding"], expected);
    let usage =
        json!({ "text_tokens": 2, "image_pixels": 12, "video_pixels": 0, "total_tokens": 5 });
    assert_eq!(voyage["usage"], usage);
    engine.shutdown().await;
}

#[tokio::test]
async fn an_image_alone_is_embedded_in_every_form() {
    let (app, engine) = fake();
    let expected = ask(&app, "/embed", json!({ "inputs": "image:300000" })).await[0].clone();
    let image = image(300_000);
    let bare = image.split_once(',').expect("a data URI").1;
    for input in [
        json!({ "image": image }),
        json!({ "image": [image] }),
        json!({ "url": image }),
        json!({ "bytes": bare }),
        json!({ "type": "image_url", "image_url": image }),
        json!({ "content": [{ "type": "input_image", "image_url": image }] }),
    ] {
        let answer = ask(&app, "/v1/embeddings", json!({ "input": [input] })).await;
        assert_eq!(answer["data"][0]["embedding"], expected);
    }
    for path in ["/v1/embed", "/v2/embed"] {
        let body =
            json!({ "images": [image], "input_type": "image", "embedding_types": ["float"] });
        let answer = ask(&app, path, body).await;
        assert_eq!(answer["embeddings"]["float"][0], expected);
        assert_eq!(answer["images"][0]["width"], 4);
        assert_eq!(answer["texts"], json!([]));
    }
    let body = json!({ "inputs": [{ "content": [{ "type": "image_base64", "image_base64": image }] }], "output_encoding": "base64" });
    let answer = ask(&app, "/v1/multimodalembeddings", body).await;
    assert!(answer["data"][0]["embedding"].is_string());
    engine.shutdown().await;
}

#[tokio::test]
async fn instructions_of_an_item_go_before_those_of_a_request() {
    let (app, engine) = fake();
    let expected = ask(&app, "/embed", json!({ "inputs": ["find image:10", "seek a"] })).await;
    let item = json!({ "image": image(10), "instruction": "find" });
    let body = json!({ "inputs": [item, "a"], "instruction": "seek" });
    assert_eq!(ask(&app, "/embed", body).await, expected);
    let system = json!({ "role": "system", "content": "find" });
    let user = json!({ "role": "user", "content": [{ "type": "image", "image": image(10) }] });
    let assistant = json!({ "role": "assistant", "content": [{ "type": "text", "text": "" }] });
    let chat = json!({
        "messages": [system, user, assistant], "instruction": "seek", "add_special_tokens": true,
        "continue_final_message": true, "add_generation_prompt": false, "encoding_format": "float",
        "mm_processor_kwargs": {}, "chat_template_kwargs": { "enable_thinking": false },
    });
    let answer = ask(&app, "/v1/embeddings", chat).await;
    assert_eq!(answer["data"][0]["embedding"], expected[0]);
    engine.shutdown().await;
}

#[tokio::test]
async fn every_path_that_ranks_takes_images() {
    let (app, engine) = fake();
    let words = json!(["image:10", "a cat", "image:11 a dog", "seven"]);
    let words = ask(&app, "/v1/rerank", json!({ "query": "image:10", "documents": words })).await;
    let expected = ranks(&words["results"], "relevance_score");
    let query = json!({ "image": image(10) });
    let dog = json!([{ "type": "image_url", "image_url": { "url": image(11) } }, { "type": "text", "text": "a dog" }]);
    let documents = json!([
        { "image": image(10) }, "a cat", { "content": dog }, { "text": "seven", "url": "ftp://a" },
    ]);
    let body = json!({ "query": query, "documents": documents });
    let with = |key: &str, value: Value| {
        let mut body = body.clone();
        body[key] = value;
        body
    };
    for (path, body) in [
        ("/v1/rerank", body.clone()),
        ("/v2/rerank", body.clone()),
        ("/v1/rerank", with("truncate_prompt_tokens", json!(-1))),
        ("/rerank", with("chat_template_kwargs", json!({}))),
    ] {
        let answer = ask(&app, path, body).await;
        assert_eq!(ranks(&answer["results"], "relevance_score"), expected, "{path}");
        assert!(!answer.to_string().contains("base64"), "{path}: {answer}");
    }
    let voyage = ask(&app, "/v1/rerank", with("top_k", json!(4))).await;
    assert_eq!(ranks(&voyage["data"], "relevance_score"), expected);
    let tei = json!({ "query": query, "texts": documents, "return_text": true });
    let tei = ask(&app, "/rerank", tei).await;
    assert_eq!(ranks(&tei, "score"), expected);
    let text =
        |index: u64| tei.as_array().into_iter().flatten().find(|result| result["index"] == index);
    assert_eq!(text(3).map(|result| result["text"].clone()), Some(json!("seven")));
    assert_eq!(text(0).and_then(|result| result.get("text")), None);
    let vllm = ask(&app, "/rerank", with("use_activation", json!(true))).await;
    let document = |index: u64| {
        let results = vllm["results"].as_array().into_iter().flatten();
        results
            .filter(|result| result["index"] == index)
            .map(|result| result["document"].clone())
            .next()
    };
    let parts = json!([{ "type": "image_url" }, { "type": "text", "text": "a dog" }]);
    assert_eq!(document(2), Some(json!({ "text": null, "multi_modal": parts })));
    assert_eq!(document(1), Some(json!({ "text": "a cat" })));
    let one = json!({ "query": { "content": dog }, "documents": { "content": dog }, "top_n": 0, "use_activation": true });
    assert_eq!(ask(&app, "/rerank", one).await["results"].as_array().map(Vec::len), Some(1));
    let score = json!({ "data_1": query, "data_2": documents });
    let scores = ask(&app, "/score", score).await;
    for (index, score) in &expected {
        assert_eq!(scores["data"][*index as usize]["score"].as_f64(), Some(*score));
    }
    // One object is one document, and a list of parts is content.
    let one = json!({ "query": dog, "documents": { "content": dog } });
    assert_eq!(ask(&app, "/v1/rerank", one).await["results"].as_array().map(Vec::len), Some(1));
    let lists = json!({ "query": [{ "type": "text", "text": "a" }], "documents": [dog, "a"] });
    let lists = ask(&app, "/v1/rerank", lists).await;
    let document =
        lists["results"].as_array().into_iter().flatten().find(|result| result["index"] == 0);
    assert_eq!(
        document.map(|result| result["document"].clone()),
        Some(json!({ "content": parts }))
    );
    let pairs = json!({ "queries": [query, query], "items": [{ "content": dog }, query] });
    assert!(ask(&app, "/v1/score", pairs).await["data"][1]["score"].is_number());
    engine.shutdown().await;
}

#[tokio::test]
async fn an_object_with_a_text_alone_is_that_text() {
    let plain = answered("/embed", json!({ "inputs": "gravity" })).await;
    assert_eq!(answered("/embed", json!({ "inputs": { "text": "gravity" } })).await, plain);
    let chat = json!({ "messages": [{ "role": "user", "content": "gravity" }] });
    let chat = answered("/v1/embeddings", chat).await;
    assert_eq!(chat["data"][0]["embedding"], plain[0]);
    let rank =
        |query: Value| json!({ "query": query, "documents": ["a", { "text": "b", "url": "c" }] });
    let plain = answered("/v1/rerank", rank(json!("gravity"))).await;
    let object = answered("/v1/rerank", rank(json!({ "text": "gravity" }))).await;
    assert_eq!(object["results"], plain["results"]);
    // Text-only models report that they take none.
    for (path, body) in [
        ("/embed", json!({ "inputs": { "image": image(10) } })),
        ("/v1/embeddings", json!({ "input": [{ "image": image(10) }] })),
        ("/v1/rerank", rank(json!({ "image": image(10) }))),
        ("/v2/embed", json!({ "images": [image(10)] })),
    ] {
        let (status, answer) = post(path, &body).await;
        assert!(status.is_client_error(), "{path}: {answer}");
        assert!(answer.to_string().contains("images and videos are for"), "{path}: {answer}");
    }
}

/// A path and a body, and the answer's status, the JSON pointer to its message, and part of that.
pub type Refused = (&'static str, Value, u16, &'static str, &'static str);

pub async fn refused(cases: Vec<Refused>) {
    let (app, engine) = fake();
    for (path, body, status, pointer, says) in cases {
        let (found, answer) = post_to(&app, path, body.to_string()).await;
        assert_eq!(found.as_u16(), status, "{path} {body:.300}: {answer}");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        let message = answer.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        assert!(message.contains(says), "{path} {body:.300}: {answer}");
    }
    engine.shutdown().await;
}

fn bad() -> Value {
    json!({ "image": [image(10), "###"] })
}

fn sound() -> Value {
    json!({ "content": [{ "type": "audio_url", "audio_url": "a" }] })
}

#[tokio::test]
async fn what_is_wrong_with_an_input_is_said_in_the_dialects_own_shape() {
    let bad = bad();
    let broken = json!({ "image": format!("data:;base64,{}", BASE64_STANDARD.encode("broken")) });
    let said = "input 0: image 1: ";
    let many = json!({ "input": vec![json!({ "image": vec![image(10); 60] }); 70] });
    let audio = json!({ "inputs": ["a", { "audio": 5 }] });
    let task = json!({ "input": [bad], "task": "a" });
    let kind = json!({ "input": [bad], "input_type": "query" });
    let empty = json!({ "images": ["data:image/png;base64,"] });
    let nothing = json!({ "inputs": [{ "content": [] }] });
    let multimodal = "/v1/multimodalembeddings";
    let part = "input 0: part 0: parts of type";
    refused(vec![
        ("/embed", json!({ "inputs": ["a", bad] }), 422, "/error", "input 1: image 1: "),
        ("/embed", audio, 422, "/error", "input 1: the key \"audio\""),
        ("/embed", json!({ "inputs": broken }), 422, "/error", "cannot be decoded"),
        ("/v1/embeddings", json!({ "input": [bad] }), 400, "/error/message", said),
        ("/v1/embeddings", task, 400, "/detail", said),
        ("/v1/embeddings", kind, 400, "/detail", said),
        ("/v1/embeddings", many, 400, "/error/message", "4200 images and frames are more than"),
        ("/v2/embed", empty, 400, "/message", "input 0: image 0: "),
        ("/v2/embed", json!({ "inputs": [sound()] }), 400, "/message", part),
        (multimodal, json!({ "inputs": [sound()] }), 400, "/detail", part),
        (multimodal, nothing, 400, "/detail", "input 0: it has no text"),
        (multimodal, json!({ "inputs": 5 }), 400, "/detail", "JSON"),
    ])
    .await;
}

#[tokio::test]
async fn what_is_wrong_with_a_chat_is_said() {
    let embeds = json!([{ "role": "user", "content": [{ "type": "image_embeds" }] }]);
    let part = "input 0: message 0: part 0: parts of type \"image_embeds\" are not supported";
    let template = json!({ "messages": [], "chat_template": "{{ it }}" });
    let pixels = json!({ "messages": [], "mm_processor_kwargs": { "min_pixels": 4 } });
    let (path, pointer) = ("/v1/embeddings", "/error/message");
    refused(vec![
        (path, json!({ "messages": embeds }), 400, pointer, part),
        (path, json!({ "messages": [] }), 400, pointer, "input 0: there is no user message"),
        (path, json!({ "messages": null }), 400, pointer, "messages must be a list"),
        (path, template, 400, pointer, "chat_template"),
        (path, pixels, 400, pointer, "\"min_pixels\" cannot be set"),
    ])
    .await;
}

#[tokio::test]
async fn what_is_wrong_with_a_document_is_said_in_the_dialects_own_shape() {
    let (bad, sound) = (bad(), sound());
    let said = "document 1: image 1: ";
    let query = json!({ "query": bad, "documents": ["a"] });
    let documents = json!({ "query": "a", "documents": ["a", bad] });
    let texts = json!({ "query": "a", "texts": ["a", bad] });
    let voyage = json!({ "query": "a", "documents": ["a", bad], "top_k": 1 });
    let score = json!({ "queries": "a", "documents": [sound] });
    let queries = json!({ "queries": [bad, "a"], "documents": ["a", "a"] });
    refused(vec![
        ("/v1/rerank", query, 400, "/detail", "the query: image 1: "),
        ("/v1/rerank", voyage, 400, "/detail", said),
        ("/v2/rerank", documents, 400, "/message", said),
        ("/rerank", texts, 422, "/error", said),
        ("/score", score, 400, "/error/message", "document 0: part 0: "),
        ("/score", queries, 400, "/error/message", "query 0: image 1: "),
    ])
    .await;
}

/// An app with a model that accepts every kind of input, and with these HTTP settings.
fn fake_with(http: HttpConfig) -> (Arc<App>, Engine) {
    let (served, _) = fake_app(http, EngineConfig::default());
    (served.app, served.engine)
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_no_fault_of_the_caller() {
    // Nothing listens on the port of a dropped listener.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = gone.local_addr().expect("an address").port();
    drop(gone);
    let unreachable = json!({ "image": format!("http://127.0.0.1:{port}/") });
    let here = MediaSettings {
        allowed_hosts: vec![format!("private:127.0.0.1:{port}")],
        ..MediaSettings::default()
    };
    let full = MediaSettings { held_bytes_max: 0, ..MediaSettings::default() };
    for (media, item, status, kind) in [
        (here, unreachable, StatusCode::BAD_GATEWAY, "upstream"),
        (full, json!({ "image": image(10) }), StatusCode::TOO_MANY_REQUESTS, "overloaded"),
    ] {
        let (app, engine) = fake_with(HttpConfig { media, ..HttpConfig::default() });
        let rank = json!({ "query": "a", "documents": [item] });
        let part = json!({ "type": "image_url", "image_url": item["image"] });
        for (path, body) in [
            ("/embed", json!({ "inputs": item })),
            ("/v1/embeddings", json!({ "input": [item] })),
            ("/v2/embed", json!({ "images": [item["image"]] })),
            ("/v1/multimodalembeddings", json!({ "inputs": [{ "content": [part] }] })),
            ("/v1/rerank", rank),
        ] {
            let request = Request::post(path).body(Body::from(body.to_string()));
            let request = request.expect("a request");
            let response = router(app.clone()).oneshot(request).await.expect("answered");
            assert_eq!(response.status(), status, "{path}");
            assert_eq!(response.headers()["retry-after"], "1", "{path}");
        }
        let counted = format!("proxima_errors_total{{kind=\"{kind}\",model=\"\"}} 5");
        let text = app.metrics().text();
        assert!(text.contains(&counted), "{counted}: {text}");
        engine.shutdown().await;
    }
}

/// The example `fuzz` sends many more of these bodies, and others.
#[tokio::test]
async fn bodies_that_are_not_quite_right_are_no_errors_of_ours() {
    let (app, engine) = fake();
    let found = crate::bad_bodies::run(&router(app), 7, 2000).await;
    assert!(found.wrong.is_empty(), "{:#?}", found.wrong);
    assert!(found.answered > 200 && found.refused > 1000, "{found:?}");
    engine.shutdown().await;
}
