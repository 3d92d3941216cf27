//! Random checkpoints have the same bytes everywhere, and every part of their networks matters.

use proxima_models::{Checkpoint, Input, LoadOptions, Model, Prepare, RaggedBatch};
use proxima_synth::{SynthOptions, write};

fn made(name: &str, seed: u64) -> (tempfile::TempDir, Model) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(name, folder.path(), &SynthOptions { seed, tokenizer: None }).expect("written");
    let checkpoint = Checkpoint::open(folder.path()).expect("opened");
    let model = Model::load(&checkpoint, &LoadOptions::default()).expect("loaded");
    (folder, model)
}

fn embed(model: &Model, texts: &[&str]) -> Vec<Vec<f32>> {
    let prepare = |text: &&str| {
        let input = Input::from(*text);
        model.recipe.prepare(&input, &Prepare::default()).expect("prepared")
    };
    let sequences: Vec<_> = texts.iter().map(prepare).collect();
    let hidden = model.encoder.encode(&RaggedBatch::new(&sequences)).expect("encoded");
    let readout = model.readouts.embedding.as_ref().expect("an embedder");
    let vectors = readout.embed(&hidden).expect("read out");
    vectors.iter().map(|vector| proxima_models::readout::finish(vector, None, true)).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[test]
fn every_tiny_checkpoint_loads_and_tells_texts_apart() {
    for name in ["tiny-qwen3", "tiny-qwen3-sharded", "tiny-bert", "tiny-bert-dense"] {
        let (_folder, model) = made(name, 1);
        let vectors = embed(&model, &["a quick brown fox", "stocks fell sharply today"]);
        let cosine_of_two = cosine(&vectors[0], &vectors[1]);
        assert!(cosine_of_two < 0.5, "{name} hardly sees its input: {cosine_of_two}");
        assert!((cosine(&vectors[0], &vectors[0]) - 1.0).abs() < 1e-5);
    }
}

#[test]
fn a_text_has_the_same_bits_alone_and_in_any_batch() {
    let long = "a long text ".repeat(60);
    let texts = ["one", "", "two words", long.as_str(), "end", "two words"];
    for name in ["tiny-qwen3", "tiny-bert"] {
        let (_folder, model) = made(name, 2);
        let together = embed(&model, &texts);
        for (text, vector) in texts.iter().zip(&together) {
            assert_eq!(&embed(&model, &[text])[0], vector, "{name}: {text:?}");
        }
        let reversed: Vec<&str> = texts.iter().rev().copied().collect();
        let mut backwards = embed(&model, &reversed);
        backwards.reverse();
        assert_eq!(backwards, together);
    }
}
