//! Twins of checkpoints load as the checkpoints do, and are smaller.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use proxima_models::readout::Pooling;
use proxima_models::{Checkpoint, LoadOptions, Model, RaggedBatch, Sequence, Task};
use proxima_synth::{SynthOptions, twin, write};
use support::asset;

fn load(folder: &Path) -> Model {
    let checkpoint = Checkpoint::open(folder).expect("opened");
    let masked = checkpoint.architectures().iter().any(|name| name.ends_with("ForMaskedLM"));
    let options = LoadOptions {
        task: masked.then_some(Task::Sparse),
        // Where the files do not say it, and nothing else is asked for.
        pooling: (!masked && bare(&checkpoint)).then_some(Pooling::Cls),
        ..LoadOptions::default()
    };
    let loaded = Model::load(&checkpoint, &options);
    loaded.unwrap_or_else(|problem| panic!("{}: {problem}", folder.display()))
}

/// Whether it is a network without a head or modules.
fn bare(checkpoint: &Checkpoint) -> bool {
    let names = checkpoint.architectures();
    !checkpoint.dir().join("modules.json").exists()
        && names.iter().all(|name| name.ends_with("Model"))
}

fn weights(folder: &Path) -> u64 {
    fs::metadata(folder.join("model.safetensors")).expect("weights").len()
}

fn synthetic(name: &str, at: &Path) -> PathBuf {
    let folder = at.join(name);
    write(name, &folder, &SynthOptions { seed: 1, tokenizer: None }).expect("written");
    folder
}

#[test]
fn a_twin_is_served_as_its_original_is() {
    let place = tempfile::tempdir().expect("a temporary folder");
    let mut originals = vec![asset("all-MiniLM-L6-v2"), asset("splade-bert-tiny")];
    for name in ["tiny-qwen3", "tiny-e2rank", "tiny-jina-reranker", "tiny-bert-dense"] {
        originals.push(synthetic(name, place.path()));
    }
    let scores = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/scores");
    for entry in fs::read_dir(scores).expect("a folder") {
        let folder = entry.expect("an entry").path();
        // Weights of bge-m3's heads are pickled, and a twin has none of those.
        let has_weights = folder.join("model.safetensors").exists();
        if has_weights && !folder.join("sparse_linear.pt").exists() {
            originals.push(folder);
        }
    }
    for (index, original) in originals.iter().enumerate() {
        let folder = place.path().join(format!("twin-{index}"));
        twin(original, &folder, 3).expect("a twin");
        assert!(weights(&folder) < weights(original) * 2, "{}", original.display());
        let (own, twin) = (load(original), load(&folder));
        assert_eq!((&own.info.recipe, &own.info.family), (&twin.info.recipe, &twin.info.family));
        assert_eq!(own.info.capabilities.labels, twin.info.capabilities.labels);
        let sequence = Sequence { tokens: vec![3, 4, 5], ..Sequence::default() };
        let hidden = twin.encoder.encode(&RaggedBatch::new([&sequence])).expect("encoded");
        let rows: Vec<f32> = hidden.rows.flatten_all().expect("rows").to_vec1().expect("elements");
        assert!(rows.iter().all(|value| value.is_finite()), "{}", original.display());
    }
}

#[test]
fn a_twin_of_real_weights_is_tiny_and_its_seed_decides_them() {
    let place = tempfile::tempdir().expect("a temporary folder");
    let original = asset("all-MiniLM-L6-v2");
    let made = |name: &str, seed: u64| {
        let folder = place.path().join(name);
        twin(&original, &folder, seed).expect("a twin");
        fs::read(folder.join("model.safetensors")).expect("weights")
    };
    let first = made("first", 1);
    assert!(first.len() as u64 * 3 < weights(&original), "{} bytes", first.len());
    assert_eq!(first, made("same", 1));
    assert_ne!(first, made("other", 2));
    assert_eq!(load(&place.path().join("first")).info.capabilities.embedding, Some(96));
}

#[test]
fn what_has_no_twin_is_refused_by_name() {
    let place = tempfile::tempdir().expect("a temporary folder");
    let sees = synthetic("tiny-qwen3-vl", place.path());
    let refused = |from: &Path, to: &str| {
        twin(from, &place.path().join(to), 0).expect_err("refused").to_string()
    };
    assert!(refused(&sees, "a").contains("images"));
    assert!(refused(place.path(), "b").contains("config.json"));
    let bert = synthetic("tiny-bert", place.path());
    assert!(refused(&bert, "tiny-bert/inside").contains("inside the checkpoint"));
    let full = synthetic("tiny-qwen3", place.path());
    assert!(refused(&full, "tiny-bert").contains("not empty"));
}
