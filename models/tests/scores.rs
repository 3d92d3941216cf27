//! Logits equal those of transformers in float32: the checkpoints and answers of
//! `tests/golden/scores`, made by `tests/reference/make_scores.py`.

use std::path::{Path, PathBuf};

use proxima_models::readout::Pooling;
use proxima_models::{Checkpoint, Input, LoadOptions, Model, Prepare, RaggedBatch, Sequence};
use serde_json::Value;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/scores").join(name)
}

fn answers(name: &str) -> Value {
    let text = std::fs::read_to_string(folder(name).join("answers.json")).expect("a golden file");
    serde_json::from_str(&text).expect("JSON")
}

fn load(name: &str, options: &LoadOptions) -> Model {
    let checkpoint = Checkpoint::open(&folder(name)).expect("opened");
    Model::load(&checkpoint, options).expect("loaded")
}

fn numbers(value: &Value) -> Vec<f32> {
    let list = value.as_array().expect("a list");
    list.iter().map(|number| number.as_f64().expect("a number") as f32).collect()
}

fn ids(value: &Value) -> Vec<u32> {
    let list = value.as_array().expect("a list");
    list.iter().map(|id| id.as_u64().expect("an id") as u32).collect()
}

fn worst(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn pair(model: &Model, case: &Value) -> Sequence {
    let text = |name: &str| case[name].as_str().expect("a text").into();
    let input = Input::Pair { query: text("query"), document: text("document") };
    model.recipe.prepare(&input, &Prepare::default()).expect("prepared")
}

fn logits(model: &Model, sequences: &[Sequence]) -> Vec<Vec<f32>> {
    let hidden = model.encoder.encode(&RaggedBatch::new(sequences)).expect("encoded");
    model.readouts.score.as_ref().expect("a scorer").logits(&hidden).expect("read out")
}

fn equals_the_reference(name: &str) {
    let (model, golden) = (load(name, &LoadOptions::default()), answers(name));
    let cases = golden["cases"].as_array().expect("cases");
    let sequences: Vec<Sequence> = cases.iter().map(|case| pair(&model, case)).collect();
    for (case, sequence) in cases.iter().zip(&sequences) {
        let which = format!("{name}: {}", case["case"]);
        assert_eq!(sequence.tokens, ids(&case["input_ids"]), "{which}");
        let alone = logits(&model, std::slice::from_ref(sequence));
        let off = worst(&alone[0], &numbers(&case["logits"]));
        assert!(off < 1e-4, "{which} is off by {off}");
    }
    let together = logits(&model, &sequences);
    for (sequence, logit) in sequences.iter().zip(&together) {
        assert_eq!(&logits(&model, std::slice::from_ref(sequence))[0], logit, "{name}");
    }
}

#[test]
fn xlm_roberta_reranker() {
    equals_the_reference("xlmr-reranker");
}

#[test]
fn bert_with_three_labels() {
    equals_the_reference("bert-classifier");
}

#[test]
fn modern_bert_rerankers_with_both_poolings() {
    equals_the_reference("modernbert-reranker-mean");
    equals_the_reference("modernbert-reranker-cls");
}

#[test]
fn modern_bert_embedder() {
    let golden = answers("modernbert-embedder");
    for (pooling, name) in [(Pooling::Cls, "cls"), (Pooling::Mean, "mean")] {
        let options = LoadOptions { pooling: Some(pooling), ..LoadOptions::default() };
        let model = load("modernbert-embedder", &options);
        for case in golden["cases"].as_array().expect("cases") {
            let text = Input::Text(case["text"].as_str().expect("a text").into());
            let sequence = model.recipe.prepare(&text, &Prepare::default()).expect("prepared");
            assert_eq!(sequence.tokens, ids(&case["input_ids"]));
            let hidden = model.encoder.encode(&RaggedBatch::new([&sequence])).expect("encoded");
            let readout = model.readouts.embedding.as_ref().expect("an embedder");
            let vector = readout.embed(&hidden).expect("read out");
            let off = worst(&vector[0], &numbers(&case[name]));
            assert!(off < 2e-4, "{} is off by {off}", case["case"]);
        }
    }
}
