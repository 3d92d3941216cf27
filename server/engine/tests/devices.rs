//! An engine on several devices, and on devices that fail or have too little memory.

#[path = "../../../tests/support/fake_model.rs"]
mod fake_model;

use std::sync::{Arc, Mutex, mpsc};

use fake_model::{Knobs, fake_model};
use proxima_engine::{
    DeviceEvent, EmbedRequest, Engine, EngineConfig, EngineError, Metrics, NoMetrics, Observation,
    Replica,
};
use proxima_models::{BatchRows, Input, Prepare};

/// Records the names of device events.
#[derive(Default)]
struct Events(Mutex<Vec<String>>);

impl Metrics for Events {
    fn observe(&self, _: Observation) {}

    fn device(&self, event: DeviceEvent<'_>) {
        let name = format!("{event:?}");
        let name = name.split([' ', '(']).next().unwrap_or_default().to_owned();
        self.0.lock().expect("no test panics here").push(name);
    }
}

impl Events {
    fn all(&self) -> Vec<String> {
        self.0.lock().expect("no test panics here").clone()
    }
}

/// A replica that can be reloaded.
fn replica(knobs: &Knobs) -> Replica {
    let again = knobs.clone();
    Replica { model: knobs.again(), reload: Some(Box::new(move || Ok(again.again()))) }
}

/// A replica that signals when it is being reloaded, and waits to be told to go on.
fn replica_that_waits(knobs: &Knobs) -> (Replica, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let ((loads, loading), (go, may_go)) = (mpsc::channel(), mpsc::channel());
    let again = knobs.clone();
    let reload = Box::new(move || {
        loads.send(()).expect("the test waits");
        may_go.recv().expect("the test says so");
        Ok(again.again())
    });
    (Replica { model: knobs.again(), reload: Some(reload) }, loading, go)
}

fn start(replicas: Vec<Replica>) -> (Engine, Arc<Events>) {
    let events = Arc::new(Events::default());
    (Engine::start_on(replicas, EngineConfig::default(), events.clone()).expect("threads"), events)
}

async fn embed(engine: &Engine, texts: &[&str]) -> Result<Vec<Vec<f32>>, EngineError> {
    let inputs = texts.iter().map(|text| Input::from(*text)).collect();
    let prepare = Prepare::default();
    let request = EmbedRequest { inputs, prepare, dimensions: None, normalize: true };
    engine.embed(request).await.map(|answer| answer.vectors)
}

fn is_device_error(error: &EngineError) -> bool {
    matches!(error, EngineError::Failed { reason } if reason.contains("left the bus"))
}

#[tokio::test]
async fn a_device_that_fails_is_restarted_once_and_then_lost() {
    let (_, knobs) = fake_model();
    let (engine, events) = start(vec![replica(&knobs)]);
    let before = embed(&engine, &["one", "two"]).await.expect("embedded");
    let error = embed(&engine, &["one", "crash"]).await.expect_err("the device fails");
    assert!(is_device_error(&error), "{error}");
    assert_eq!(embed(&engine, &["one", "two"]).await.expect("embedded again"), before);
    engine.check().await.expect("healthy again");
    assert_eq!(events.all(), ["Failed", "Restarted"]);

    embed(&engine, &["crash"]).await.expect_err("the device fails again");
    let reason = engine.wait_lost().await;
    assert!(reason.contains("cpu") && reason.contains("left the bus"), "{reason}");
    assert_eq!(events.all()[2..], ["Failed", "Lost"]);
    let error = engine.check().await.expect_err("lost");
    assert!(error.to_string().contains("left the bus"), "{error}");
    embed(&engine, &["one"]).await.expect_err("nobody is left to answer");
    engine.shutdown().await;
}

#[tokio::test]
async fn a_health_check_finds_a_device_that_failed_while_nobody_asked_for_anything() {
    let (model, knobs) = fake_model();
    let (engine, events) = start(vec![model.into()]);
    knobs.crash();
    let error = engine.check().await.expect_err("it computes nothing");
    assert!(is_device_error(&error), "{error}");
    // It cannot be reloaded.
    engine.wait_lost().await;
    assert_eq!(events.all(), ["Failed", "Lost"]);
}

