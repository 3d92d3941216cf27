use proptest::prelude::*;

use super::*;
use crate::{Checkpoint, LoadOptions, Model};
use proxima_synth::{SynthOptions, write};

fn sequence(tokens: Vec<u32>) -> Sequence {
    Sequence { tokens, ..Sequence::default() }
}

/// All tokens of the sequence that ends at row `end`, which must end a segment.
fn path(batch: &RaggedBatch, end: usize) -> Vec<u32> {
    let segment =
        batch.segments.iter().find(|segment| segment.rows.contains(&end)).expect("a segment");
    assert_eq!(segment.rows.end - 1, end, "sequences end where segments end");
    let mut tokens = Vec::new();
    for source in &segment.ancestors {
        match source {
            Ancestor::Batch(rows) => tokens.extend_from_slice(&batch.tokens[rows.clone()]),
            Ancestor::Cached(_) => unreachable!("nothing is cached here"),
        }
    }
    assert_eq!(tokens.len(), segment.start);
    tokens.extend_from_slice(&batch.tokens[segment.rows.clone()]);
    tokens
}

#[test]
fn a_prompt_is_there_once_and_texts_branch_off() {
    let prompt: Vec<u32> = (0..40).collect();
    let texts = [vec![100, 101, 102], vec![200; 30], vec![100, 101, 103], vec![]];
    let whole = |text: &Vec<u32>| sequence([&prompt[..], text].concat());
    let sequences: Vec<Sequence> = texts.iter().map(whole).collect();
    let batch = lay_out(&sequences.iter().collect::<Vec<_>>(), &[], |_| None);
    assert_eq!(batch.tokens.len(), 40 + 3 + 30 + 3);
    assert_eq!(batch.segments.len(), 4);
    assert_eq!(batch.to_cache.len(), 1);
    assert_eq!(batch.to_cache[0].tokens, prompt);
}

#[test]
fn a_recent_sequence_shows_what_to_cache() {
    let prompt: Vec<u32> = (0..40).collect();
    let now = sequence([&prompt[..], &[7, 8, 9]].concat());
    let before: Arc<[u32]> = [&prompt[..], &[1, 2]].concat().into();
    let batch = lay_out(&[&now], &[before], |_| None);
    assert_eq!((batch.tokens.len(), batch.segments.len()), (43, 2));
    assert_eq!(batch.to_cache[0].tokens, prompt);
    // The same text again offers no branching point, so nothing is cached.
    let batch = lay_out(&[&now], &[now.tokens.clone().into()], |_| None);
    assert_eq!((batch.segments.len(), batch.to_cache.len()), (1, 0));
}

/// Recent sequences, each sharing 16 more tokens with `long` than the one before.
fn nested(long: &[u32], count: usize) -> Vec<Arc<[u32]>> {
    let cut = |many: usize| [&long[..many * SHARED_MIN], &[many as u32 % 7; 20]].concat().into();
    (1..=count).map(cut).collect()
}

#[test]
fn recent_sequences_cut_a_path_a_few_times_at_most() {
    let long: Vec<u32> = (0..600).map(|token| 10 + token % 91).collect();
    let recent = nested(&long, 32);
    let one = sequence(long.clone());
    let batch = lay_out(&[&one], &recent, |_| None);
    assert_eq!((batch.segments.len(), batch.to_cache.len()), (RECENT_MAX + 1, RECENT_MAX));
    assert_eq!(path(&batch, batch.ends[0]), long);
    // Only the first cuts are made; what continues a cached prefix may be cut further.
    let lengths: Vec<usize> = batch.to_cache.iter().map(|segment| segment.tokens.len()).collect();
    assert_eq!(lengths, [16, 32, 48, 64]);
    // Branches of the batch's own sequences do not count against the limit on recent ones.
    let others =
        (0..20).map(|count| sequence([&long[..30 * (count + 1)], &[count as u32]].concat()));
    let all: Vec<Sequence> = others.chain([one]).collect();
    let all: Vec<&Sequence> = all.iter().collect();
    let (with, without) = (lay_out(&all, &recent, |_| None), lay_out(&all, &[], |_| None));
    assert!((39..=41).contains(&without.segments.len()), "{} segments", without.segments.len());
    assert!(
        with.segments.len() <= without.segments.len() + 2 * RECENT_MAX,
        "{} segments",
        with.segments.len()
    );
    for (sequence, end) in all.iter().zip(&with.ends) {
        assert_eq!(path(&with, *end), sequence.tokens);
    }
}

