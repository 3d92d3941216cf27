use proptest::prelude::*;

use super::*;

fn sequence(tokens: Vec<u32>) -> Sequence {
    Sequence { tokens, ..Sequence::default() }
}

/// The tokens a run ends, from its sequence's start, and its last position.
fn path(batch: &RaggedBatch, end: usize) -> Vec<u32> {
    let run = batch.runs.iter().find(|run| run.rows.contains(&end)).expect("a run");
    assert_eq!(run.rows.end - 1, end, "sequences end where runs end");
    let mut tokens = Vec::new();
    for source in &run.before {
        match source {
            Source::Batch(rows) => tokens.extend_from_slice(&batch.tokens[rows.clone()]),
            Source::Kept(_) => unreachable!("nothing is kept here"),
        }
    }
    assert_eq!(tokens.len(), run.start);
    tokens.extend_from_slice(&batch.tokens[run.rows.clone()]);
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
    assert_eq!(batch.runs.len(), 4);
    assert_eq!(batch.keep.len(), 1);
    assert_eq!(batch.keep[0].tokens, prompt);
}

#[test]
fn a_recent_sequence_shows_what_to_keep() {
    let prompt: Vec<u32> = (0..40).collect();
    let now = sequence([&prompt[..], &[7, 8, 9]].concat());
    let before: Arc<[u32]> = [&prompt[..], &[1, 2]].concat().into();
    let batch = lay_out(&[&now], &[before], |_| None);
    assert_eq!((batch.tokens.len(), batch.runs.len()), (43, 2));
    assert_eq!(batch.keep[0].tokens, prompt);
    // The same text again has nothing that others could go on from.
    let batch = lay_out(&[&now], &[now.tokens.clone().into()], |_| None);
    assert_eq!((batch.runs.len(), batch.keep.len()), (1, 0));
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
        // Two trunks of 25 equal tokens are never laid out twice.
        let starts: Vec<&[u32]> = batch.runs.iter().filter(|run| run.start == 0)
            .map(|run| &batch.tokens[run.rows.start..][..SHARED_MIN]).collect();
        for (place, start) in starts.iter().enumerate() {
            prop_assert!(!starts[..place].contains(start));
        }
    }
}