#[tokio::test]
async fn while_a_device_restarts_it_is_not_healthy_and_requests_wait() {
    let (_, knobs) = fake_model();
    let (replica, loading, go) = replica_that_waits(&knobs);
    let (engine, _) = start(vec![replica]);
    embed(&engine, &["crash"]).await.expect_err("the device fails");
    loading.recv().expect("it is reloaded");
    let error = engine.check().await.expect_err("it is not back yet");
    assert!(error.to_string().contains("restarts"), "{error}");
    let waiting = tokio::spawn({
        let engine = engine.clone();
        async move { embed(&engine, &["one"]).await }
    });
    while engine.queue_tokens() == 0 {
        tokio::task::yield_now().await;
    }
    go.send(()).expect("it waits");
    waiting.await.expect("no panic").expect("embedded");
    engine.check().await.expect("healthy");
}

#[tokio::test]
async fn a_device_that_does_not_come_back_is_lost() {
    for panics in [false, true] {
        let (_, knobs) = fake_model();
        let again = knobs.clone();
        let reload = Box::new(move || {
            assert!(!panics, "a driver's bug");
            // It loads, but still does not compute.
            again.crash();
            let model = again.still();
            Ok(model)
        });
        let (engine, events) = start(vec![Replica { model: knobs.again(), reload: Some(reload) }]);
        embed(&engine, &["crash"]).await.expect_err("the device fails");
        let reason = engine.wait_lost().await;
        let expected = if panics { "panicked" } else { "does not compute" };
        assert!(reason.contains(expected), "{reason}");
        assert_eq!(events.all(), ["Failed", "Lost"]);
    }
}

