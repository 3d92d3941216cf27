use proxima_engine::EngineConfig;
use proxima_models::Input;

use super::*;
use crate::cli::EXIT_DEVICE;
use crate::fake_model::fake_model;

async fn listeners() -> Listeners {
    let (http, _) = listen("127.0.0.1", 0, "--port").await.expect("a free port");
    Listeners { http, grpc: None }
}

fn models() -> (Registry, Arc<MetricsHub>, Engine) {
    let (model, _) = fake_model();
    let metrics = MetricsHub::new();
    let engine = Engine::start(model, EngineConfig::default(), metrics.for_model("fake"));
    let registry = Registry::new(vec![("fake".into(), engine.clone())]).expect("one model");
    (registry, metrics, engine)
}

#[tokio::test]
async fn a_lost_device_ends_the_server_with_a_code_of_its_own() {
    let (registry, metrics, engine) = models();
    let serving = until_stopped(
        listeners().await,
        registry,
        metrics.clone(),
        HttpConfig::default(),
        std::future::pending(),
    );
    let crash = async {
        let request = proxima_engine::EmbedRequest {
            inputs: vec![Input::Text("crash".into())],
            prepare: proxima_models::Prepare::default(),
            dimensions: None,
            normalize: true,
        };
        engine.embed(request).await.expect_err("the device fails")
    };
    let (served, _) = tokio::join!(serving, crash);
    let error = served.expect_err("the device is lost");
    assert_eq!(error.code, EXIT_DEVICE);
    assert!(error.message.contains("model fake: cpu: "), "{}", error.message);
    assert!(error.message.contains("left the bus"), "{}", error.message);
    let page = metrics.text();
    assert!(
        page.contains(r#"proxima_events_total{event="device_failed",model="fake"} 1"#),
        "{page}"
    );
}

#[tokio::test]
async fn a_server_that_is_told_to_stop_does_so_in_peace() {
    let (registry, metrics, _) = models();
    let config = HttpConfig::default();
    let served = until_stopped(listeners().await, registry, metrics, config, async {}).await;
    assert_eq!(served, Ok(()));
}
