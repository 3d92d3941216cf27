//! Proxima's own API: what that of text-embeddings-inference lacks.

use super::*;
use crate::http::TokenIds;

#[tokio::test]
async fn several_inputs_texts_or_ids_are_written_as_asked() {
    let (server, _) = fake(HttpConfig::default()).await;
    let mut client = ProximaClient::new(server.channel.clone());
    let mut message = inputs(&["one text", "another"]);
    let ids = own::TokenIds { ids: vec![0, 12, 1] };
    message.inputs.push(own::Input { input: Some(input::Input::Tokens(ids)) });
    let reply = client.embed(message.clone()).await.expect("vectors").into_inner();
    assert_eq!((reply.model.as_str(), reply.vectors.len()), ("it", 3));
    assert_eq!(reply.timings.map(|timings| timings.tokens), Some(10));
    let first = embed(&server, text("one text")).await.expect("a vector");
    assert_eq!(reply.vectors[0].floats, first);
    message.set_encoding(own::Encoding::FloatBytes);
    let replies = client.embed_stream(stream::iter([message.clone()])).await.expect("a stream");
    let replies: Vec<_> = replies.into_inner().try_collect().await.expect("replies");
    let bytes: Vec<u8> = first.iter().flat_map(|value| value.to_le_bytes()).collect();
    assert_eq!(replies[0].vectors[0].bytes, bytes);
    message.set_encoding(own::Encoding::Ubinary);
    let bits = client.embed(message.clone()).await.expect("vectors").into_inner();
    assert_eq!(bits.vectors[0].bytes.len(), 1);
    message.inputs.push(own::Input { input: None });
    assert_eq!(code(client.embed(message).await), Code::InvalidArgument);
    let instructed =
        own::EmbedRequest { instruction: Some("search for".into()), ..inputs(&["it"]) };
    let instructed = client.embed(instructed).await.expect("vectors").into_inner();
    let expected = embed(&server, text("search for it")).await.expect("a vector");
    assert_eq!(instructed.vectors[0].floats, expected);
}

#[tokio::test]
async fn what_inputs_are_for_selects_a_prompt_as_over_http() {
    let (server, _) = fake(HttpConfig::default()).await;
    let mut client = ProximaClient::new(server.channel.clone());
    let query = own::EmbedRequest { input_type: Some("query".into()), ..inputs(&["a text"]) };
    let reply = client.embed(query.clone()).await.expect("vectors").into_inner();
    let body = r#"{"inputs": ["a text"], "input_type": "query"}"#;
    let over_http: Vec<Vec<f32>> =
        serde_json::from_str(&post(&server, "/embed", body).await).expect("vectors");
    assert_eq!(reply.vectors[0].floats, over_http[0]);
    let plain = client.embed(inputs(&["a text"])).await.expect("vectors").into_inner();
    assert_ne!(reply.vectors[0].floats, plain.vectors[0].floats, "the prompt changes the vector");
    let both = own::EmbedRequest { instruction: Some("find".into()), ..query };
    assert_eq!(code(client.embed(both).await), Code::InvalidArgument);
}

#[tokio::test]
async fn a_ranking_says_how_it_was_made_and_takes_vectors() {
    let (server, _) = fake(HttpConfig::default()).await;
    let mut client = ProximaClient::new(server.channel.clone());
    let documents = ["apples", "pears", "plums"].map(str::to_owned);
    let message = own::RerankRequest {
        query: "fruit".into(),
        documents: documents.to_vec(),
        return_documents: true,
        ..Default::default()
    };
    let all = client.rerank(message.clone()).await.expect("ranked").into_inner();
    assert_eq!((all.method(), all.results.len()), (own::RerankMethod::Similarity, 3));
    let best = &all.results[0];
    assert_eq!(best.document.as_ref(), Some(&documents[best.index as usize]));
    assert_eq!(best.score, best.raw_score);
    let vectors = client.embed(inputs(&["apples", "pears", "plums"])).await.expect("vectors");
    let given = own::RerankRequest {
        document_vectors: vectors.into_inner().vectors,
        top_n: Some(2),
        ..message.clone()
    };
    let given = client.rerank(given).await.expect("ranked").into_inner().results;
    assert_eq!(given.len(), 2);
    assert!(given.iter().zip(&all.results).all(|(a, b)| a.index == b.index));
    let mut other = message;
    other.set_method(own::RerankMethod::Listwise);
    assert_eq!(code(client.rerank(other).await), Code::FailedPrecondition);
}

#[tokio::test]
async fn tokens_and_classes_have_several_inputs() {
    let server = golden("bert-classifier").await;
    let mut client = ProximaClient::new(server.channel.clone());
    let pair = |text: &str, pair: Option<&str>| own::TextOrPair {
        text: text.into(),
        pair: pair.map(str::to_owned),
    };
    let message = own::PredictRequest {
        inputs: vec![pair("some text", None), pair("some", Some("text"))],
        ..Default::default()
    };
    let reply = client.predict(message).await.expect("classes").into_inner();
    assert_eq!(reply.results.len(), 2);
    let first = &reply.results[0].classes;
    assert!(first.len() > 1 && first.is_sorted_by(|a, b| a.raw_score >= b.raw_score));
    let message = own::TokenizeRequest { texts: vec!["some text".into(); 2], ..Default::default() };
    let tokens = client.tokenize(message).await.expect("tokens").into_inner().results;
    assert!(tokens.len() == 2 && tokens[0].tokens[0].special);
    let ids = tokens[0].tokens.iter().map(|token| token.id).collect();
    let message = own::DecodeRequest { inputs: vec![own::TokenIds { ids }], ..Default::default() };
    let texts = client.decode(message).await.expect("texts").into_inner().texts;
    assert_eq!(texts.len(), 1);
}

