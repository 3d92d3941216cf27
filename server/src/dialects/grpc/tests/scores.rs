//! Classes and rankings of tiny checkpoints with known answers.

use super::*;

#[tokio::test]
async fn classes_are_sorted_and_raw_scores_are_logits() {
    let server = golden("bert-classifier").await;
    let mut client = PredictClient::new(server.channel.clone());
    let message = pb::PredictRequest { inputs: "some text".into(), ..Default::default() };
    let reply = client.predict(message.clone()).await.expect("classes");
    assert!(reply.metadata().contains_key("x-compute-time"));
    let predictions = reply.into_inner().predictions;
    assert!(predictions.len() > 1 && predictions.is_sorted_by(|a, b| a.score >= b.score));
    let sum: f32 = predictions.iter().map(|class| class.score).sum();
    assert!((sum - 1.0).abs() < 1e-5);
    let raw = pb::PredictRequest { raw_scores: true, ..message.clone() };
    let raw = client.predict(raw).await.expect("logits").into_inner().predictions;
    let labels =
        |all: &[pb::Prediction]| all.iter().map(|class| class.label.clone()).collect::<Vec<_>>();
    assert_eq!(labels(&raw), labels(&predictions));
    let ratio = (raw[0].score - raw[1].score).exp();
    assert!((ratio - predictions[0].score / predictions[1].score).abs() < 1e-4);
    let pair = |inputs: &[&str]| pb::PredictPairRequest {
        inputs: inputs.iter().map(|text| (*text).to_owned()).collect(),
        ..Default::default()
    };
    let messages = stream::iter([pair(&["some text"]), pair(&["some", "text"])]);
    let replies = client.predict_pair_stream(messages).await.expect("a stream").into_inner();
    let replies: Vec<_> = replies.try_collect().await.expect("replies");
    assert_eq!(replies[0].predictions, predictions);
    assert_eq!(replies[1].predictions.len(), predictions.len());
}

#[tokio::test]
async fn a_ranking_is_the_same_in_one_message_or_many() {
    let server = golden("xlmr-reranker").await;
    let mut client = RerankClient::new(server.channel.clone());
    let texts = ["a panda is a bear", "hello", "bears eat", "what is it"].map(str::to_owned);
    let message = pb::RerankRequest {
        query: "what is a panda?".into(),
        texts: texts.to_vec(),
        return_text: true,
        ..Default::default()
    };
    let whole = client.rerank(message.clone()).await.expect("ranked").into_inner().ranks;
    assert!(whole.len() == 4 && whole.is_sorted_by(|a, b| a.score >= b.score));
    for rank in &whole {
        assert_eq!(rank.text.as_ref(), Some(&texts[rank.index as usize]));
        assert!((0.0..=1.0).contains(&rank.score));
    }
    let one = |(index, text): (usize, &String)| pb::RerankStreamRequest {
        query: if index == 0 { message.query.clone() } else { String::new() },
        text: text.clone(),
        return_text: index == 0,
        ..Default::default()
    };
    let messages: Vec<_> = texts.iter().enumerate().map(one).collect();
    let parts = client.rerank_stream(stream::iter(messages.clone())).await.expect("ranked");
    assert_eq!(parts.into_inner().ranks, whole);
    let raw = pb::RerankRequest { raw_scores: true, return_text: false, ..message };
    let raw = client.rerank(raw).await.expect("ranked").into_inner().ranks;
    assert!(
        raw.iter().zip(&whole).all(|(raw, rank)| raw.index == rank.index && raw.text.is_none())
    );
    assert!((1.0 / (1.0 + (-raw[0].score).exp()) - whole[0].score).abs() < 1e-6);
    let mut other = messages;
    other[1].query = "something else".into();
    assert_eq!(code(client.rerank_stream(stream::iter(other)).await), Code::InvalidArgument);
    let none = client.rerank_stream(stream::empty()).await;
    assert_eq!(code(none), Code::InvalidArgument);
    assert_eq!(code(embed(&server, text("a")).await), Code::FailedPrecondition);
}
