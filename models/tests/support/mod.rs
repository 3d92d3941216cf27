//! Shared by the tests of this crate: downloaded files, golden answers, synthetic checkpoints.

use std::fs;
use std::path::{Path, PathBuf};

use proxima_models::readout::Pooling;
use proxima_models::{
    Checkpoint, DeviceChoice, Input, LoadOptions, Model, Precision, Prepare, Prompt, RaggedBatch,
    Sequence, Task,
};
use proxima_synth::SynthOptions;
use serde_json::{Value, json};

/// A file that scripts/fetch.py downloads.
pub fn asset(name: &str) -> PathBuf {
    let cache = std::env::var_os("PROXIMA_CACHE").map(PathBuf::from).unwrap_or_else(|| {
        let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = || PathBuf::from(std::env::var_os("HOME").expect("a home folder"));
        base.unwrap_or_else(|| home().join(".cache")).join("proxima")
    });
    let folder = match name {
        "all-MiniLM-L6-v2" => "models/all-MiniLM-L6-v2",
        "splade-bert-tiny" => "models/splade-bert-tiny",
        "qwen3-tokenizer" => "tokenizers/qwen3",
        other => panic!("unknown asset {other}"),
    };
    let path = cache.join(folder);
    assert!(path.exists(), "{} is missing: run `make assets`", path.display());
    path
}

/// The folder of golden files, seen from whichever package includes this module.
#[allow(dead_code, reason = "not every test uses it")]
pub fn golden() -> PathBuf {
    let mut above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let found = above.find_map(|folder| {
        let golden = folder.join("tests/golden");
        golden.is_dir().then_some(golden)
    });
    found.expect("a folder of golden files")
}

/// The device that models run on: with `PROXIMA_TEST_DEVICE=cuda` the same tests run on a GPU.
#[allow(dead_code, reason = "not every test uses it")]
pub fn device() -> DeviceChoice {
    let name = std::env::var("PROXIMA_TEST_DEVICE").unwrap_or_else(|_| "cpu".into());
    name.parse().expect("a device")
}

/// Whether the device supports this precision: int8 is for the CPU only.
#[allow(dead_code, reason = "not every test uses it")]
pub fn serves(precision: Precision) -> bool {
    precision != Precision::Int8 || device() == DeviceChoice::Cpu
}

/// A golden file's cases and its synthetic model.
#[allow(dead_code, reason = "not every test uses it")]
pub fn golden_model(name: &str) -> (Model, Vec<Value>) {
    golden_model_in(name, Precision::Float32)
}

/// As [`golden_model`], in another precision.
#[allow(dead_code, reason = "not every test uses it")]
pub fn golden_model_in(name: &str, precision: Precision) -> (Model, Vec<Value>) {
    golden_model_with(name, &LoadOptions { precision: Some(precision), ..LoadOptions::default() })
}

/// As [`golden_model`], with these options.
#[allow(dead_code, reason = "not every test uses it")]
pub fn golden_model_with(name: &str, options: &LoadOptions) -> (Model, Vec<Value>) {
    let path = golden().join(format!("{name}.json"));
    let text = fs::read_to_string(path).expect("a golden file");
    let golden: Value = serde_json::from_str(&text).expect("JSON");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let tokenizer = golden["tokenizer"].as_str().map(asset);
    let seed = golden["seed"].as_u64().expect("a seed");
    let synth = golden["synth"].as_str().expect("a name");
    proxima_synth::write(synth, folder.path(), &SynthOptions { seed, tokenizer }).expect("written");
    let checkpoint = Checkpoint::open(folder.path()).expect("opened");
    let options = LoadOptions { device: device(), ..options.clone() };
    let model = Model::load(&checkpoint, &options).expect("loaded");
    (model, golden["cases"].as_array().expect("cases").clone())
}

/// The networks of `families.json`.
#[allow(dead_code, reason = "not every test uses it")]
pub fn networks() -> Vec<Value> {
    let text = fs::read_to_string(golden().join("families.json")).expect("a golden file");
    let mut content: Value = serde_json::from_str(&text).expect("JSON");
    match content["networks"].take() {
        Value::Array(networks) => networks,
        other => panic!("{other} is no list"),
    }
}

