//! Content written in different ways is the same everywhere, and none of it is silently dropped.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::multimodal::{ask, fake, image, post_to, refused};
use super::*;

/// The response to a rerank of `document` and another one.
async fn ranked(app: &Arc<App>, document: Value) -> Value {
    let body = json!({ "query": "red shoe", "documents": [document, "a"] });
    ask(app, "/v1/rerank", body).await
}

fn score(answer: &Value) -> Option<f64> {
    let first = |(index, score): &(u64, f64)| (*index == 0).then_some(*score);
    ranks(&answer["results"], "relevance_score").iter().find_map(first)
}

#[tokio::test]
async fn an_image_beside_a_text_is_part_of_a_document() {
    let (app, engine) = fake();
    let expected = ranked(&app, json!("image:10 red shoe")).await;
    let bare = image(10).split_once(',').expect("a data URI").1.to_owned();
    for document in [
        json!({ "text": "red shoe", "image_url": image(10) }),
        json!({ "text": "red shoe", "image_url": { "url": image(10) } }),
        json!({ "text": "red shoe", "image_base64": bare }),
        json!({ "text": "red shoe", "input_image": image(10) }),
        json!({ "text": "red shoe", "bytes": bare }),
        json!({ "text": "red shoe", "url": image(10) }),
        json!({ "text": ["red", " shoe"], "image": image(10) }),
    ] {
        let answer = ranked(&app, document.clone()).await;
        assert_eq!(score(&answer), score(&expected), "{document}");
        assert!(!answer.to_string().contains("R0lG"), "{answer}");
    }
    let video = json!({ "text": "red shoe", "video_base64": bare });
    let expected = ranked(&app, json!("video:None:None image:10 red shoe")).await;
    assert_eq!(score(&ranked(&app, video).await), score(&expected));
    // A document's source and other metadata are not ranked.
    let expected = ranked(&app, json!("red shoe")).await;
    for document in [
        json!({ "text": "red shoe", "url": "https://example.com/a.png", "type": "video" }),
        json!({ "text": "red shoe", "bytes": 7, "image_url": null, "messages": 3 }),
        json!({ "text": "red shoe", "content": { "license": "free" } }),
        json!({ "content": "red shoe", "title": "t" }),
        json!({ "content": [{ "type": "text", "text": "red shoe", "uuid": "u" }], "title": "t" }),
    ] {
        assert_eq!(score(&ranked(&app, document.clone()).await), score(&expected), "{document}");
    }
    engine.shutdown().await;
}

#[tokio::test]
async fn a_document_with_nothing_is_an_item_with_nothing() {
    let (app, engine) = fake();
    let expected = ranked(&app, json!("")).await;
    for document in [json!({}), json!({ "text": null }), json!({ "image": null, "title": null })] {
        let answer = ranked(&app, document.clone()).await;
        assert_eq!(score(&answer), score(&expected), "{document}");
    }
    engine.shutdown().await;
}

#[tokio::test]
async fn a_document_of_which_something_would_be_left_out_is_refused() {
    let rank = |document: Value| json!({ "query": "q", "documents": [document] });
    let part = |part: Value| rank(json!({ "content": [part] }));
    let (data, url) = (image(10), "https://example.com/a.png");
    let typed = json!({ "type": "image_url", "image_url": data, "text": "caption" });
    let caption = json!({ "text": "caption", "image_url": { "url": data } });
    let text = "document 0: the key \"text\" is unknown here";
    let image = "document 0: part 0: the key \"image_url\" is unknown here";
    let beside = json!({ "text": "t", "content": { "type": "image", "url": url } });
    let chat = json!([{ "role": "user", "content": [{ "image": data }] }]);
    let mut fields = rank(json!({ "title": "t", "image": data }));
    fields["rank_fields"] = json!(["title"]);
    let path = "/v1/rerank";
    refused(vec![
        (path, rank(typed), 400, "/detail", text),
        (path, part(caption), 400, "/detail", image),
        (
            path,
            part(json!({ "text": "t", "lang": "en" })),
            400,
            "/detail",
            "the key \"lang\" is unknown",
        ),
        (path, rank(beside), 400, "/detail", text),
        (path, rank(json!({ "text": "t", "messages": chat })), 400, "/detail", text),
        (path, rank(json!({ "text": "t", "content": ["u"] })), 400, "/detail", text),
        (path, rank(json!({ "title": "t" })), 400, "/detail", "needs a string \"text\""),
        (path, fields, 400, "/detail", "document 0: rank_fields is for texts only"),
    ])
    .await;
}

