//! Common prefixes are computed once, in a batch and across batches, without changing a bit of any
//! answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proxima_engine::{DeviceEvent, EmbedRequest, Engine, EngineConfig, Metrics, Observation};
use proxima_models::{Checkpoint, Input, LoadOptions, Model, Prepare, Prompt};
use proxima_synth::{SynthOptions, write};

#[derive(Default)]
struct Counts {
    tokens: AtomicUsize,
    rows: AtomicUsize,
    batches: AtomicUsize,
    kept: AtomicUsize,
}

impl Metrics for Counts {
    fn observe(&self, observation: Observation) {
        match observation {
            Observation::Batch { tokens, rows, .. } => {
                self.tokens.fetch_add(tokens, Ordering::SeqCst);
                self.rows.fetch_add(rows, Ordering::SeqCst);
                self.batches.fetch_add(1, Ordering::SeqCst);
            }
            Observation::PrefixSize { bytes } => self.kept.store(bytes, Ordering::SeqCst),
            _ => {}
        }
    }

    fn device(&self, _: DeviceEvent<'_>) {}
}

async fn vectors(prefix_bytes_max: usize) -> (Vec<Vec<f32>>, Arc<Counts>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = SynthOptions { seed: 1, tokenizer: None };
    write("tiny-qwen3", folder.path(), &options).expect("written");
    let checkpoint = Checkpoint::open(folder.path()).expect("opened");
    let model = Model::load(&checkpoint, &LoadOptions::default()).expect("loaded");
    let counts = Arc::new(Counts::default());
    // Batches of a few sequences, so that most prefixes are shared across batches.
    let config =
        EngineConfig { prefix_bytes_max, batch_tokens_max: 128, ..EngineConfig::default() };
    let engine = Engine::start(model, config, counts.clone());
    let mut all = Vec::new();
    for round in 0..3 {
        let text = |index| Input::from(format!("text {index} of round {round}"));
        let instruction = "Find what answers a question that was asked on a rainy day".to_owned();
        let answer = engine
            .embed(EmbedRequest {
                inputs: (0..20).map(text).collect(),
                prepare: Prepare { prompt: Prompt::Instruction(instruction), ..Prepare::default() },
                dimensions: None,
                normalize: true,
            })
            .await
            .expect("answered");
        all.extend(answer.vectors);
    }
    engine.shutdown().await;
    (all, counts)
}

#[tokio::test]
async fn shared_prefixes_save_rows_and_change_no_bit() {
    let (alone, plain) = vectors(0).await;
    let (shared, counts) = vectors(1 << 20).await;
    assert!(alone == shared);
    let read = |count: &AtomicUsize| count.load(Ordering::SeqCst);
    assert_eq!((read(&plain.tokens), read(&plain.kept)), (read(&plain.rows), 0));
    assert!(read(&counts.batches) > 6 && read(&counts.tokens) == read(&plain.tokens));
    assert!(read(&counts.rows) * 2 < read(&counts.tokens), "{} rows", read(&counts.rows));
    assert!((1..=1 << 20).contains(&read(&counts.kept)));
}

#[tokio::test]
async fn a_store_too_small_for_anything_still_answers() {
    let (alone, _) = vectors(0).await;
    let (shared, counts) = vectors(1_000).await;
    assert!(alone == shared);
    assert_eq!(counts.kept.load(Ordering::SeqCst), 0);
}