/// Writes a network of `families.json` as a checkpoint.
#[allow(dead_code, reason = "not every test uses it")]
pub fn write(network: &Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let tokenizer = network["tokenizer"].as_str().expect("a name");
    let from = golden().join("scores").join(tokenizer);
    fs::copy(from.join("tokenizer.json"), folder.path().join("tokenizer.json")).expect("copied");
    let settings = fs::read_to_string(from.join("tokenizer_config.json")).expect("a file");
    let mut settings: Value = serde_json::from_str(&settings).expect("JSON");
    settings["model_max_length"] = 4096.into();
    let path = folder.path().join("tokenizer_config.json");
    fs::write(path, settings.to_string()).expect("written");
    if network["config"].is_object() {
        let path = folder.path().join("config.json");
        fs::write(path, network["config"].to_string()).expect("written");
    }
    for (path, content) in network["files"].as_object().into_iter().flatten() {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        let content = content.as_str().map_or_else(|| content.to_string(), str::to_owned);
        fs::write(path, content).expect("written");
    }
    let weights = safetensors(&network["tensors"]);
    fs::write(folder.path().join("model.safetensors"), weights).expect("written");
    folder
}

/// The class of transformers that computes a network.
#[allow(dead_code, reason = "not every test uses it")]
pub fn architecture(network: &Value) -> &str {
    network["config"]["architectures"][0].as_str().unwrap_or_default()
}

/// A network of `families.json` with the readouts that its class has, or this pooling.
#[allow(dead_code, reason = "not every test uses it")]
pub fn load(network: &Value, precision: Precision, pooling: Pooling) -> Model {
    load_from(write(network).path(), network, precision, pooling)
}

/// As [`load`], from the folder that it was written to.
#[allow(dead_code, reason = "not every test uses it")]
pub fn load_from(folder: &Path, network: &Value, precision: Precision, pooling: Pooling) -> Model {
    let task = match architecture(network) {
        _ if network["task"] == "rerank" => Task::Rerank,
        name if name.ends_with("SequenceClassification") => Task::Classify,
        name if name.ends_with("MaskedLM") => Task::Sparse,
        _ => Task::Embed,
    };
    let options = LoadOptions {
        task: Some(task),
        precision: Some(precision),
        pooling: (task == Task::Embed && network["files"].is_null()).then_some(pooling),
        device: device(),
        strict_checkpoint: true,
        ..LoadOptions::default()
    };
    let loaded = Model::load(&Checkpoint::open(folder).expect("opened"), &options);
    loaded.unwrap_or_else(|problem| panic!("{}: {problem}", network["name"]))
}

/// The input of a case, prepared; its tokens are those of the reference.
#[allow(dead_code, reason = "not every test uses it")]
pub fn sequence(model: &Model, case: &Value) -> Sequence {
    let input = match &case["text"] {
        Value::String(text) => Input::from(text.as_str()),
        pair => {
            let text = |side: usize| pair[side].as_str().expect("a text").into();
            Input::Pair { query: text(0), document: text(1) }
        }
    };
    let tokens_max = case["limit"].as_u64().map(|limit| limit as usize);
    let prompt = case["prompt"].as_str().map(|text| Prompt::Instruction(text.to_owned()));
    let how = Prepare { tokens_max, prompt: prompt.unwrap_or_default(), ..Prepare::default() };
    let sequence = model.recipe.prepare(&input, &how).expect("prepared");
    let ids = case["ids"].as_array().expect("ids");
    let ids: Vec<u32> = ids.iter().map(|id| id.as_u64().expect("an id") as u32).collect();
    assert_eq!(sequence.tokens, ids, "{}", case["text"]);
    sequence
}

