//! Tests of the engine's public API, with a model that can be told to misbehave.

#[path = "../../../tests/support/fake_model.rs"]
mod fake_model;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fake_model::{Knobs, WIDTH, fake_model};
use proxima_engine::{EmbedRequest, Engine, EngineConfig, EngineError, NoMetrics, TokensRequest};
use proxima_models::{BatchRows, Input, InputError, Prepare, Prompt};

fn engine(config: EngineConfig) -> (Engine, Knobs) {
    let (model, knobs) = fake_model();
    (Engine::start(model, config, Arc::new(NoMetrics)), knobs)
}

fn request(texts: &[&str]) -> EmbedRequest {
    EmbedRequest {
        inputs: texts.iter().map(|text| Input::from(*text)).collect(),
        prepare: Prepare::default(),
        dimensions: None,
        normalize: true,
    }
}

async fn vectors(engine: &Engine, texts: &[&str]) -> Vec<Vec<f32>> {
    engine.embed(request(texts)).await.expect("embedded").vectors
}

/// Lets tasks run until they wait for the engine's threads.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn answers_come_in_order_and_do_not_depend_on_company() {
    let (engine, _) = engine(EngineConfig::default());
    let texts = ["one", "two words", "", "three more words"];
    let together = vectors(&engine, &texts).await;
    for (text, vector) in texts.iter().zip(&together) {
        assert_eq!(&vectors(&engine, &[text]).await[0], vector);
        let length: f32 = vector.iter().map(|value| value * value).sum();
        assert!((length - 1.0).abs() < 1e-6);
    }
}

#[tokio::test]
async fn many_inputs_of_many_requests_are_all_answered() {
    let (engine, _) = engine(EngineConfig::default());
    let requests = (0..20).map(|request_index| {
        let engine = engine.clone();
        tokio::spawn(async move {
            let texts: Vec<String> =
                (0..50).map(|index| format!("text {index} of {request_index}")).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            (vectors(&engine, &texts).await, vectors(&engine, &texts[7..8]).await)
        })
    });
    for request in requests.collect::<Vec<_>>() {
        let (all, one) = request.await.expect("no panic");
        assert_eq!(all.len(), 50);
        assert_eq!(all[7], one[0]);
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said() {
    let (engine, knobs) = engine(EngineConfig { inputs_max: 3, ..EngineConfig::default() });
    let failed = |request| {
        let engine = engine.clone();
        async move { engine.embed(request).await.expect_err("refused") }
    };
    assert_eq!(failed(request(&[])).await, EngineError::Empty);
    let many = failed(request(&["a"; 4])).await;
    assert_eq!(many, EngineError::TooManyInputs { count: 4, limit: 3 });
    for asked in [0, WIDTH + 1] {
        let wrong = EmbedRequest { dimensions: Some(asked), ..request(&["a"]) };
        assert_eq!(failed(wrong).await, EngineError::Dimensions { asked, width: WIDTH });
    }
    for limit in ["sequence", "document", "query"] {
        let mut none = request(&["a"]);
        match limit {
            "sequence" => none.prepare.tokens_max = Some(0),
            "document" => none.prepare.document_tokens_max = Some(0),
            _ => none.prepare.query_tokens_max = Some(0),
        }
        let refused = failed(none).await;
        assert!(matches!(refused, EngineError::OutOfBounds { asked: 0, .. }), "{refused}");
    }
    let long = "word ".repeat(40);
    let mut strict = request(&["fine", &long]);
    strict.prepare.truncate = false;
    let source = InputError::TooLong { tokens: 42, limit: 16 };
    assert_eq!(failed(strict).await, EngineError::Input { index: 1, source });
    let mut unknown = request(&["a"]);
    unknown.inputs = vec![Input::Tokens(vec![5, 10_000])];
    let source = InputError::UnknownToken { id: 10_000, vocabulary: 10_000 };
    assert_eq!(failed(unknown).await, EngineError::Input { index: 0, source });
    let mut prompt = request(&["a"]);
    prompt.prepare.prompt = Prompt::Named("passage".into());
    assert!(failed(prompt).await.to_string().contains("query"));
    let bug = failed(request(&["tokenizer bug"])).await;
    assert!(matches!(bug, EngineError::Panicked { index: 0 }));
    assert_eq!(knobs.computed(), 0, "nothing of a refused request is computed");
    vectors(&engine, &["still alive"]).await;
}

#[tokio::test]
async fn a_row_that_is_not_finite_fails_alone() {
    let (engine, knobs) = engine(EngineConfig::default());
    let alone = vectors(&engine, &["good text"]).await;
    knobs.shut();
    let first = tokio::spawn({
        let engine = engine.clone();
        async move { vectors(&engine, &["holds the worker"]).await }
    });
    settle().await;
    tokio::task::spawn_blocking({
        let knobs = knobs.clone();
        move || knobs.wait_until_a_batch_waits()
    })
    .await
    .expect("waited");
    let spawn = |text: &'static str| {
        let engine = engine.clone();
        tokio::spawn(async move { engine.embed(request(&["fine", text])).await })
    };
    let (bad, good) = (spawn("poison"), spawn("good text"));
    settle().await;
    knobs.open();
    first.await.expect("no panic");
    assert_eq!(bad.await.expect("no panic"), Err(EngineError::NotFinite { index: 1 }));
    assert_eq!(good.await.expect("no panic").expect("embedded").vectors[1], alone[0]);
}

#[tokio::test]
async fn a_panic_fails_only_the_guilty_input_and_the_engine_lives_on() {
    let (engine, _) = engine(EngineConfig::default());
    let alone = vectors(&engine, &["neighbour"]).await;
    let spawn = |text: &'static str| {
        let engine = engine.clone();
        tokio::spawn(async move { engine.embed(request(&[text])).await })
    };
    let (bad, good) = (spawn("panic"), spawn("neighbour"));
    let error = bad.await.expect("the task lives").expect_err("failed");
    assert!(error.to_string().contains("a bug of the encoder"), "{error}");
    assert_eq!(good.await.expect("no panic").expect("embedded").vectors, alone);
    assert!(engine.check().await.is_ok());
}

