//! Module chains, poolings, masks and score functions equal those of sentence-transformers and
//! transformers: `tests/golden/chains.json`, made by `tests/reference/make_chains.py`.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use proxima_models::readout::finish;
use proxima_models::{
    Checkpoint, Input, LoadOptions, Model, Precision, Prepare, Prompt, RaggedBatch, Sequence,
};
use proxima_synth::{SynthOptions, write};
use serde_json::{Value, json};
use support::{bytes, floats, safetensors};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden")
}

fn answers() -> Value {
    let text = fs::read_to_string(golden().join("chains.json")).expect("a golden file");
    serde_json::from_str(&text).expect("JSON")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

/// Writes the folder of a chain, as the reference had it.
fn write_chain(chain: &Value, dir: &Path) {
    let seed = chain["seed"].as_u64().expect("a seed");
    let options = SynthOptions { seed, tokenizer: None };
    write(chain["synth"].as_str().expect("a name"), dir, &options).expect("written");
    if let Some(changes) = chain["config"].as_object() {
        let path = dir.join("config.json");
        let mut config: Value =
            serde_json::from_slice(&fs::read(&path).expect("a file")).expect("JSON");
        changes.iter().for_each(|(key, value)| config[key] = value.clone());
        fs::write(path, config.to_string()).expect("written");
    }
    for (path, content) in chain["files"].as_object().expect("files") {
        let path = dir.join(path);
        match content {
            Value::Null => fs::remove_file(path).expect("removed"),
            content => {
                fs::create_dir_all(path.parent().expect("a folder")).expect("made");
                fs::write(path, content.to_string()).expect("written");
            }
        }
    }
    for (folder, tensors) in chain["tensors"].as_object().expect("tensors") {
        let path = dir.join(folder).join("model.safetensors");
        fs::write(path, safetensors(tensors)).expect("written");
    }
    for (folder, file) in chain["pickles"].as_object().expect("files of PyTorch") {
        let path = dir.join(folder).join("pytorch_model.bin");
        fs::write(path, bytes(file.as_str().expect("base64"))).expect("written");
    }
}

fn load(dir: &Path) -> Model {
    let options = LoadOptions {
        precision: Some(Precision::Float32),
        device: support::device(),
        strict_checkpoint: true,
        ..LoadOptions::default()
    };
    Model::load(&Checkpoint::open(dir).expect("opened"), &options).expect("loaded")
}

fn sequence(model: &Model, text: &str, prompt: Option<&str>) -> Sequence {
    let prompt = prompt.map_or(Prompt::Default, |name| Prompt::Named(name.into()));
    let how = Prepare { prompt, ..Prepare::default() };
    model.recipe.prepare(&Input::from(text), &how).expect("prepared")
}

fn vectors(model: &Model, sequences: &[Sequence]) -> Vec<Vec<f32>> {
    let hidden = model.encoder.encode(&RaggedBatch::new(sequences)).expect("encoded");
    model.readouts.embedding.as_ref().expect("an embedder").embed(&hidden).expect("read out")
}

/// The largest difference between two vectors, relative to the length of the second.
fn off(found: &[f32], wanted: &[f32]) -> f64 {
    assert_eq!(found.len(), wanted.len());
    let length = wanted.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    let worst = found.iter().zip(wanted).map(|(a, b)| f64::from((a - b).abs()));
    // For a zero vector, the difference is absolute.
    worst.fold(0.0, f64::max) / if length > 0.0 { length } else { 1.0 }
}

#[test]
fn chains_of_modules_equal_sentence_transformers() {
    for chain in list(&answers()["chains"]) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        write_chain(chain, folder.path());
        let (name, model) = (&chain["name"], load(folder.path()));
        let prompt = chain["prompt"].as_str();
        let texts = list(&chain["cases"]).iter().map(|case| case["text"].as_str().expect("a text"));
        let sequences: Vec<Sequence> = texts.map(|text| sequence(&model, text, prompt)).collect();
        let together = vectors(&model, &sequences);
        let normalizes = model.info.similarity.normalized;
        for ((case, one), vector) in list(&chain["cases"]).iter().zip(&sequences).zip(&together) {
            let wanted = floats(case["vector"].as_str().expect("base64"));
            // A cut after Normalize leaves vectors of less than unit length: directions are
            // compared.
            let (found, wanted) = match normalizes {
                true => (finish(vector, None, true), finish(&wanted, None, true)),
                false => (vector.clone(), wanted),
            };
            let off = off(&found, &wanted);
            assert!(off < 1e-4, "{name}: {} is off by {off}", case["text"]);
            assert_eq!(&vectors(&model, std::slice::from_ref(one))[0], vector, "{name}");
        }
        if model.info.similarity.function.name() == "cosine" && prompt.is_none() {
            let wanted = list(&chain["similarities"]).iter().map(number);
            for (vector, wanted) in together.iter().zip(wanted) {
                let found = f64::from(model.info.similarity.of(&together[0], vector));
                assert!((found - wanted).abs() < 1e-4, "{name}: {found} is not {wanted}");
            }
        }
    }
}

