//! Health over gRPC, as probes and load balancers see it.

use super::*;

#[tokio::test]
async fn while_no_model_is_ready_health_is_red_and_calls_are_told_to_come_back() {
    let registry = Registry::starting(["it".to_owned()]).expect("one name");
    registry.slot(None).expect("a slot").begin(LoadStep::Loading, Arc::default());
    let app = App::new(registry, MetricsHub::new(), HttpConfig::default());
    let (_listening, channel) = listen(Arc::new(app)).await;
    let mut client = HealthClient::new(channel.clone());
    let reply = client.check(HealthCheckRequest::default()).await.expect("a status");
    assert_eq!(reply.into_inner().status(), ServingStatus::NotServing);
    let status = EmbedClient::new(channel.clone()).embed(text("a")).await.expect_err("refused");
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("model it is not ready yet"), "{status}");
    assert_eq!(status.metadata().get("grpc-retry-pushback-ms").expect("when"), "5000");
    let info = InfoClient::new(channel.clone()).info(pb::InfoRequest {}).await;
    assert_eq!(info.expect_err("refused").code(), Code::Unavailable);
    let models = ProximaClient::new(channel.clone()).models(own::ModelsRequest {}).await;
    assert_eq!(models.expect_err("refused").code(), Code::Unavailable);
}

#[tokio::test]
async fn health_is_a_forward_pass_and_can_be_watched() {
    let (server, _) = fake(HttpConfig::default()).await;
    for service in ["", "tei.v1.Embed", "proxima.v1.Proxima"] {
        assert_eq!(health(&server, service).await, Ok(ServingStatus::Serving));
    }
    assert_eq!(health(&server, "tei.v1.Other").await, Err(Code::NotFound));
    let mut client = HealthClient::new(server.channel.clone());
    let mut watched =
        client.watch(HealthCheckRequest::default()).await.expect("a stream").into_inner();
    let first = watched.message().await.expect("a status");
    assert_eq!(first.as_ref().map(HealthCheckResponse::status), Some(ServingStatus::Serving));
    let (stopped, _) = (server.stop.send(()), server.serving.await);
    stopped.expect("it listened");
    let rest: Vec<_> = watched.try_collect().await.expect("it ends well");
    let rest: Vec<_> = rest.iter().map(HealthCheckResponse::status).collect();
    assert_eq!(rest, [ServingStatus::NotServing]);
    let (server, _) = fake(HttpConfig::default()).await;
    server.engine.shutdown().await;
    assert_eq!(health(&server, "").await, Ok(ServingStatus::NotServing));
}
