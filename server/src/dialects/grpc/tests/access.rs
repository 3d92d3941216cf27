//! Request ids of calls, and their lines in the access log.

use serde_json::{Value, json};
use tonic::Request;

use super::*;
use crate::http::captured::Log;

fn with_id<Q>(message: Q, id: &'static str) -> Request<Q> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-request-id", id.parse().expect("a value"));
    request
}

fn id(metadata: &tonic::metadata::MetadataMap) -> Option<&str> {
    metadata.get("x-request-id")?.to_str().ok()
}

#[tokio::test]
async fn a_call_has_an_id_and_a_line() {
    let log = Log::begin();
    let (server, _) = fake(HttpConfig::default()).await;
    let mut client = EmbedClient::new(server.channel.clone());
    let reply = client.embed(with_id(text("one text"), "one")).await.expect("a vector");
    assert_eq!(id(reply.metadata()), Some("one"));
    let line = log.line("one").await;
    for (key, expected) in [
        ("path", json!("/tei.v1.Embed/Embed")),
        ("dialect", json!("tei")),
        ("model", json!("it")),
        ("status", json!(200)),
        ("grpc_status", json!(0)),
        ("inputs", json!(1)),
        ("tokens", json!(4)),
        ("client", json!("127.0.0.1")),
        ("aborted", Value::Null),
    ] {
        assert_eq!(line[key], expected, "{key}: {line}");
    }
    assert!(line["bytes_in"].as_u64() > Some(0) && line["bytes_out"].as_u64() > Some(0), "{line}");
    // Calls that fail before and after a first reply, and a stream as a whole.
    let error = client.embed(with_id(text(LONG), "failed")).await.expect_err("too long");
    assert_eq!(id(error.metadata()), Some("failed"));
    let line = log.line("failed").await;
    assert_eq!((&line["grpc_status"], &line["error"]), (&json!(3), &json!("validation")), "{line}");
    let messages = stream::iter([text("one text"), text("another"), text(LONG), text("b")]);
    let replies = client.embed_stream(with_id(messages, "stream")).await.expect("a stream");
    assert_eq!(id(replies.metadata()), Some("stream"));
    let replies = replies.into_inner().collect::<Vec<_>>().await;
    assert_eq!(replies.len(), 3);
    let line = log.line("stream").await;
    assert_eq!((&line["grpc_status"], &line["model"]), (&json!(3), &json!("it")), "{line}");
    assert!(line["inputs"].as_u64() >= Some(3) && line["tokens"].as_u64() >= Some(7), "{line}");
    // Health checks are frequent, so those that succeed are only counted in metrics.
    assert_eq!(health(&server, "").await, Ok(ServingStatus::Serving));
    assert_eq!(health(&server, "tei.v1.Other").await, Err(Code::NotFound));
    drop((client, server.channel));
    let _ = server.stop.send(());
    server.serving.await.expect("it ends");
    let requests = log.requests();
    assert_eq!(requests.len(), 4, "{requests:?}");
    assert_eq!(requests[3]["path"], "/grpc.health.v1.Health/Check");
}

#[tokio::test]
async fn calls_without_a_key_have_ids_too() {
    let config = HttpConfig { api_keys: vec!["secret".into()], ..HttpConfig::default() };
    let (server, _) = fake(config).await;
    let mut client = EmbedClient::new(server.channel.clone());
    let error = client.embed(with_id(text("a"), "mine")).await.expect_err("refused");
    assert_eq!((error.code(), id(error.metadata())), (Code::Unauthenticated, Some("mine")));
    let error = client.embed(text("a")).await.expect_err("refused");
    assert!(id(error.metadata()).is_some_and(|id| id.len() == 32));
}