#[test]
fn recent_sequences_change_no_bit() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = SynthOptions { seed: 3, tokenizer: None };
    write("tiny-qwen3", folder.path(), &options).expect("written");
    let checkpoint = Checkpoint::open(folder.path()).expect("opened");
    let model = Model::load(&checkpoint, &LoadOptions::default()).expect("loaded");
    let long: Vec<u32> = (0..300).map(|token| 10 + token % 91).collect();
    let sequences = [sequence(long.clone()), sequence([&long[..150], &[9; 30]].concat())];
    let sequences: Vec<&Sequence> = sequences.iter().collect();
    let last = |batch: &RaggedBatch| {
        let hidden = model.encoder.encode(batch).expect("encoded");
        let rows = hidden.rows.to_vec2::<f32>().expect("values");
        let ends = hidden.offsets[1..].iter().map(|end| rows[end - 1].clone());
        (ends.collect::<Vec<_>>(), hidden.prefixes)
    };
    let (alone, _) = last(&RaggedBatch::new(sequences.iter().copied()));
    let recent = nested(&long, 18);
    let mut known: Vec<Arc<Prefix>> = Vec::new();
    // Each batch continues from the last cut of the one before.
    for _ in 0..3 {
        let longest = |tokens: &[u32]| {
            let fits = |prefix: &&Arc<Prefix>| tokens.starts_with(prefix.tokens());
            known.iter().filter(fits).max_by_key(|prefix| prefix.tokens().len()).cloned()
        };
        let batch = RaggedBatch::sharing(&sequences, &recent, longest);
        assert!(batch.segments.len() > 3 && batch.segments.len() <= 3 + 2 * RECENT_MAX);
        let (shared, cached) = last(&batch);
        assert!(shared == alone);
        known.extend(cached);
    }
    assert!(known.len() > 2 * RECENT_MAX);
}

proptest! {
    #[test]
    fn every_sequence_is_whole_and_no_row_is_there_for_nothing(
        parts in prop::collection::vec((0usize..3, 0usize..3, 0usize..4, 1usize..30), 1..30),
        recent in prop::collection::vec((0usize..3, 0usize..3, 0usize..4, 1usize..30), 0..6),
    ) {
        let tokens = |(a, b, c, length): &(usize, usize, usize, usize)| -> Vec<u32> {
            let part = |kind: usize, many: usize| vec![kind as u32; many];
            [part(*a, 25), part(10 + b, 20), part(20 + c, *length)].concat()
        };
        let sequences: Vec<Sequence> = parts.iter().map(|part| sequence(tokens(part))).collect();
        let recent: Vec<Arc<[u32]>> = recent.iter().map(|part| tokens(part).into()).collect();
        let batch = lay_out(&sequences.iter().collect::<Vec<_>>(), &recent, |_| None);
        for (sequence, end) in sequences.iter().zip(&batch.ends) {
            prop_assert_eq!(&path(&batch, *end), &sequence.tokens);
        }
        let together: usize = sequences.iter().map(|sequence| sequence.tokens.len()).sum();
        prop_assert!(batch.tokens.len() <= together);
        // Root segments never share the first `SHARED_MIN` tokens.
        let starts: Vec<&[u32]> = batch.segments.iter().filter(|segment| segment.start == 0)
            .map(|segment| &batch.tokens[segment.rows.start..][..SHARED_MIN]).collect();
        for (index, start) in starts.iter().enumerate() {
            prop_assert!(!starts[..index].contains(start));
        }
    }
}
