//! Streams that clients keep open do not keep a server from shutting down.

use reflection::server_reflection_client::ServerReflectionClient;
use reflection::server_reflection_request::MessageRequest;

use super::*;

#[tokio::test]
async fn a_stopping_server_ends_reflection() {
    let (server, _) = fake(HttpConfig::default()).await;
    let mut client = ServerReflectionClient::new(server.channel.clone());
    let list = reflection::ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let asked = stream::iter([list]).chain(stream::pending());
    let mut replies = client.server_reflection_info(asked).await.expect("a stream").into_inner();
    assert!(replies.message().await.expect("answered").is_some());
    server.stop.send(()).expect("it listens");
    assert_eq!(replies.message().await.expect("its end"), None);
    server.serving.await.expect("no panic");
}
