use std::sync::Weak;

use proxima_models::{Checkpoint, LoadOptions, Model, RaggedBatch};
use proxima_synth::{SynthOptions, write};

use super::*;

/// The prefixes that a batch of these sequences returns, parents first.
fn prefixes_of(model: &Model, texts: &[Vec<u32>]) -> Vec<Arc<Prefix>> {
    let sequence = |tokens: &Vec<u32>| Sequence { tokens: tokens.clone(), ..Sequence::default() };
    let sequences: Vec<Sequence> = texts.iter().map(sequence).collect();
    let batch = RaggedBatch::sharing(&sequences.iter().collect::<Vec<_>>(), &[], |_| None);
    model.encoder.encode(&batch).expect("encoded").prefixes
}

fn model() -> Model {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = SynthOptions { seed: 5, tokenizer: None };
    write("tiny-qwen3", folder.path(), &options).expect("written");
    let checkpoint = Checkpoint::open(folder.path()).expect("opened");
    Model::load(&checkpoint, &LoadOptions::default()).expect("loaded")
}

#[test]
fn a_continuation_of_an_uncached_prefix_is_not_cached() {
    let model = model();
    let (trunk, limb) = (vec![10; 200], vec![11; 20]);
    let text = |end: &[u32]| [&trunk[..], end].concat();
    let on_limb = |token: u32| text(&[&limb[..], &[token]].concat());
    let prefixes = prefixes_of(&model, &[text(&[12; 30]), on_limb(13), on_limb(14)]);
    let [parent, child] = &prefixes[..] else { panic!("{} prefixes", prefixes.len()) };
    assert!(child.parent().is_some_and(|prefix| Arc::ptr_eq(prefix, parent)));
    assert!(child.bytes() * 4 < parent.bytes());
    // The parent exceeds half of the cache, the child does not.
    let bytes_max = 2 * parent.bytes() - 1;
    let all: Vec<Weak<Prefix>> = prefixes.iter().map(Arc::downgrade).collect();
    let mut store = Prefixes::new(bytes_max);
    store.insert(prefixes);
    assert_eq!(store.bytes(), 0);
    assert!(all.iter().all(|prefix| prefix.upgrade().is_none()));
}

fn bytes_a_token(model: &Model) -> usize {
    let prefixes = prefixes_of(model, &[vec![10; 17], [vec![10; 16], vec![11]].concat()]);
    prefixes[0].bytes() / prefixes[0].tokens().len()
}

#[test]
fn everything_alive_is_counted() {
    let model = model();
    let mut all: Vec<Weak<Prefix>> = Vec::new();
    // Capacity for the prefixes of about six rounds.
    let bytes_max = 6 * 60 * bytes_a_token(&model);
    let mut store = Prefixes::new(bytes_max);
    for round in 0..40usize {
        let (trunk, limb) = (vec![20 + round as u32 % 9; 17 + round % 30], vec![10; 16 + round]);
        let text = |ends: &[u32]| [&trunk[..], ends].concat();
        let both = [text(&limb), text(&[&limb[..], &[11]].concat()), text(&[12; 20])];
        let prefixes = prefixes_of(&model, &both);
        assert_eq!(prefixes.len(), 2);
        all.extend(prefixes.iter().map(Arc::downgrade));
        store.insert(prefixes);
        let alive = all.iter().filter_map(Weak::upgrade).map(|prefix| prefix.bytes());
        assert_eq!((alive.sum::<usize>(), store.bytes() <= bytes_max), (store.bytes(), true));
    }
    assert!(store.bytes() > 0);
}