fn parts(parts: Vec<own::part::Part>) -> own::Item {
    let parts = parts.into_iter().map(|part| own::Part { part: Some(part) }).collect();
    own::Item { parts, ..own::Item::default() }
}

fn file(bytes: &str) -> own::File {
    own::File { source: Some(own::file::Source::Bytes(bytes.as_bytes().to_vec())) }
}

#[tokio::test]
async fn items_have_texts_images_and_videos_in_their_order() {
    use own::part::Part;
    let (server, _) = fake(HttpConfig::default()).await;
    let mut client = ProximaClient::new(server.channel.clone());
    let url = |url: &str| own::File { source: Some(own::file::Source::Url(url.into())) };
    let frames = own::Frames { files: vec![file("a"), url("data:image/png;base64,YmI=")] };
    let video = own::Video {
        source: Some(own::video::Source::Frames(frames)),
        fps: Some(2.0),
        max_frames: Some(8),
    };
    let whole = own::video::Source::File(file("ccc"));
    let whole = own::Video { source: Some(whole), ..own::Video::default() };
    let items = [
        parts(vec![Part::Text("a cat".into()), Part::Image(file("cat"))]),
        parts(vec![Part::Video(video), Part::Text("it".into())]),
        own::Item { instruction: Some("find".into()), ..parts(vec![Part::Video(whole)]) },
        parts(vec![Part::Text("it".into())]),
    ];
    let words = [
        "a cat image:3",
        "video:Some(2.0):Some(8) image:1 image:2 it",
        "find video:None:None image:3",
        "it",
    ];
    let message = |items: &[own::Item]| own::EmbedRequest {
        inputs: items
            .iter()
            .map(|item| own::Input { input: Some(input::Input::Item(item.clone())) })
            .collect(),
        ..Default::default()
    };
    let got = client.embed(message(&items)).await.expect("vectors").into_inner();
    let expected = client.embed(inputs(&words)).await.expect("vectors").into_inner();
    assert_eq!(got.vectors, expected.vectors);
    let nothing = own::Part { part: None };
    for (item, says) in [
        (parts(vec![]), "input 0: it has no text, image or video"),
        (
            own::Item { parts: vec![nothing], ..own::Item::default() },
            "input 0: part 0: it has none of",
        ),
        (parts(vec![Part::Image(own::File::default())]), "input 0: part 0: the file has neither"),
        (parts(vec![Part::Video(own::Video::default())]), "input 0: part 0: the video has neither"),
        (parts(vec![Part::Image(url("###"))]), "input 0: image 0: "),
    ] {
        let status = client.embed(message(&[item])).await.expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(says), "{status}");
    }
}

#[tokio::test]
async fn items_are_ranked_as_what_is_in_them() {
    use own::part::Part;
    let (server, _) = fake(HttpConfig::default()).await;
    let mut client = ProximaClient::new(server.channel.clone());
    let items = [
        parts(vec![Part::Text("a cat".into()), Part::Image(file("cat"))]),
        parts(vec![Part::Image(file("cats"))]),
        parts(vec![Part::Text("it".into())]),
    ];
    let words = ["a cat image:3", "image:4", "it"];
    let ranking = own::RerankRequest {
        query_item: Some(items[0].clone()),
        document_items: items.to_vec(),
        return_documents: true,
        ..Default::default()
    };
    let ranked = client.rerank(ranking.clone()).await.expect("ranked").into_inner().results;
    let same = own::RerankRequest {
        query: words[0].into(),
        documents: words.map(str::to_owned).to_vec(),
        ..Default::default()
    };
    let same = client.rerank(same).await.expect("ranked").into_inner().results;
    let ranks = |all: &[own::RankedDocument]| -> Vec<(u32, u32)> {
        all.iter().map(|result| (result.index, result.score.to_bits())).collect()
    };
    assert_eq!(ranks(&ranked), ranks(&same));
    let text = |index: u32| {
        ranked
            .iter()
            .find(|result| result.index == index)
            .and_then(|result| result.document.clone())
    };
    assert_eq!((text(0).as_deref(), text(1)), (Some("a cat"), None));
    let both = own::RerankRequest { query: "a".into(), ..ranking.clone() };
    assert_eq!(code(client.rerank(both).await), Code::InvalidArgument);
    let both = own::RerankRequest { documents: vec!["a".into()], ..ranking };
    assert_eq!(code(client.rerank(both).await), Code::InvalidArgument);
}

#[tokio::test]
async fn token_ids_are_refused_by_a_server_that_takes_none() {
    let config = HttpConfig { token_ids: TokenIds::Refuse, ..HttpConfig::default() };
    let (server, _) = fake(config).await;
    let mut client = ProximaClient::new(server.channel.clone());
    let mut message = inputs(&["one text"]);
    assert!(client.embed(message.clone()).await.is_ok());
    let ids = own::TokenIds { ids: vec![0, 12, 1] };
    message.inputs.push(own::Input { input: Some(input::Input::Tokens(ids)) });
    assert_eq!(code(client.embed(message).await), Code::InvalidArgument);
}

#[tokio::test]
async fn pages_in_browsers_are_refused_without_a_key() {
    let (server, _) = fake(HttpConfig::default()).await;
    let mut client = ProximaClient::new(server.channel.clone());
    let mut message = tonic::Request::new(inputs(&["one text"]));
    let origin = "https://evil.example".parse().expect("a value");
    message.metadata_mut().insert("origin", origin);
    assert_eq!(code(client.embed(message).await), Code::PermissionDenied);
}
