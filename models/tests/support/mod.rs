//! Shared by the tests of this crate: downloaded files, golden answers, synthetic checkpoints.

use std::path::{Path, PathBuf};

use proxima_models::{Checkpoint, DeviceChoice, LoadOptions, Model, Precision};
use proxima_synth::{SynthOptions, write};
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
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    let text = std::fs::read_to_string(path.join(format!("{name}.json"))).expect("a golden file");
    let golden: Value = serde_json::from_str(&text).expect("JSON");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let tokenizer = golden["tokenizer"].as_str().map(asset);
    let seed = golden["seed"].as_u64().expect("a seed");
    let synth = golden["synth"].as_str().expect("a name");
    write(synth, folder.path(), &SynthOptions { seed, tokenizer }).expect("written");
    let checkpoint = Checkpoint::open(folder.path()).expect("opened");
    let options = LoadOptions { device: device(), ..options.clone() };
    let model = Model::load(&checkpoint, &options).expect("loaded");
    (model, golden["cases"].as_array().expect("cases").clone())
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
