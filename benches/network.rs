//! Tokens per second of a network alone, without tokenizer and server, by the number of texts in a
//! batch: `cargo bench -p proxima-models --bench network`. Weights are random.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use proxima_models::{Checkpoint, LoadOptions, Model, Precision, RaggedBatch, Sequence};
use proxima_synth::{SynthOptions, write};

/// Texts per batch.
const COUNTS: [usize; 4] = [1, 4, 8, 32];
/// Tokens per text.
const LENGTH: usize = 140;
/// Token ids stay below this, which is less than the smallest vocabulary.
const TOKENS: usize = 190;

fn networks(criterion: &mut Criterion) {
    let models = [
        ("minilm-l6", Precision::Bfloat16),
        ("minilm-l6", Precision::Float32),
        ("qwen3-embedding-0.6b", Precision::Bfloat16),
    ];
    for (name, precision) in models {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("model");
        write(name, &path, &SynthOptions { seed: 0, tokenizer: None }).expect("written");
        let checkpoint = Checkpoint::open(&path).expect("opened");
        let options = LoadOptions { precision: Some(precision), ..LoadOptions::default() };
        let model = Model::load(&checkpoint, &options).expect("loaded");
        let mut group = criterion.benchmark_group(format!("{name} {}", precision.name()));
        group.sample_size(10);
        for count in COUNTS {
            let token = |text: usize, at: usize| ((text * 7919 + at * 31) % TOKENS) as u32;
            let text = |text| Sequence {
                tokens: (0..LENGTH).map(|at| token(text, at)).collect(),
                ..Sequence::default()
            };
            let texts: Vec<Sequence> = (0..count).map(text).collect();
            let batch = RaggedBatch::new(&texts);
            group.throughput(Throughput::Elements((count * LENGTH) as u64));
            group.bench_with_input(BenchmarkId::from_parameter(count), &batch, |bench, batch| {
                bench.iter(|| model.encoder.encode(batch).expect("computed"));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, networks);
criterion_main!(benches);
