//! Vectors equal those of transformers in float32: `tests/golden`, made by
//! `tests/reference/make_golden.py`.

mod support;

use std::path::Path;

use proxima_models::readout::{Pooling, finish};
use proxima_models::{
    Checkpoint, DeviceChoice, Input, LoadOptions, Model, Precision, Prepare, Prompt, RaggedBatch,
    Sequence, TruncationSide,
};
use proxima_synth::{SynthOptions, write};
use serde_json::Value;
use support::asset;

struct Golden {
    name: &'static str,
    checkpoint: Checkpoint,
    cases: Vec<Value>,
    _folder: tempfile::TempDir,
}

impl Golden {
    fn open(name: &'static str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
        let text =
            std::fs::read_to_string(path.join(format!("{name}.json"))).expect("a golden file");
        let golden: Value = serde_json::from_str(&text).expect("JSON");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let dir = match golden["synth"].as_str() {
            None => asset("all-MiniLM-L6-v2"),
            Some(synth) => {
                let tokenizer = golden["tokenizer"].as_str().map(asset);
                let seed = golden["seed"].as_u64().expect("a seed");
                write(synth, folder.path(), &SynthOptions { seed, tokenizer }).expect("written");
                folder.path().to_owned()
            }
        };
        let checkpoint = Checkpoint::open(&dir).expect("opened");
        let cases = golden["cases"].as_array().expect("cases").clone();
        Self { name, checkpoint, cases, _folder: folder }
    }

    fn model(&self, precision: Precision, pooling: Option<Pooling>) -> Model {
        let device = support::device();
        let options =
            LoadOptions { precision: Some(precision), pooling, device, ..LoadOptions::default() };
        Model::load(&self.checkpoint, &options).expect("loaded")
    }
}

fn sequence(model: &Model, case: &Value) -> Sequence {
    let text = |name: &str| case[name].as_str().map(str::to_owned);
    let prompt = match (text("prompt"), text("instruction")) {
        (Some(name), _) => Prompt::Named(name),
        (None, Some(instruction)) => Prompt::Instruction(instruction),
        (None, None) => Prompt::Default,
    };
    let left = case["side"].as_str() == Some("left");
    let how = Prepare {
        prompt,
        side: if left { TruncationSide::Left } else { TruncationSide::Right },
        tokens_max: case["tokens_max"].as_u64().map(|limit| limit as usize),
        ..Prepare::default()
    };
    model.recipe.prepare(&Input::from(text("text").expect("a text")), &how).expect("prepared")
}

fn vectors(model: &Model, sequences: &[Sequence]) -> Vec<Vec<f32>> {
    let hidden = model.encoder.encode(&RaggedBatch::new(sequences)).expect("encoded");
    model.readouts.embedding.as_ref().expect("an embedder").embed(&hidden).expect("read out")
}

fn expected(case: &Value) -> Vec<f32> {
    support::floats(case["vector"].as_str().expect("base64"))
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn equals_the_reference(name: &'static str) {
    let golden = Golden::open(name);
    // On a GPU, everything between two operations is bfloat16, too.
    let rounded = if support::device() == DeviceChoice::Cpu { 0.999 } else { 0.998 };
    let bounds =
        [(Precision::Float32, 0.99999), (Precision::Bfloat16, rounded), (Precision::Int8, 0.99)];
    for (precision, least) in
        bounds.into_iter().filter(|(precision, _)| support::serves(*precision))
    {
        is_as_close(&golden, precision, least);
    }
}

/// Checks tokens, and that cosines are at least `least`.
fn is_as_close(golden: &Golden, precision: Precision, least: f64) {
    let default = golden.model(precision, None);
    for case in &golden.cases {
        let pooling = case["pooling"].as_str().map(|name| {
            Pooling::ALL.into_iter().find(|pooling| pooling.name() == name).expect("known")
        });
        let other = pooling.map(|pooling| golden.model(precision, Some(pooling)));
        let model = other.as_ref().unwrap_or(&default);
        let sequence = sequence(model, case);
        let tokens: Vec<u64> = sequence.tokens.iter().map(|id| u64::from(*id)).collect();
        let wanted: Vec<u64> =
            case["tokens"].as_array().expect("ids").iter().filter_map(Value::as_u64).collect();
        let text: String = case["text"].as_str().expect("a text").chars().take(40).collect();
        assert_eq!(tokens, wanted, "{}: tokens of {text:?}", golden.name);
        let (got, expected) = (&vectors(model, &[sequence])[0], expected(case));
        for dimensions in [None, Some(32)] {
            let got = finish(got, dimensions, true);
            let cosine = cosine(&got, &expected[..got.len()]);
            // With fewer components, rounding errors weigh more.
            let cut = dimensions.is_some() && precision != Precision::Float32;
            let least = if cut { 1.0 - 2.0 * (1.0 - least) } else { least };
            assert!(cosine >= least, "{} {precision:?}: {text:?} is at {cosine}", golden.name);
        }
    }
}

#[test]
fn tiny_qwen3() {
    equals_the_reference("tiny-qwen3");
}

#[test]
fn tiny_qwen3_in_shards_with_the_published_tokenizer() {
    equals_the_reference("tiny-qwen3-sharded");
}

#[test]
fn tiny_bert_with_every_pooling() {
    equals_the_reference("tiny-bert");
}

#[test]
fn tiny_bert_with_a_projection() {
    equals_the_reference("tiny-bert-dense");
}

#[test]
fn the_real_minilm() {
    equals_the_reference("minilm");
}

#[test]
fn tiny_vectors_have_the_same_bits_in_any_batch() {
    let precisions = [Precision::Float32, Precision::Bfloat16, Precision::Float16, Precision::Int8];
    let precisions = precisions.into_iter().filter(|precision| support::serves(*precision));
    for (name, precision) in
        precisions.flat_map(|precision| [("tiny-qwen3", precision), ("tiny-bert", precision)])
    {
        let golden = Golden::open(name);
        let model = golden.model(precision, None);
        let sequences: Vec<Sequence> =
            golden.cases.iter().map(|case| sequence(&model, case)).collect();
        let together = vectors(&model, &sequences);
        for (sequence, vector) in sequences.iter().zip(&together) {
            let alone = &vectors(&model, std::slice::from_ref(sequence))[0];
            assert_eq!(alone, vector, "{name} {precision:?}");
        }
    }
}
