use proxima_engine::{EmbedRequest, EngineConfig, NoMetrics};
use proxima_models::synth::SynthOptions;
use proxima_models::{Input, Prepare};

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

fn request(text: &str) -> EmbedRequest {
    let (inputs, prepare) = (vec![Input::Text(text.into())], Prepare::default());
    EmbedRequest { inputs, prepare, dimensions: None, normalize: true }
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
    let crash = async { engine.embed(request("crash")).await.expect_err("the device fails") };
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
async fn a_model_that_is_loaded_anew_gives_the_same_vectors() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let model = folder.path().join("tiny-bert");
    proxima_models::synth::write("tiny-bert", &model, &SynthOptions { seed: 7, tokenizer: None })
        .expect("written");
    let devices = [DeviceChoice::Cpu; 2];
    let options = LoadOptions::default();
    let [first, second] =
        <[Replica; 2]>::try_from(replicas(&model, &options, &devices).expect("loaded"))
            .ok()
            .expect("a replica a device");
    assert!(Arc::ptr_eq(&first.model.recipe, &second.model.recipe), "one tokenizer for both");
    let again = (first.reload.expect("it can be"))().expect("loaded anew");
    assert_eq!(again.info.device, first.model.info.device);
    let mut vectors = Vec::new();
    for model in [first.model, second.model, again] {
        let engine = Engine::start(model, EngineConfig::default(), Arc::new(NoMetrics));
        vectors.push(engine.embed(request("some words")).await.expect("embedded").vectors);
        engine.shutdown().await;
    }
    assert!(vectors[0] == vectors[1] && vectors[1] == vectors[2]);
}

#[tokio::test]
async fn a_server_that_is_told_to_stop_does_so_in_peace() {
    let (registry, metrics, _) = models();
    let config = HttpConfig::default();
    let served = until_stopped(listeners().await, registry, metrics, config, async {}).await;
    assert_eq!(served, Ok(()));
}
