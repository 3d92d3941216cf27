//! Tensors of safetensors files, one file or shards with an index, memory-mapped.
//!
//! Must not know: what the tensors are for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proxima_kernels::DType;
use proxima_kernels::stored::{MappedFile, StoredTensor, read_pickle};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use super::CheckpointError;
use super::files::{
    self, INDEX_BYTES_MAX, PICKLE_BYTES_MAX, WEIGHTS_BYTES_MAX, check_fetched, is_there,
};
use crate::progress::Progress;

/// The file name of weights pickled by PyTorch.
pub const PICKLE: &str = "pytorch_model.bin";

/// The first bytes of a zip archive, the format of PyTorch's files since 1.6.
const ZIP: &[u8] = b"PK\x03\x04";

/// Tensors by name.
#[derive(Debug, Default)]
pub struct Weights {
    source: PathBuf,
    tensors: BTreeMap<String, TensorEntry>,
    files: Vec<Arc<MappedFile>>,
    progress: Arc<Progress>,
}

#[derive(Debug)]
struct TensorEntry {
    path: PathBuf,
    tensor: Result<StoredTensor, String>,
    /// Whether it was requested.
    used: AtomicBool,
}

impl TensorEntry {
    fn new(path: &Path, tensor: Result<StoredTensor, String>) -> Self {
        Self { path: path.to_owned(), tensor, used: AtomicBool::new(false) }
    }
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Weights {
    /// Maps `model.safetensors`, or the shards of `model.safetensors.index.json`.
    ///
    /// # Errors
    /// A missing, truncated or damaged file.
    pub fn open(dir: &Path) -> Result<Self, CheckpointError> {
        let (single, index) =
            (dir.join("model.safetensors"), dir.join("model.safetensors.index.json"));
        if is_there(&single) {
            let mut weights = Self { source: single.clone(), ..Self::default() };
            weights.add_file(&single)?;
            weights.progress.set(0, weights.tensors.len() as u64);
            return Ok(weights);
        }
        if !is_there(&index) {
            let problem = "neither model.safetensors nor model.safetensors.index.json is there; \
                           weights in other formats must be converted to safetensors";
            return Err(CheckpointError::new(dir, problem));
        }
        let map: Index = files::parse(&index, &files::read(&index, INDEX_BYTES_MAX)?)?;
        let mut weights = Self { source: index.clone(), ..Self::default() };
        for shard in map.weight_map.values().collect::<BTreeSet<_>>() {
            if Path::new(shard).components().count() != 1 || shard.contains("..") {
                let problem = format!("{shard:?} is not the name of a file next to it");
                return Err(CheckpointError::new(index, problem));
            }
            weights.add_file(&dir.join(shard))?;
        }
        weights.progress.set(0, weights.tensors.len() as u64);
        match map.weight_map.keys().find(|name| !weights.tensors.contains_key(*name)) {
            Some(name) => {
                Err(CheckpointError::new(index, format!("no shard has its tensor {name}")))
            }
            None => Ok(weights),
        }
    }

    /// The tensors of a module after the transformer; in older checkpoints they are pickled by
    /// PyTorch.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn of_module(dir: &Path) -> Result<Self, CheckpointError> {
        let pickled = dir.join(PICKLE);
        match !is_there(&dir.join("model.safetensors")) && is_there(&pickled) {
            true => Self::of_file(&pickled),
            false => Self::open(dir),
        }
    }