#[test]
fn only_causal_attention_read_at_last_tokens_shares_prefixes() {
    let answers = answers();
    let chains = list(&answers["chains"]);
    let chain =
        chains.iter().find(|chain| chain["name"] == "is_causal false").expect("such a chain");
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_chain(chain, folder.path());
    let pooling = json!({ "pooling_mode": "lasttoken" }).to_string();
    fs::write(folder.path().join("1_Pooling/config.json"), pooling).expect("written");
    assert!(!load(folder.path()).shares_prefixes());
    let path = folder.path().join("config.json");
    let text = fs::read_to_string(&path).expect("a file");
    fs::write(&path, text.replace("\"is_causal\":false", "\"is_causal\":true")).expect("written");
    assert!(load(folder.path()).shares_prefixes());
    // A mean needs every row of a sequence.
    let pooling = json!({ "pooling_mode": "mean" }).to_string();
    fs::write(folder.path().join("1_Pooling/config.json"), pooling).expect("written");
    assert!(!load(folder.path()).shares_prefixes());
}

#[test]
fn scores_go_through_the_functions_that_the_references_take() {
    let from = golden().join("scores/bert-classifier");
    for case in list(&answers()["scores"]) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for file in ["model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
            fs::copy(from.join(file), folder.path().join(file)).expect("copied");
        }
        let mut config: Value =
            serde_json::from_slice(&fs::read(from.join("config.json")).expect("a file"))
                .expect("JSON");
        let changes = case["config"].as_object().expect("changes");
        changes.iter().for_each(|(key, value)| config[key] = value.clone());
        fs::write(folder.path().join("config.json"), config.to_string()).expect("written");
        let model = load(folder.path());
        let scores = model.info.scores.expect("a scorer");
        for (index, pair) in list(&case["pairs"]).iter().enumerate() {
            let text = |side: usize| pair[side].as_str().expect("a text").into();
            let input = Input::Pair { query: text(0), document: text(1) };
            let sequence = model.recipe.prepare(&input, &Prepare::default()).expect("prepared");
            let hidden = model.encoder.encode(&RaggedBatch::new([&sequence])).expect("encoded");
            let score = model.readouts.score.as_ref().expect("a scorer");
            let logits = score.logits(&hidden).expect("read out").remove(0);
            for (function, wanted) in
                [(scores.classes, &case["classes"]), (scores.pairs, &case["scores"])]
            {
                let wanted: Vec<f32> =
                    list(&wanted[index]).iter().map(|value| number(value) as f32).collect();
                let off = off(&function.apply(&logits), &wanted);
                assert!(off < 1e-4, "{}: {} is off by {off}", case["config"], function.name());
            }
        }
    }
}