#[tokio::test]
async fn a_full_queue_refuses_whole_requests_and_says_when_to_come_back() {
    let config = EngineConfig { queue_tokens_max: 20, ..EngineConfig::default() };
    let (engine, knobs) = engine(config);
    let error = engine.embed(request(&["a b c", "d e f", "g h i", "j k l", "m n o"])).await;
    assert_eq!(error, Err(EngineError::RequestTooLarge { tokens: 25, limit: 20 }));
    knobs.shut();
    let spawn = |texts: &'static [&'static str]| {
        let engine = engine.clone();
        tokio::spawn(async move { engine.embed(request(texts)).await })
    };
    let running = spawn(&["holds the worker"]);
    tokio::task::spawn_blocking({
        let knobs = knobs.clone();
        move || knobs.wait_until_a_batch_waits()
    })
    .await
    .expect("waited");
    let waiting = spawn(&["a b c", "d e f", "g h i"]);
    while engine_queue_is_below(&engine, 15).await {}
    match engine.embed(request(&["x", "y"])).await {
        Err(EngineError::Overloaded { retry_after }) => {
            assert!((1..=60).contains(&retry_after.as_secs()));
        }
        other => panic!("a request that does not fit is refused, not {other:?}"),
    }
    knobs.open();
    assert!(running.await.expect("no panic").is_ok());
    assert_eq!(waiting.await.expect("no panic").expect("embedded").vectors.len(), 3);
    assert_eq!(knobs.computed(), 4, "nothing of a refused request is computed");
}

/// Whether fewer than `tokens` tokens are waiting.
async fn engine_queue_is_below(engine: &Engine, tokens: usize) -> bool {
    settle().await;
    engine.queue_tokens() < tokens
}

#[tokio::test]
async fn identical_inputs_in_flight_are_computed_once() {
    let (engine, knobs) = engine(EngineConfig::default());
    let same = vectors(&engine, &["same", "other", "same", "same"]).await;
    assert_eq!(same[0], same[2]);
    assert_eq!(knobs.computed(), 2);
}

#[tokio::test]
async fn a_cached_input_is_not_computed_again_whatever_cut_is_asked() {
    let (engine, knobs) =
        engine(EngineConfig { cache_bytes_max: 1 << 20, ..EngineConfig::default() });
    let first = vectors(&engine, &["kept"]).await;
    assert_eq!(vectors(&engine, &["kept"]).await, first);
    let cut = EmbedRequest { dimensions: Some(2), ..request(&["kept"]) };
    let cut = engine.embed(cut).await.expect("embedded");
    assert_eq!(cut.vectors[0].len(), 2);
    let ratio = first[0][0] / first[0][1];
    assert!((cut.vectors[0][0] / cut.vectors[0][1] - ratio).abs() < 1e-5);
    assert_eq!(knobs.computed(), 1);
    let stats = engine.cache_stats();
    assert_eq!((stats.hits, stats.misses, stats.entries), (2, 1, 1));
    assert_eq!(cut.timings.n_tokens, 3, "cached tokens count as usage");
}

#[tokio::test]
async fn a_client_that_is_gone_costs_nothing_more() {
    let (engine, knobs) = engine(EngineConfig::default());
    knobs.shut();
    let running = tokio::spawn({
        let engine = engine.clone();
        async move { vectors(&engine, &["holds the worker"]).await }
    });
    tokio::task::spawn_blocking({
        let knobs = knobs.clone();
        move || knobs.wait_until_a_batch_waits()
    })
    .await
    .expect("waited");
    let leaving = tokio::spawn({
        let engine = engine.clone();
        async move { vectors(&engine, &["never wanted", "nor this"]).await }
    });
    while engine_queue_is_below(&engine, 8).await {}
    leaving.abort();
    assert!(leaving.await.is_err());
    knobs.open();
    running.await.expect("no panic");
    vectors(&engine, &["after"]).await;
    assert_eq!(knobs.computed(), 2);
}

