//! Proxima's own API: what the other one lacks.

use super::*;

#[tokio::test]
async fn several_inputs_texts_or_ids_are_written_as_asked() {
    let (server, _) = fake(HttpConfig::default()).await;
    let mut client = ProximaClient::new(server.channel.clone());
    let mut message = inputs(&["one text", "another"]);
    let ids = own::TokenIds { ids: vec![0, 12, 1] };
    message.inputs.push(own::Input { input: Some(input::Input::Tokens(ids)) });
    let reply = client.embed(message.clone()).await.expect("vectors").into_inner();
    assert_eq!((reply.model.as_str(), reply.vectors.len()), ("it", 3));
    assert_eq!(reply.timings.map(|it| it.tokens), Some(10));
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
