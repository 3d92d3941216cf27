//! Overload: what an engine admits, in which order, and what it rejects without tokenising it.

#[path = "../../../tests/support/fake_model.rs"]
mod fake_model;

use std::sync::Arc;
use std::time::Duration;

use fake_model::{Knobs, fake_model};
use proxima_engine::{ClientKey, EmbedRequest, Engine, EngineConfig, EngineError, NoMetrics};
use proxima_models::{Input, Prepare};
use tokio::task::JoinHandle;

type EmbedTask = JoinHandle<Result<Vec<Vec<f32>>, EngineError>>;

fn engine(config: EngineConfig) -> (Engine, Knobs) {
    let (model, knobs) = fake_model();
    (Engine::start(model, config, Arc::new(NoMetrics)), knobs)
}

fn request(texts: &[String]) -> EmbedRequest {
    EmbedRequest {
        inputs: texts.iter().cloned().map(Input::from).collect(),
        prepare: Prepare::default(),
        dimensions: None,
        normalize: true,
    }
}

/// `count` texts as long as the model takes, different from all others.
fn texts(name: &str, count: usize) -> Vec<String> {
    (0..count).map(|index| format!("{name} {index} a b c d e f g h i j k l")).collect()
}

fn spawn(engine: &Engine, client: u64, texts: Vec<String>) -> EmbedTask {
    let engine = engine.for_caller(ClientKey::new(client).into());
    tokio::spawn(async move { Ok(engine.embed(request(&texts)).await?.vectors) })
}

/// Blocks the worker with a batch that waits at the gate.
async fn hold(engine: &Engine, knobs: &Knobs) -> EmbedTask {
    knobs.shut();
    let held = spawn(engine, 0, vec!["holds the worker".into()]);
    let knobs = knobs.clone();
    let waited = tokio::task::spawn_blocking(move || knobs.wait_until_a_batch_waits());
    waited.await.expect("waited");
    held
}

