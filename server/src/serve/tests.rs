use std::time::Duration;

use futures_util::FutureExt as _;
use proxima_engine::{EmbedRequest, EngineConfig, LoadStep, NoMetrics};
use proxima_models::{Input, Prepare};
use proxima_synth::SynthOptions;

use super::*;
use crate::command::EXIT_DEVICE;
use crate::fake_model::fake_model;
use crate::http::{Failure, HttpConfig};
use crate::served::fake_app;

async fn listeners() -> Listeners {
    let (http, _) = listen("127.0.0.1", 0, "--port").await.expect("a free port");
    Listeners { http, grpc: None }
}

fn models(config: HttpConfig) -> (Arc<App>, Engine) {
    let (served, _) = fake_app(config, EngineConfig::default());
    (served.app, served.engine)
}

/// Signals to a server, sent by the test.
fn stopping() -> (watch::Sender<bool>, Stopping) {
    let (tell, told) = watch::channel(false);
    (tell, Stopping { told, hurry: Arc::default() })
}

/// Models that are all loaded.
async fn loaded() -> Result<(), CommandError> {
    Ok(())
}

fn request(text: &str) -> EmbedRequest {
    let (inputs, prepare) = (vec![Input::from(text)], Prepare::default());
    EmbedRequest { inputs, prepare, dimensions: None, normalize: true }
}

#[tokio::test]
async fn a_lost_device_ends_the_server_with_a_code_of_its_own() {
    let (app, engine) = models(HttpConfig::default());
    let (_tell, stopping) = stopping();
    let serving = until_stopped(listeners().await, app.clone(), loaded(), stopping);
    let crash = async { engine.embed(request("crash")).await.expect_err("the device fails") };
    let (served, _) = tokio::join!(serving, crash);
    let error = served.expect_err("the device is lost");
    assert_eq!(error.code, EXIT_DEVICE);
    assert!(error.message.contains("model fake: cpu: "), "{}", error.message);
    assert!(error.message.contains("left the bus"), "{}", error.message);
    let page = app.metrics().text();
    assert!(
        page.contains(r#"proxima_events_total{event="device_failed",model="fake"} 1"#),
        "{page}"
    );
}

#[tokio::test]
async fn a_lost_device_ends_the_server_while_other_models_load() {
    let (model, _) = fake_model();
    let metrics = MetricsHub::new();
    let engine = Engine::start(model, EngineConfig::default(), metrics.for_model("first"));
    let registry = Registry::starting(["first", "second"].map(str::to_owned)).expect("two names");
    registry.slot(Some("first")).expect("it is there").fill(engine.clone());
    let app = Arc::new(App::new(registry, metrics, HttpConfig::default()));
    let (_tell, stopping) = stopping();
    let loading = std::future::pending();
    let serving = until_stopped(listeners().await, app, loading, stopping);
    let crash = async { engine.embed(request("crash")).await.expect_err("the device fails") };
    let (served, _) = tokio::join!(serving, crash);
    assert_eq!(served.expect_err("the device is lost").code, EXIT_DEVICE);
}

#[tokio::test]
async fn a_reloaded_model_gives_the_same_vectors() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let model = folder.path().join("tiny-bert");
    proxima_synth::write("tiny-bert", &model, &SynthOptions { seed: 7, tokenizer: None })
        .expect("written");
    let devices = [DeviceChoice::Cpu; 2];
    let options = LoadOptions::default();
    let [first, second] =
        <[Replica; 2]>::try_from(replicas(&model, &options, &devices, &|_| {}).expect("loaded"))
            .ok()
            .expect("a replica a device");
    assert!(Arc::ptr_eq(&first.model.recipe, &second.model.recipe), "one tokenizer for both");
    let again = (first.reload.expect("it can be"))().expect("reloaded");
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
    let (app, _) = models(HttpConfig::default());
    let (tell, stopping) = stopping();
    tell.send_replace(true);
    assert_eq!(until_stopped(listeners().await, app, loaded(), stopping).await, Ok(()));
}

#[tokio::test]
async fn a_server_whose_models_still_load_ends_when_told_to_whatever_its_delay() {
    let registry = Registry::starting(["a".to_owned()]).expect("one name");
    let config = HttpConfig { shutdown_delay: Duration::MAX, ..HttpConfig::default() };
    let app = Arc::new(App::new(registry, MetricsHub::new(), config));
    let (tell, stopping) = stopping();
    tell.send_replace(true);
    let loading = std::future::pending();
    assert_eq!(until_stopped(listeners().await, app, loading, stopping).await, Ok(()));
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_ends_the_server_with_what_is_wrong() {
    let (app, _) = models(HttpConfig::default());
    let (_tell, stopping) = stopping();
    let hurry = stopping.hurry.clone();
    let wrong = CommandError::failure("the file is missing");
    let loading = std::future::ready(Err(wrong.clone()));
    assert_eq!(until_stopped(listeners().await, app, loading, stopping).await, Err(wrong));
    assert!(hurry.load(Ordering::Relaxed), "the next signal ends it at once");
}

#[tokio::test]
async fn a_server_that_is_told_to_stop_answers_for_its_delay_with_readiness_red() {
    let config = HttpConfig { shutdown_delay: Duration::MAX, ..HttpConfig::default() };
    let (app, _) = models(config);
    assert_eq!(app.ready().await, Ok(()));
    assert_eq!(leave(&app).now_or_never(), None, "the delay has not passed");
    assert_eq!(app.ready().await, Err(Failure::Stopping));
    let (app, _) = models(HttpConfig::default());
    assert_eq!(leave(&app).now_or_never(), Some(()));
}

#[tokio::test]
async fn models_become_ready_from_their_folders_and_the_first_failure_is_told() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("tiny");
    let options = SynthOptions { seed: 7, tokenizer: None };
    proxima_synth::write("tiny-bert", &path, &options).expect("written");
    let arguments = ServeArgs {
        model: Some(vec![
            format!("a={}", path.display()),
            format!("b={}", path.display()),
            format!("broken={}", folder.path().display()),
        ]),
        ffmpeg: Some("off".into()),
        ..ServeArgs::default()
    };
    let settings = config::settings(arguments, &Environment::default()).expect("settings");
    let names = settings.models.iter().map(|source| source.name.clone());
    let registry = Registry::starting(names).expect("names differ");
    let working = ServeSettings { models: settings.models[..2].to_vec(), ..settings.clone() };
    assert_eq!(start::all(&working, &registry, &MetricsHub::new()).await, Ok(()));
    assert_eq!(registry.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["a", "b"]);
    let broken = ServeSettings { models: settings.models[2..].to_vec(), ..settings };
    let error = start::all(&broken, &registry, &MetricsHub::new()).await.expect_err("refused");
    assert!(error.message.contains("config.json"), "{}", error.message);
    let left: Vec<_> = registry.not_ready().map(|model| (model.name, model.stage.step)).collect();
    assert_eq!(left, [("broken".to_owned(), LoadStep::Loading)]);
}