/// What a model gives for each sequence: a vector, logits, or the weights of all words.
#[allow(dead_code, reason = "not every test uses it")]
pub fn answers(model: &Model, sequences: &[Sequence]) -> Vec<Vec<f32>> {
    let hidden = model.encoder.encode(&RaggedBatch::new(sequences)).expect("encoded");
    if let Some(score) = &model.readouts.score {
        return score.logits(&hidden).expect("read out");
    }
    if let Some(sparse) = &model.readouts.sparse {
        let sequences: Vec<&Sequence> = sequences.iter().collect();
        let found = sparse.weights(&hidden, &sequences).expect("read out");
        return found.into_iter().map(|words| dense(&words, model.info.vocabulary)).collect();
    }
    model.readouts.embedding.as_ref().expect("an embedder").embed(&hidden).expect("read out")
}

#[allow(dead_code, reason = "not every test uses it")]
fn dense(words: &[(u32, f32)], vocabulary: usize) -> Vec<f32> {
    let mut all = vec![0.0; vocabulary];
    words.iter().for_each(|(id, weight)| all[*id as usize] = *weight);
    all
}

/// How far float32 results on this machine may be from the reference's, for results whose largest
/// magnitude is `largest`. Errors grow with the values that are added, whose magnitude is that of
/// the result or 1, whichever is larger. A product is exact to 2^-24, or to 2^-16 where tiles
/// multiply float32 as two bfloat16 parts; the layers that follow amplify either error.
#[allow(dead_code, reason = "not every test uses it")]
pub fn float32_error(largest: f32) -> f32 {
    let splits = proxima_kernels::splits_float32();
    let of_one = if splits || device() != DeviceChoice::Cpu { 2e-4 } else { 1e-5 };
    of_one * largest.max(1.0)
}

/// Little-endian float32 values in base64.
#[allow(dead_code, reason = "not every test uses it")]
pub fn floats(text: &str) -> Vec<f32> {
    let bytes = bytes(text);
    let elements = bytes.chunks_exact(4);
    elements.map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four"))).collect()
}

/// Bytes in base64.
#[allow(dead_code, reason = "not every test uses it")]
pub fn bytes(text: &str) -> Vec<u8> {
    let digit = |letter: u8| match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let letters = text.trim_end_matches('=').as_bytes();
    letters
        .chunks(4)
        .flat_map(|four| {
            let bits = four.iter().fold(0u32, |bits, letter| bits << 6 | u32::from(digit(*letter)));
            let bits = bits << (6 * (4 - four.len()));
            bits.to_be_bytes()[1..four.len()].to_vec()
        })
        .collect()
}

/// The values of a tensor, generated as in `make_chains.py`
/// and `make_families.py`.
fn tensor(shape: &[usize], seed: u64, [scale, middle]: [f64; 2]) -> Vec<u8> {
    let value = |index: usize| {
        let mut x = (index as u64 * 2_654_435_761 + seed * 40_503) % (1 << 32);
        x ^= x >> 15;
        x = x * 2_246_822_519 % (1 << 32);
        x ^= x >> 13;
        ((x as f64 / (1u64 << 32) as f64 * 2.0 - 1.0) * scale + middle) as f32
    };
    (0..shape.iter().product()).flat_map(|index| value(index).to_le_bytes()).collect()
}

/// A safetensors file of `name: [shape, seed, scale]`, perhaps with the middle of its values.
#[allow(dead_code, reason = "not every test uses it")]
pub fn safetensors(tensors: &Value) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, how) in tensors.as_object().expect("tensors by name") {
        let shape = how[0].as_array().expect("a shape").iter();
        let shape: Vec<usize> = shape.map(|size| size.as_u64().expect("a size") as usize).collect();
        let spread = [how[2].as_f64().expect("a scale"), how[3].as_f64().unwrap_or(0.0)];
        let bytes = tensor(&shape, how[1].as_u64().expect("a seed"), spread);
        let offsets = [data.len(), data.len() + bytes.len()];
        data.extend(bytes);
        let entry = json!({ "dtype": "F32", "shape": shape, "data_offsets": offsets });
        header.insert(name.clone(), entry);
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
}