/// Texts as parts of content.
fn parts(texts: &[&str]) -> Value {
    texts.iter().map(|text| json!({ "type": "text", "text": text })).collect()
}

/// The vectors of the same content in every dialect that embeds.
async fn vectors(app: &Arc<App>, texts: &[&str]) -> Vec<Value> {
    let content = parts(texts);
    let messages = json!([{ "role": "user", "content": content }]);
    let chat = ask(app, "/v1/embeddings", json!({ "messages": messages })).await;
    let inputs = json!({ "inputs": [{ "content": content }] });
    let voyage = ask(app, "/v1/multimodalembeddings", inputs.clone()).await;
    let cohere = ask(app, "/v2/embed", inputs.clone()).await;
    let tei = ask(app, "/embed", inputs).await;
    let several = ask(app, "/embed", json!({ "inputs": [{ "text": texts }] })).await;
    vec![
        chat["data"][0]["embedding"].clone(),
        voyage["data"][0]["embedding"].clone(),
        cohere["embeddings"]["float"][0].clone(),
        tei[0].clone(),
        several[0].clone(),
    ]
}

#[tokio::test]
async fn parts_are_the_same_tokens_in_every_dialect() {
    let (app, engine) = fake();
    // Multimodal models receive the parts, and concatenate adjacent texts.
    let expected = ask(&app, "/embed", json!({ "inputs": "a redshoe" })).await[0].clone();
    for (index, vector) in vectors(&app, &["a red", "shoe"]).await.iter().enumerate() {
        assert_eq!(*vector, expected, "{index}");
    }
    let content = json!({ "content": parts(&["a red", "shoe"]) });
    let body = json!({ "query": content, "documents": [content, "a redshoe"] });
    for path in ["/rerank", "/v1/rerank", "/v2/rerank"] {
        let answer = ask(&app, path, body.clone()).await;
        let scores = ranks(&answer["results"], "relevance_score");
        assert_eq!(scores[0].1, scores[1].1, "{path}");
    }
    let body = json!({ "queries": [content, content], "documents": [content, "a redshoe"] });
    let answer = ask(&app, "/score", body).await;
    assert_eq!(answer["data"][0]["score"], answer["data"][1]["score"]);
    engine.shutdown().await;
}

#[tokio::test]
async fn models_of_texts_are_given_a_line_a_part() {
    let expected = answered("/embed", json!({ "inputs": "gravity\npulls" })).await[0].clone();
    for (index, vector) in vectors(&app(), &["gravity", "pulls"]).await.iter().enumerate() {
        assert_eq!(*vector, expected, "{index}");
    }
    let rank = |query: Value, document: Value| json!({ "query": query, "documents": [document] });
    let plain = answered("/v1/rerank", rank(json!("a\nb"), json!("c\nd"))).await;
    let content = |texts: &[&str]| json!({ "content": parts(texts) });
    let split = rank(content(&["a", "b"]), content(&["c", "d"]));
    assert_eq!(score(&answered("/v1/rerank", split).await), score(&plain));
    let cohere = json!({ "inputs": [content(&["a", "b"])] });
    assert_eq!(answered("/v2/embed", cohere).await["texts"], json!(["a\nb"]));
}

#[tokio::test]
async fn an_instruction_is_used_or_refused() {
    let (app, engine) = fake();
    let query = json!({ "text": "a cat", "instruction": "find" });
    let documents = json!([{ "text": "a dog", "instruction": "seek" }, "a dog"]);
    // When ranking by vectors, each input may have its own instruction.
    let words =
        json!({ "query": "find a cat", "documents": ["seek a dog", "a dog"], "instruction": "" });
    let words = ranks(&ask(&app, "/v1/rerank", words).await["results"], "relevance_score");
    let body = json!({ "query": query, "documents": documents });
    let answer = ask(&app, "/v1/rerank", body).await;
    assert_eq!(ranks(&answer["results"], "relevance_score"), words);
    let pairs = json!({ "queries": [query, "a cat"], "documents": ["a dog", "a dog"] });
    for queries in [json!([query, "a cat"]), query] {
        let mut pairs = pairs.clone();
        pairs["queries"] = queries;
        let scores = ask(&app, "/score", pairs).await;
        let found = words.iter().find(|(index, _)| *index == 1).map(|(_, score)| *score);
        assert_eq!(scores["data"][0]["score"].as_f64(), found);
    }
    engine.shutdown().await;
    // A cross-encoder takes no instruction, a listwise model none with a document.
    for (model, query, document, says) in [
        ("scorer", json!({ "text": "a", "instruction": "i" }), json!("b"), "takes no instruction"),
        ("scorer", json!("a"), json!({ "text": "b", "instruction": "i" }), "not with a document"),
        ("list", json!("a"), json!({ "text": "b", "instruction": "i" }), "not with a document"),
    ] {
        for (path, key) in [("/v1/rerank", "query"), ("/score", "queries")] {
            if model == "list" && path == "/score" {
                continue;
            }
            let body = json!({ "model": model, key: query, "documents": [document] });
            let (status, answer) = post(path, &body).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{path} {body}: {answer}");
            assert!(answer.to_string().contains(says), "{path} {body}: {answer}");
        }
    }
}

