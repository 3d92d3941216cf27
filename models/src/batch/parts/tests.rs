use std::sync::LazyLock;

use proptest::prelude::*;

use proxima_kernels::thread_pool::limited;

use super::*;
use crate::batch::Sequence;
use crate::{Checkpoint, LoadOptions, Model};
use proxima_synth::{SynthOptions, write};

fn sequence(tokens: impl IntoIterator<Item = u32>) -> Sequence {
    Sequence { tokens: tokens.into_iter().collect(), ..Sequence::default() }
}

fn batch(lengths: &[usize]) -> RaggedBatch {
    let all: Vec<Sequence> = lengths.iter().map(|length| sequence(0..*length as u32)).collect();
    RaggedBatch::new(&all)
}

/// A text that begins with the first `shared` tokens of one of a few prompts.
fn text(prompt: u32, shared: usize, own: usize) -> Sequence {
    let own = (0..own as u32).map(|at| (at * 31 + prompt * 7 + shared as u32) % 90);
    sequence((0..shared as u32).map(|at| (at * 3 + prompt) % 90).chain(own))
}

#[test]
fn sequences_of_a_length_are_shared_out_evenly() {
    let split = Split::of(&batch(&[140; 32]), 2);
    assert!(split.together.is_empty());
    let rows = |part: &Range<usize>| part.len() * 140;
    assert_eq!(split.alone.len(), 12);
    assert!(split.alone.is_sorted_by_key(|part| std::cmp::Reverse(part.len())));
    assert!(is_even(split.alone.iter().map(rows), 2));
}

#[test]
fn what_would_keep_one_thread_busy_alone_is_for_all() {
    // A query, a document, or both: all threads together.
    for alone in [&[9][..], &[2048], &[9, 2048]] {
        assert_eq!(Split::of(&batch(alone), 2), Split::none(&batch(alone)));
    }
    let lengths = [&[2048][..], &[128; 8]].concat();
    let split = Split::of(&batch(&lengths), 4);
    assert_eq!(split.together.first(), Some(&(0..1)));
    assert_eq!(split.together.len(), 1);
    let alone: usize = split.alone.iter().map(Range::len).sum();
    assert_eq!(alone, 8);
}

#[test]
fn texts_that_share_a_beginning_stay_together() {
    let texts: Vec<Sequence> = (0..24).map(|at| text(at % 4, 40, 20 + at as usize)).collect();
    let batch = RaggedBatch::sharing(&texts.iter().collect::<Vec<_>>(), &[], |_| None);
    assert_eq!(trees(&batch.segments).len(), 4);
    let split = Split::of(&batch, 2);
    assert_eq!((split.alone.len(), split.together.len()), (2, 0));
    for part in split.alone.iter().map(|range| BatchPart::new(&batch, range.clone())) {
        for segment in part.segments() {
            let before = segment.ancestors.iter().map(|source| match source {
                Ancestor::Batch(rows) => rows.len(),
                Ancestor::Cached(_) => unreachable!("nothing is cached"),
            });
            assert_eq!(before.sum::<usize>(), segment.start);
        }
    }
}

#[test]
fn a_failure_in_one_part_is_the_batchs() {
    let batch = batch(&[140; 8]);
    let hidden = Rows::written([1120, 4], &proxima_kernels::Device::Cpu, |_, row| row.fill(0.0));
    limited(2, || {
        let mut parts = InParts::new(&batch, hidden?, 0, |_, rows| Ok(rows))?;
        let failed = parts.step(&|| (), |part, rows| {
            if part.rows().contains(&600) { Err(KernelError::Msg("no".into())) } else { Ok(rows) }
        });
        assert_eq!(failed.map_err(|error| error.to_string()), Err("no".to_owned()));
        Ok::<_, KernelError>(())
    })
    .expect("rows of the CPU");
}

#[test]
fn one_thread_pauses_between_parts_and_several_only_before_them() {
    let batch = batch(&[140; 8]);
    for (threads, pauses) in [(1, 3), (2, 1)] {
        let paused = std::cell::Cell::new(0);
        limited(threads, || {
            let cpu = proxima_kernels::Device::Cpu;
            let hidden = Rows::written([1120, 4], &cpu, |_, row| row.fill(0.0))?;
            let mut parts = InParts::new(&batch, hidden, 0, |_, rows| Ok(rows))?;
            parts.step(&|| paused.set(paused.get() + 1), |_, rows| Ok(rows))
        })
        .expect("rows of the CPU");
        assert_eq!(paused.get(), pauses, "{threads} threads");
    }
}

/// A model of the built-in list, with random weights.
fn model(name: &str) -> Model {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("model");
    write(name, &path, &SynthOptions { seed: 3, tokenizer: None }).expect("a checkpoint");
    let checkpoint = Checkpoint::open(&path).expect("it can be read");
    Model::load(&checkpoint, &LoadOptions::default()).expect("it can be loaded")
}

/// Bits of all hidden states, computed with `threads` threads.
fn bits(model: &Model, batch: &RaggedBatch, threads: usize) -> Vec<u32> {
    let states = limited(threads, || model.encoder.encode(batch)).expect("it runs");
    let rows = states.rows.flatten_all().and_then(|rows| rows.to_vec1::<f32>());
    rows.expect("float32").into_iter().map(f32::to_bits).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn parts_change_no_bit(
        lengths in prop::collection::vec(1_usize..300, 1..24),
        threads in 2_usize..5,
    ) {
        static MODELS: LazyLock<[Model; 2]> =
            LazyLock::new(|| ["tiny-bert", "tiny-qwen3"].map(model));
        let [bert, qwen3] = &*MODELS;
        let all: Vec<Sequence> =
            lengths.iter().enumerate().map(|(at, own)| text(at as u32 % 3, 20, *own)).collect();
        let laid = RaggedBatch::new(&all);
        for model in [bert, qwen3] {
            // A single sequence is a single part.
            let alone = all.iter().flat_map(|one| bits(model, &RaggedBatch::new([one]), 1));
            let alone: Vec<u32> = alone.collect();
            prop_assert_eq!(&alone, &bits(model, &laid, 1));
            prop_assert_eq!(&alone, &bits(model, &laid, threads));
        }
        let shared = RaggedBatch::sharing(&all.iter().collect::<Vec<_>>(), &[], |_| None);
        prop_assert_eq!(bits(qwen3, &shared, 1), bits(qwen3, &shared, threads));
    }
}