#[tokio::test]
async fn an_input_that_takes_long_is_told_that_its_client_is_gone() {
    let (engine, knobs) = engine(EngineConfig::default());
    let leaving = tokio::spawn({
        let engine = engine.clone();
        async move { engine.embed(request(&["waits"])).await }
    });
    while knobs.waiting_and_left() != (1, 0) {
        settle().await;
    }
    leaving.abort();
    assert!(leaving.await.is_err());
    while knobs.waiting_and_left() != (1, 1) {
        settle().await;
    }
    vectors(&engine, &["after"]).await;
}

#[tokio::test]
async fn hidden_states_have_a_row_a_token() {
    let (engine, _) = engine(EngineConfig::default());
    let inputs = vec![Input::from("a b"), Input::Tokens(vec![5])];
    let request = TokensRequest { inputs, prepare: Prepare::default() };
    let answer = engine.tokens(request).await.expect("answered");
    assert_eq!(answer.rows.iter().map(Vec::len).collect::<Vec<_>>(), [4, 1]);
    assert!(answer.rows.iter().flatten().all(|row| row.len() == WIDTH));
    assert_eq!(answer.timings.n_tokens, 5);
}

#[tokio::test]
async fn shutdown_answers_what_was_accepted_and_refuses_the_rest() {
    let (engine, knobs) = engine(EngineConfig::default());
    knobs.shut();
    let accepted = tokio::spawn({
        let engine = engine.clone();
        async move { engine.embed(request(&["accepted"])).await }
    });
    tokio::task::spawn_blocking({
        let knobs = knobs.clone();
        move || knobs.wait_until_a_batch_waits()
    })
    .await
    .expect("waited");
    let shutdown = tokio::spawn({
        let engine = engine.clone();
        async move { engine.shutdown().await }
    });
    settle().await;
    assert_eq!(engine.embed(request(&["late"])).await, Err(EngineError::ShuttingDown));
    assert!(!shutdown.is_finished(), "an accepted request is waited for");
    knobs.open();
    shutdown.await.expect("no panic");
    assert!(accepted.await.expect("no panic").is_ok());
    engine.shutdown().await;
    let check = tokio::time::timeout(Duration::from_secs(5), engine.check()).await;
    assert!(check.expect("answered").is_err(), "a check after the end is not green");
    assert!(knobs.batches.load(Ordering::SeqCst) >= 1);
}

#[tokio::test]
async fn limits_are_told_as_they_are_kept() {
    for (device, asked, used) in [(64, 16_384, 64), (64, 32, 32)] {
        let (mut model, _) = fake_model();
        model.info.batch_tokens = BatchRows::Known(device);
        let config = EngineConfig { batch_tokens_max: asked, ..EngineConfig::default() };
        let engine = Engine::start(model, config, Arc::new(NoMetrics));
        assert_eq!(engine.config().batch_tokens_max, used);
    }
}

#[tokio::test]
async fn small_requests_overtake_a_large_one() {
    let config =
        EngineConfig { interactive_tokens_max: 8, batch_tokens_max: 16, ..EngineConfig::default() };
    let (engine, knobs) = engine(config);
    let large = tokio::spawn({
        let engine = engine.clone();
        async move {
            let texts: Vec<String> = (0..200).map(|index| format!("bulk text {index}")).collect();
            vectors(&engine, &texts.iter().map(String::as_str).collect::<Vec<_>>()).await
        }
    });
    knobs.shut();
    tokio::task::spawn_blocking({
        let knobs = knobs.clone();
        move || knobs.wait_until_a_batch_waits()
    })
    .await
    .expect("waited");
    let waiting = engine.queue_tokens();
    let before = knobs.computed();
    let small = tokio::spawn({
        let engine = engine.clone();
        async move { vectors(&engine, &["quick"]).await }
    });
    while engine.queue_tokens() == waiting {
        settle().await;
    }
    knobs.open();
    small.await.expect("no panic");
    assert_eq!(large.await.expect("no panic").len(), 200);
    let order = knobs.order.lock().expect("no panic");
    let position = order.iter().position(|tokens| tokens.len() == 3).expect("it was computed");
    assert!(position <= before + 4, "place {position}: it waited for the running batch only");
}

#[tokio::test]
async fn small_requests_and_health_checks_do_not_wait_for_a_long_batch() {
    let (engine, knobs) = engine(EngineConfig::default());
    let long = tokio::spawn({
        let engine = engine.clone();
        async move { vectors(&engine, &["slow words"]).await }
    });
    while !knobs.slow_runs() {
        tokio::task::yield_now().await;
    }
    let small = vectors(&engine, &["a small one"]).await;
    engine.check().await.expect("healthy");
    assert!(!long.is_finished());
    knobs.end_slow();
    let slow = long.await.expect("no panic");
    assert_eq!(vectors(&engine, &["slow words"]).await, slow);
    assert_eq!(vectors(&engine, &["a small one"]).await, small);
}