    /// The tensors of one file: safetensors, or pickled by PyTorch.
    ///
    /// # Errors
    /// A damaged file.
    pub fn of_file(path: &Path) -> Result<Self, CheckpointError> {
        let mut weights = Self { source: path.to_owned(), ..Self::default() };
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            weights.add_file(path)?;
            return Ok(weights);
        }
        // `read_pickle` opens the file by name again; pipes and devices are refused here.
        let file = files::open(path, PICKLE_BYTES_MAX)?;
        let content = MappedFile::of(&file);
        let content = content.as_deref().unwrap_or_default();
        check_fetched(path, content)?;
        if !content.starts_with(ZIP) {
            let problem = "it is not a zip archive; PyTorch before 1.6 wrote another format: load \
                           it with torch.load and save it with safetensors.torch.save_file";
            return Err(CheckpointError::new(path, problem));
        }
        let tensors = read_pickle(path).map_err(|problem| {
            CheckpointError::new(path, format!("not a PyTorch checkpoint: {problem}"))
        })?;
        for (name, tensor) in tensors {
            weights.tensors.insert(name, TensorEntry::new(path, Ok(tensor)));
        }
        Ok(weights)
    }

    fn add_file(&mut self, path: &Path) -> Result<(), CheckpointError> {
        let error = |problem: String| CheckpointError::new(path, problem);
        let file = files::open(path, WEIGHTS_BYTES_MAX)?;
        let file = MappedFile::of(&file)
            .map_err(|problem| error(format!("the file cannot be mapped: {problem}")))?;
        check_fetched(path, &file)?;
        let file = Arc::new(file);
        let (header, metadata) = SafeTensors::read_metadata(&file).map_err(|problem| {
            error(format!("not a complete safetensors file ({problem:?}); download it again"))
        })?;
        let data = 8 + header;
        let length = metadata.tensors().values().map(|info| info.data_offsets.1).max().unwrap_or(0);
        if file.len() < data + length {
            let missing = data + length - file.len();
            return Err(error(format!(
                "{missing} bytes are missing at its end; download it again"
            )));
        }
        for (name, info) in metadata.tensors() {
            let range = data + info.data_offsets.0..data + info.data_offsets.1;
            let tensor = match info.dtype {
                Dtype::F32 => Ok(DType::F32),
                Dtype::BF16 => Ok(DType::BF16),
                Dtype::F16 => Ok(DType::F16),
                other => Err(format!("{other:?} tensors are not supported")),
            };
            let tensor = tensor.and_then(|dtype| {
                StoredTensor::new(file.clone(), range, dtype, info.shape.clone())
            });
            self.tensors.insert(name.clone(), TensorEntry::new(path, tensor));
        }
        self.files.push(file);
        Ok(())
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Number of rows of a matrix, if it exists.
    pub fn rows(&self, name: &str) -> Option<usize> {
        self.tensors.get(name)?.tensor.as_ref().ok()?.shape().first().copied()
    }

    /// The shape of a tensor, if it exists.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        Some(self.tensors.get(name)?.tensor.as_ref().ok()?.shape().to_vec())
    }

    /// The only one of these prefixes under which `name` exists.
    ///
    /// # Errors
    /// If it exists under none, or under several: it is unclear which is meant.
    pub fn prefix<'a>(&self, prefixes: &[&'a str], name: &str) -> Result<&'a str, CheckpointError> {
        let mut found = prefixes.iter().filter(|prefix| self.contains(&format!("{prefix}{name}")));
        match (found.next(), found.next()) {
            (Some(prefix), None) => Ok(prefix),
            (None, _) => Err(self.missing(name)),
            (Some(one), Some(other)) => Err(CheckpointError::new(
                &self.source,
                format!(
                    "there are tensors {one}{name} and {other}{name}; remove those of the network \
                     that should not be used"
                ),
            )),
        }
    }

    /// A tensor of this shape.
    ///
    /// # Errors
    /// If it is missing, has another shape, or has a dtype that is not served.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<StoredTensor, CheckpointError> {
        let entry = self.tensors.get(name).ok_or_else(|| self.missing(name))?;
        entry.used.store(true, Ordering::Relaxed);
        let error = |problem: String| CheckpointError::new(&entry.path, problem);
        let tensor = entry.tensor.as_ref().map_err(|why| error(format!("tensor {name}: {why}")))?;
        if tensor.shape() != shape {
            let found = tensor.shape();
            return Err(error(format!(
                "tensor {name} has shape {found:?} where config.json asks for {shape:?}"
            )));
        }
        self.progress.add(1);
        Ok(tensor.clone())
    }

    /// Loading progress: the number of tensors requested, out of all.
    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// The dtype of most elements, among those that are served.
    pub fn main_dtype(&self) -> Option<DType> {
        let mut counts: Vec<(DType, usize)> = Vec::new();
        for tensor in self.tensors.values().filter_map(|entry| entry.tensor.as_ref().ok()) {
            let count: usize = tensor.shape().iter().product();
            match counts.iter_mut().find(|(dtype, _)| *dtype == tensor.dtype()) {
                Some((_, total)) => *total += count,
                None => counts.push((tensor.dtype(), count)),
            }
        }
        counts.into_iter().max_by_key(|(_, total)| *total).map(|(dtype, _)| dtype)
    }

    /// Elements of all matrices except embedding tables and vocabulary heads, which stay in the
    /// file.
    pub fn packed_elements(&self) -> u64 {
        let stays = ["embed", "lm_head", "predictions"];
        let matrices =
            self.tensors.iter().filter(|(name, _)| !stays.iter().any(|part| name.contains(part)));
        let shapes = matrices.filter_map(|(_, entry)| Some(entry.tensor.as_ref().ok()?.shape()));
        let matrices = shapes.filter(|shape| shape.len() > 1);
        matrices.map(|shape| shape.iter().map(|side| *side as u64).product::<u64>()).sum()
    }

    /// Names of all tensors, each with whether it was requested.
    pub fn names(&self) -> impl Iterator<Item = (&str, bool)> {
        self.tensors.iter().map(|(name, entry)| (name.as_str(), entry.used.load(Ordering::Relaxed)))
    }

    fn missing(&self, name: &str) -> CheckpointError {
        CheckpointError::new(&self.source, format!("tensor {name} is missing"))
    }

    /// Lets the system drop the pages read while packing.
    pub fn release_pages(&self) {
        self.files.iter().for_each(|file| file.release_pages());
    }
}
