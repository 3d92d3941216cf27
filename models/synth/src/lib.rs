//! Seeded random checkpoints of published configurations, in the published layout, for tests and
//! benchmarks where the published weights are not available.
//!
//! The weight scales make every part of the network matter: with small weights everywhere, a
//! transformer is almost the identity, and broken attention would go unnoticed.
//!
//! Must not know: the network, the clock.

#![forbid(unsafe_code)]

mod configs;
mod random;
mod tokenizer;
mod twin;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use half::bf16;
use serde_json::{Value, json};

use thiserror::Error;

pub use twin::twin;

use configs::{NetworkKind, Published};
use random::Random;

/// Largest file that is read or copied as a whole.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// The checkpoint names that [`write()`] accepts, in the order shown to users.
pub fn names() -> Vec<&'static str> {
    configs::all().iter().map(|published| published.name).collect()
}

/// Why a checkpoint cannot be written.
#[derive(Debug, Error)]
#[error("{}: {problem}", path.display())]
pub struct SynthError {
    path: PathBuf,
    problem: String,
}

impl SynthError {
    fn new(path: &Path, problem: impl Into<String>) -> Self {
        Self { path: path.to_owned(), problem: problem.into() }
    }
}

/// How to make a random checkpoint.
#[derive(Debug, Clone)]
pub struct SynthOptions {
    /// Same seed, same bytes.
    pub seed: u64,
    /// A `tokenizer.json` (or a folder with one) to copy; `None` generates a byte-level tokenizer
    /// (Qwen3) or a small WordPiece one (BERT).
    pub tokenizer: Option<PathBuf>,
}

/// Writes the checkpoint `name` into `dir`, which is created if needed and must be empty.
///
/// # Errors
/// An unknown name, a tokenizer that cannot be read, a folder that is not empty, or a failed write.
pub fn write(name: &str, dir: &Path, options: &SynthOptions) -> Result<(), SynthError> {
    let error = |problem: String| SynthError::new(dir, problem);
    let published = configs::all().into_iter().find(|published| published.name == name);
    let published = published
        .ok_or_else(|| error(format!("{name:?} is unknown; known are {}", names().join(", "))))?;
    make_empty(dir)?;
    let vocabulary = tokenizer::write(&published, dir, options.tokenizer.as_deref())?;
    let vocabulary =
        published.vocabulary.unwrap_or(vocabulary.next_multiple_of(64)).max(vocabulary);
    for (file, content) in published.files(vocabulary) {
        write_json(&dir.join(file), &content)?;
    }
    if let Some(tensors) = published.dense_tensors() {
        write_file(&dir.join("2_Dense/model.safetensors"), &tensors, 4, options.seed)?;
    }
    write_weights(&published, vocabulary, dir, options.seed)
}

/// Makes a folder, which must be empty if it is there.
fn make_empty(dir: &Path) -> Result<(), SynthError> {
    let error = |problem: String| SynthError::new(dir, problem);
    fs::create_dir_all(dir).map_err(|problem| error(format!("cannot be made: {problem}")))?;
    let mut entries = fs::read_dir(dir).map_err(|problem| error(problem.to_string()))?;
    match entries.next() {
        None => Ok(()),
        Some(_) => Err(error("the folder is not empty; name another or empty it".into())),
    }
}

/// Reads a JSON file of at most [`FILE_BYTES_MAX`].
fn read_json(path: &Path) -> Result<Value, SynthError> {
    let unread =
        |problem: std::io::Error| SynthError::new(path, format!("cannot be read: {problem}"));
    let file = fs::metadata(path).map_err(unread)?;
    if !file.is_file() || file.len() > FILE_BYTES_MAX {
        return Err(SynthError::new(path, "it is no file, or too large"));
    }
    let bytes = fs::read(path).map_err(unread)?;
    serde_json::from_slice(&bytes).map_err(|problem| SynthError::new(path, problem.to_string()))
}

fn write_file(path: &Path, tensors: &[Tensor], size: usize, seed: u64) -> Result<(), SynthError> {
    write_shard(path, tensors, size, seed)
        .map_err(|problem| SynthError::new(path, format!("cannot be written: {problem}")))
}

/// Writes a JSON file, creating its folder if needed.
fn write_json(path: &Path, content: &Value) -> Result<(), SynthError> {
    let write = || -> std::io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, format!("{content:#}\n"))
    };
    write().map_err(|problem| SynthError::new(path, format!("cannot be written: {problem}")))
}

/// A tensor to be written.
struct Tensor {
    name: String,
    shape: Vec<usize>,
    /// Mean and standard deviation of its values.
    scale: (f32, f32),
}

impl Tensor {
    fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

fn write_weights(
    published: &Published,
    vocabulary: usize,
    dir: &Path,
    seed: u64,
) -> Result<(), SynthError> {
    let size = if published.kind == NetworkKind::Bert { 4 } else { 2 };
    let mut shards: Vec<Vec<Tensor>> = vec![Vec::new()];
    let mut bytes = 0;
    for tensor in published.tensors(vocabulary) {
        let more = tensor.elements() * size;
        if bytes > 0 && bytes + more > published.shard_bytes_max {
            shards.push(Vec::new());
            bytes = 0;
        }
        bytes += more;
        shards.last_mut().expect("there is always one").push(tensor);
    }
    let count = shards.len();
    let mut map = serde_json::Map::new();
    for (index, tensors) in shards.iter().enumerate() {
        let name = match count {
            1 => "model.safetensors".to_owned(),
            _ => format!("model-{:05}-of-{count:05}.safetensors", index + 1),
        };
        map.extend(tensors.iter().map(|tensor| (tensor.name.clone(), json!(name))));
        write_file(&dir.join(name), tensors, size, seed)?;
    }
    if count > 1 {
        let total: usize = shards.iter().flatten().map(|tensor| tensor.elements() * size).sum();
        let index = json!({ "metadata": { "total_size": total }, "weight_map": map });
        write_json(&dir.join("model.safetensors.index.json"), &index)?;
    }
    Ok(())
}

/// Writes a safetensors file: the header's length, the header, the data.
fn write_shard(path: &Path, tensors: &[Tensor], size: usize, seed: u64) -> std::io::Result<()> {
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), json!({ "format": "pt" }));
    let mut offset = 0;
    for tensor in tensors {
        let end = offset + tensor.elements() * size;
        let dtype = if size == 4 { "F32" } else { "BF16" };
        let entry = json!({ "dtype": dtype, "shape": tensor.shape, "data_offsets": [offset, end] });
        header.insert(tensor.name.clone(), entry);
        offset = end;
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    for tensor in tensors {
        let (mean, deviation) = tensor.scale;
        let mut random = Random::new(seed, &tensor.name);
        for _ in 0..tensor.elements() {
            let value = mean + deviation * random.normal();
            if size == 4 {
                file.write_all(&value.to_le_bytes())?;
            } else {
                file.write_all(&bf16::from_f32(value).to_le_bytes())?;
            }
        }
    }
    file.into_inner().map_err(|error| error.into_error())?.sync_all()
}

#[cfg(test)]
mod tests;