#[tokio::test]
async fn usage_is_of_what_was_sent_and_computed() {
    let (app, engine) = fake();
    // The header of a TIFF file of 4 x 3 pixels.
    let mut tiff = b"II\x2a\0\x08\0\0\0\x02\0".to_vec();
    tiff.extend([0, 1, 3, 0, 1, 0, 0, 0, 4, 0, 0, 0, 1, 1, 3, 0, 1, 0, 0, 0, 3, 0, 0, 0]);
    let data = |file: &[u8]| format!("data:;base64,{}", BASE64_STANDARD.encode(file));
    let images = json!({ "images": [data(&tiff), image(10)] });
    let cohere = ask(&app, "/v2/embed", images).await;
    assert_eq!(cohere["meta"]["billed_units"]["images"], 2);
    let info = json!({ "width": 4, "height": 3, "format": "tiff", "bit_depth": 1 });
    assert_eq!(cohere["images"][0], info);
    // An image of unknown size is counted all the same.
    let cohere = ask(&app, "/v2/embed", json!({ "images": [data(b"other"), image(10)] })).await;
    assert_eq!(cohere["meta"]["billed_units"]["images"], 2);
    let content =
        json!([{ "type": "image_base64", "image_base64": data(&tiff) }, "word ".repeat(50)]);
    let inputs = json!({ "inputs": [{ "content": content }, { "content": "a b" }] });
    let (status, voyage) = post_to(&app, "/v1/multimodalembeddings", inputs.to_string()).await;
    assert_eq!(status, StatusCode::OK, "{voyage}");
    let voyage: Value = serde_json::from_str(&voyage).expect("JSON");
    // The long input is cut to 16 tokens; the other has two, and two special ones around them.
    let usage =
        json!({ "text_tokens": 18, "image_pixels": 12, "video_pixels": 0, "total_tokens": 20 });
    assert_eq!(voyage["usage"], usage);
    engine.shutdown().await;
}

#[tokio::test]
async fn a_prompt_of_the_checkpoint_is_put_before_the_query() {
    let (app, engine) = fake();
    let ask_with = |key: &'static str, value: &'static str| {
        let mut body = json!({ "query": "a cat", "documents": ["search for", "a dog"] });
        body[key] = json!(value);
        ask(&app, "/v1/rerank", body)
    };
    let ranked = |answer: Value| ranks(&answer["results"], "relevance_score");
    let named = ranked(ask_with("prompt_name", "query").await);
    assert_eq!(named, ranked(ask_with("instruction", "search for").await));
    assert_ne!(named, ranked(ask_with("instruction", "").await));
    engine.shutdown().await;
    let unknown = json!({
        "model": "list", "method": "similarity", "query": "q", "documents": ["a"],
        "prompt_name": "none of these",
    });
    let (status, answer) = post("/v1/rerank", &unknown).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    assert!(answer.to_string().contains("unknown prompt name"), "{answer}");
    for (path, mut body) in [
        ("/rerank", json!({ "query": "q", "texts": ["a"] })),
        ("/v1/rerank", json!({ "query": "q", "documents": ["a"] })),
        ("/v2/rerank", json!({ "query": "q", "documents": ["a"] })),
        ("/v1/rerank", json!({ "query": "q", "documents": ["a"], "top_k": 1 })),
    ] {
        (body["instruction"], body["prompt_name"]) = (json!("a"), json!("b"));
        let (_, answer) = post(path, &body).await;
        assert!(answer.to_string().contains("not both"), "{path}: {answer}");
    }
}