async fn until_tokens_wait(engine: &Engine, tokens: usize) {
    while engine.queue_tokens() < tokens {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_modest_client_does_not_wait_for_a_flood() {
    let config =
        EngineConfig { interactive_tokens_max: 8, batch_tokens_max: 64, ..EngineConfig::default() };
    let (engine, knobs) = engine(config);
    let held = hold(&engine, &knobs).await;
    // More than any client can save, so from then on the flood has turns of 512 tokens.
    let flood: Vec<EmbedTask> =
        (0..20).map(|index| spawn(&engine, 1, texts(&format!("flood{index}"), 64))).collect();
    until_tokens_wait(&engine, 20 * 64 * 16).await;
    let modest = spawn(&engine, 2, texts("modest", 32));
    until_tokens_wait(&engine, 20 * 64 * 16 + 32 * 16).await;
    knobs.open();
    assert!(held.await.expect("no panic").is_ok());
    assert_eq!(modest.await.expect("no panic").expect("embedded").len(), 32);
    for answer in flood {
        assert_eq!(answer.await.expect("no panic").expect("embedded").len(), 64);
    }
    // The modest client's sequences are known by their first word, after the special token.
    let alone = engine.embed(request(&texts("modest", 1))).await;
    assert!(alone.is_ok());
    let order = knobs.order.lock().expect("no panic");
    let word = order.last().expect("computed")[1];
    let last =
        order[..order.len() - 1].iter().rposition(|tokens| tokens[1] == word).expect("computed");
    // At most the flood's savings, its turns in the meantime, and a batch go before it.
    assert!(last < 8_192 / 16 + 2 * 32 + 2 * 64, "its last text was number {last} of 1,312");
}

#[tokio::test]
async fn small_requests_do_not_wait_for_large_ones_to_be_tokenised() {
    let threads = 2;
    let config = EngineConfig {
        interactive_tokens_max: 8,
        tokenization_threads: threads,
        ..EngineConfig::default()
    };
    let (engine, knobs) = engine(config);
    // Each text occupies a thread until its caller disconnects.
    let large: Vec<EmbedTask> =
        (0..threads).map(|_| spawn(&engine, 1, vec!["waits".into(); 16])).collect();
    while knobs.waiting_and_left().0 < threads {
        tokio::task::yield_now().await;
    }
    let small = spawn(&engine, 1, vec!["small".into()]);
    assert_eq!(small.await.expect("no panic").expect("embedded").len(), 1);
    large.iter().for_each(JoinHandle::abort);
}

#[tokio::test]
async fn a_request_is_refused_by_time_before_it_is_tokenised() {
    let config = EngineConfig {
        interactive_tokens_max: 8,
        queue_time_max: Duration::ZERO,
        ..EngineConfig::default()
    };
    let (engine, knobs) = engine(config);
    // A large batch, from which the engine learns its rate.
    let measured = spawn(&engine, 1, texts("first", 64)).await.expect("no panic");
    assert_eq!(measured.expect("a queue that is empty lets anything in").len(), 64);
    let held = hold(&engine, &knobs).await;
    let waiting = spawn(&engine, 1, texts("second", 64));
    until_tokens_wait(&engine, 64 * 16).await;
    let bug: Vec<String> = vec!["tokenizer bug".into(); 64];
    match spawn(&engine, 1, bug.clone()).await.expect("no panic") {
        Err(EngineError::Overloaded { retry_after }) => {
            assert!((1..=60).contains(&retry_after.as_secs()), "{retry_after:?}");
        }
        other => panic!("it would wait, so it is refused, not {other:?}"),
    }
    // Small requests have their own queue, which is empty.
    let small = spawn(&engine, 1, vec!["small".into()]);
    until_tokens_wait(&engine, 64 * 16 + 3).await;
    knobs.open();
    for answer in [held, waiting, small] {
        assert!(answer.await.expect("no panic").is_ok());
    }
    let looked_at = spawn(&engine, 1, bug).await.expect("no panic");
    assert!(matches!(looked_at, Err(EngineError::Panicked { index: 0 })), "{looked_at:?}");
}

#[tokio::test]
async fn requests_whose_clients_left_make_room() {
    let config = EngineConfig { queue_tokens_max: 600, ..EngineConfig::default() };
    let (engine, knobs) = engine(config);
    let held = hold(&engine, &knobs).await;
    let leaving = spawn(&engine, 1, texts("leaving", 32));
    until_tokens_wait(&engine, 32 * 16).await;
    leaving.abort();
    assert!(leaving.await.is_err());
    let staying = spawn(&engine, 1, texts("staying", 32));
    until_tokens_wait(&engine, 32 * 16).await;
    knobs.open();
    for answer in [held, staying] {
        assert!(answer.await.expect("no panic").is_ok());
    }
}

#[tokio::test]
async fn a_request_that_has_waited_for_too_long_is_given_up_before_it_is_computed() {
    let queue_time_max = Duration::from_millis(50);
    let config =
        EngineConfig { interactive_tokens_max: 8, queue_time_max, ..EngineConfig::default() };
    let (engine, knobs) = engine(config);
    let held = hold(&engine, &knobs).await;
    let small = spawn(&engine, 1, vec!["small".into()]);
    let large = spawn(&engine, 2, texts("large", 64));
    // They get the error although the worker is blocked.
    for answer in [small, large] {
        match answer.await.expect("no panic") {
            Err(EngineError::Overloaded { retry_after }) => {
                assert!((1..=60).contains(&retry_after.as_secs()), "{retry_after:?}");
            }
            other => panic!("it waited for too long, so it is refused, not {other:?}"),
        }
    }
    knobs.open();
    // A request that is being computed is answered, however long that takes.
    assert!(held.await.expect("no panic").is_ok());
    assert_eq!(
        spawn(&engine, 1, vec!["later".into()])
            .await
            .expect("no panic")
            .map(|vectors| vectors.len()),
        Ok(1)
    );
    assert_eq!(knobs.computed(), 2, "nothing was computed for those who were refused");
}

#[tokio::test]
async fn a_request_that_joins_a_computation_waits_for_it() {
    let queue_time_max = Duration::from_millis(50);
    let (engine, knobs) = engine(EngineConfig { queue_time_max, ..EngineConfig::default() });
    let held = hold(&engine, &knobs).await;
    let joined = spawn(&engine, 1, vec!["holds the worker".into()]);
    let refused = spawn(&engine, 1, vec!["another".into()]).await.expect("no panic");
    assert!(matches!(refused, Err(EngineError::Overloaded { .. })), "{refused:?}");
    assert!(!joined.is_finished());
    knobs.open();
    for answer in [held, joined] {
        assert_eq!(answer.await.expect("no panic").map(|vectors| vectors.len()), Ok(1));
    }
}

#[tokio::test]
async fn a_large_request_is_refused_by_its_bytes_where_it_would_be_when_it_is_known() {
    let config = EngineConfig { queue_tokens_max: 600, ..EngineConfig::default() };
    let (engine, knobs) = engine(EngineConfig { interactive_tokens_max: 8, ..config });
    let held = hold(&engine, &knobs).await;
    assert_eq!(engine.check_load(64, 64_000), Ok(()), "nothing waits");
    let waiting = spawn(&engine, 1, texts("waits", 32));
    until_tokens_wait(&engine, 32 * 16).await;
    assert!(matches!(engine.check_load(64, 64_000), Err(EngineError::Overloaded { .. })));
    // Two texts are cut, so they fit however long they are; one may be small, so it is not checked.
    assert_eq!(engine.check_load(2, 64_000), Ok(()));
    assert_eq!(engine.check_load(1, 1_000_000), Ok(()));
    assert_eq!(engine.queue_tokens(), 32 * 16, "asking leaves nothing behind");
    knobs.open();
    for answer in [held, waiting] {
        assert!(answer.await.expect("no panic").is_ok());
    }
}