#[tokio::test]
async fn a_batch_that_does_not_fit_is_halved_until_it_does() {
    let (model, knobs) = fake_model();
    knobs.limit_memory(300);
    let (engine, events) = start(vec![model.into()]);
    let texts: Vec<String> = (0..500).map(|index| format!("text {index}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let vectors = embed(&engine, &texts).await.expect("embedded, in parts");
    let (whole, _) = start(vec![fake_model().0.into()]);
    assert_eq!(vectors, embed(&whole, &texts).await.expect("embedded"));
    let halved = events.all().len();
    assert!(halved > 0 && events.all().iter().all(|event| event == "OutOfMemory"));
    // It has learnt what fits: a batch of all 400 tokens would not.
    let more: Vec<String> = (0..100).map(|index| format!("more {index}")).collect();
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    embed(&engine, &more).await.expect("embedded");
    assert_eq!(events.all().len(), halved);
    // A sequence that does not fit by itself is the only one that fails.
    knobs.limit_memory(10);
    let long = "a b c d e f g h i j k";
    let error = embed(&engine, &["short", long]).await.expect_err("too large");
    assert!(error.to_string().contains("out of memory"), "{error}");
    embed(&engine, &["short"]).await.expect("embedded");
    engine.check().await.expect("healthy");
}

#[tokio::test]
async fn several_devices_share_one_queue() {
    let (_, knobs) = fake_model();
    let replicas = vec![replica(&knobs), replica(&knobs), replica(&knobs)];
    // In this time, one batch could hold all 800 tokens.
    let batch_time_target = std::time::Duration::from_secs(1);
    let config = EngineConfig { batch_time_target, ..EngineConfig::default() };
    let engine = Engine::start_on(replicas, config, Arc::new(NoMetrics)).expect("threads");
    while engine.idle_workers() < 3 {
        tokio::task::yield_now().await;
    }
    knobs.shut();
    let texts: Vec<String> = (0..200).map(|index| format!("text {index}")).collect();
    let request = tokio::spawn({
        let engine = engine.clone();
        async move {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            embed(&engine, &texts).await
        }
    });
    // A single request of 200 texts keeps all devices busy at the same time.
    tokio::task::spawn_blocking({
        let knobs = knobs.clone();
        move || knobs.wait_until_batches_wait(3)
    })
    .await
    .expect("no panic");
    knobs.open();
    let vectors = request.await.expect("no panic").expect("embedded");
    let (one, _) = start(vec![fake_model().0.into()]);
    for index in [0, 1, 66, 67, 198, 199] {
        let text = format!("text {index}");
        assert_eq!(embed(&one, &[&text]).await.expect("embedded")[0], vectors[index]);
    }
    engine.check().await.expect("all are healthy");
    engine.shutdown().await;
}

#[tokio::test]
async fn workers_that_end_together_end_the_engine() {
    for _ in 0..100 {
        let (_, knobs) = fake_model();
        let (engine, _) = start((0..4).map(|_| knobs.again().into()).collect());
        embed(&engine, &["one"]).await.expect("embedded");
        engine.shutdown().await;
        assert!(engine.check().await.is_err());
    }
}

#[tokio::test]
async fn an_engine_that_ends_while_a_device_restarts_waits_for_nothing_but_that() {
    let (_, knobs) = fake_model();
    let (replica, loading, go) = replica_that_waits(&knobs);
    let (engine, events) = start(vec![replica]);
    embed(&engine, &["crash"]).await.expect_err("the device fails");
    loading.recv().expect("it is reloaded");
    let ended = tokio::spawn({
        let engine = engine.clone();
        async move { engine.shutdown().await }
    });
    tokio::task::yield_now().await;
    // If the shutdown had not begun, this would wait for the device.
    let error = embed(&engine, &["late"]).await.expect_err("nothing new is taken");
    assert_eq!(error, EngineError::ShuttingDown);
    go.send(()).expect("it waits");
    ended.await.expect("no panic");
    assert_eq!((events.all(), engine.lost()), (vec!["Failed".into(), "Restarted".into()], None));
}

#[tokio::test]
async fn memory_that_a_long_batch_has_is_missed_by_others_but_costs_no_device() {
    let (model, knobs) = fake_model();
    let (engine, events) = start(vec![model.into()]);
    let ask = |text: &'static str| {
        let engine = engine.clone();
        tokio::spawn(async move { embed(&engine, &[text]).await })
    };
    let slow = ask("slow");
    while !knobs.slow_runs() {
        tokio::task::yield_now().await;
    }
    knobs.limit_memory(0);
    // Both run in a pause of the long batch.
    let error = ask("small").await.expect("no panic").expect_err("no memory");
    assert!(error.to_string().contains("out of memory"), "{error}");
    let check = tokio::spawn({
        let engine = engine.clone();
        async move { engine.check().await }
    });
    let again = ask("small").await.expect("no panic");
    assert!(again.is_err() && !check.is_finished(), "the check waits for the long batch");
    knobs.limit_memory(1_000);
    knobs.end_slow();
    slow.await.expect("no panic").expect("embedded");
    check.await.expect("no panic").expect("healthy, when it was its turn");
    assert_eq!((events.all(), engine.lost()), (vec![], None));
}

#[tokio::test]
async fn the_others_answer_when_one_device_is_lost() {
    let (_, knobs) = fake_model();
    let (engine, _) = start(vec![knobs.again().into(), knobs.again().into()]);
    embed(&engine, &["crash"]).await.expect_err("a device fails");
    engine.wait_lost().await;
    for _ in 0..20 {
        embed(&engine, &["one", "two"]).await.expect("the other answers");
    }
    engine.check().await.expect_err("one of two is lost");
    engine.shutdown().await;
}

#[tokio::test]
async fn a_batch_is_as_large_as_was_measured() {
    let (mut model, knobs) = fake_model();
    model.info.batch_tokens = BatchRows::AtMost(4096);
    let (engine, events) = start(vec![model.into()]);
    assert_eq!(events.all(), ["Measured"]);
    // How fast a tiny network is at each size is not known here, so any of them may be chosen.
    assert!([1_024, 2_048, 4_096].contains(&engine.config().batch_tokens_max));
    // A short text, then each size twice, in sequences of 16 tokens.
    assert_eq!(knobs.computed(), 1 + 2 * (1_024 + 2_048 + 4_096) / 16);
    let (mut model, knobs) = fake_model();
    model.info.batch_tokens = BatchRows::AtMost(4096);
    let config = EngineConfig { batch_tokens_max: 100, ..EngineConfig::default() };
    let engine = Engine::start(model, config, Arc::new(NoMetrics));
    assert_eq!((engine.config().batch_tokens_max, knobs.computed()), (100, 1 + 2 * (100 / 16)));
}
