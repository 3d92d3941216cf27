//! A small twin of a checkpoint: the same files, keys and names of tensors, with narrower and fewer
//! layers and random weights, so that what a checkpoint asks for can be tried and passed on without
//! its weights.
//!
//! Must not know: which architectures there are, what a key does beyond being a size.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::{FILE_BYTES_MAX, SynthError, Tensor, make_empty, read_json, write_file, write_json};

/// Keys of configuration files that hold widths: all are divided by the same number.
const WIDTHS: [&str; 20] = [
    "hidden_size",
    "dim",
    "hidden_dim",
    "n_embd",
    "n_inner",
    "d_model",
    "intermediate_size",
    "head_dim",
    "attention_head_size",
    "pooler_hidden_size",
    "embedding_size",
    "query_pre_attn_scalar",
    "hidden_size_per_layer_input",
    "projection_dim",
    "embedding_dim",
    "word_embedding_dimension",
    "in_features",
    "out_features",
    "dimension",
    "truncate_dim",
];
/// Keys that hold the number of layers.
const LAYERS: [&str; 3] = ["num_hidden_layers", "n_layers", "n_layer"];
/// Most layers of a twin: one more than the longest period of layer types (Gemma 3).
const LAYERS_MAX: u64 = 7;
/// Smallest size of a head.
const HEAD_MIN: u64 = 8;
/// Largest number that widths are divided by.
const DIVISOR_MAX: u64 = 32;
/// Ends of names of files that are copied or rewritten; all others are weights or documentation.
const COPIED: [&str; 4] = [".json", ".txt", ".jinja", ".model"];
/// Parts of names of tensors whose first dimension counts something other than components.
const COUNTED: [&str; 7] = [
    "word_embeddings",
    "position_embeddings",
    "token_type_embeddings",
    "embed_tokens",
    "rel_embeddings",
    "router",
    "relative_attention_bias",
];

/// Parts of names of tensors with a row for each label.
const HEADS: [&str; 4] = ["classifier", "score", "out_proj", "linear"];
/// Most elements of a twin.
const ELEMENTS_MAX: usize = 4 << 30;

/// How much smaller a twin is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reduction {
    /// What widths are divided by.
    divisor: u64,
    /// Layers of the original, and of the twin.
    layers: u64,
    kept_layers: u64,
    vocabulary: u64,
    labels: u64,
}

impl Reduction {
    /// The largest that leaves heads of at least [`HEAD_MIN`].
    ///
    /// `others` are the configuration files of modules.
    fn of(config: &Value, others: &[Value]) -> Result<Self, String> {
        if config["vision_config"].is_object() || config["audio_config"].is_object() {
            return Err("models with images or sound have no twins".into());
        }
        // Models that could have images describe their texts' network apart.
        let config = config.get("text_config").filter(|text| text.is_object()).unwrap_or(config);
        let number = |keys: &[&str]| keys.iter().find_map(|key| config[*key].as_u64());
        let width = number(&["hidden_size", "dim", "n_embd"]);
        let width = width.ok_or("config.json names no width (hidden_size, dim or n_embd)")?;
        let heads = number(&["num_attention_heads", "n_heads", "n_head"]).unwrap_or(1).max(1);
        let head = config["head_dim"].as_u64().unwrap_or(width / heads);
        let layers = number(&LAYERS).ok_or("config.json names no number of layers")?;
        let mut widths = Vec::new();
        collect_widths(config, &mut widths);
        others.iter().for_each(|other| collect_widths(other, &mut widths));
        let fits = |divisor: u64| {
            let each = |width: &u64| width.is_multiple_of(divisor);
            head / divisor >= HEAD_MIN && head.is_multiple_of(divisor) && widths.iter().all(each)
        };
        let powers = std::iter::successors(Some(DIVISOR_MAX), |divisor| Some(divisor / 2));
        let divisor = powers.take_while(|divisor| *divisor > 0).find(|divisor| fits(*divisor));
        let labels = config["id2label"].as_object().map_or(0, |labels| labels.len() as u64);
        Ok(Self {
            divisor: divisor.unwrap_or(1),
            layers,
            kept_layers: layers.min(LAYERS_MAX),
            vocabulary: config["vocab_size"].as_u64().unwrap_or(0),
            labels: config["num_labels"].as_u64().unwrap_or(labels),
        })
    }

    /// The shape of a tensor in the twin; `None` if it belongs to a layer that is left out.
    fn shape(&self, name: &str, shape: &[u64]) -> Option<Vec<usize>> {
        let parts: Vec<&str> = name.split('.').collect();
        let layer = parts.windows(2).find_map(|pair| match pair[0] {
            "layers" | "layer" | "h" => pair[1].parse::<u64>().ok(),
            _ => None,
        });
        if layer.is_some_and(|layer| layer >= self.kept_layers) {
            return None;
        }
        let counted = COUNTED.iter().any(|part| name.contains(part));
        let matrix = shape.len() > 1;
        let heads = HEADS.iter().any(|part| name.contains(part));
        let sizes = shape.iter().enumerate().map(|(axis, size)| {
            let keeps = *size == self.vocabulary
                || (axis == 0 && counted && matrix)
                || name.contains("relative_attention_bias")
                || (axis == 0 && *size == self.labels && heads)
                || !size.is_multiple_of(self.divisor);
            (if keeps { *size } else { size / self.divisor }) as usize
        });
        Some(sizes.collect())
    }

    /// A configuration file's content in the twin.
    fn config(&self, content: &mut Value) {
        match content {
            Value::Object(keys) => {
                for (key, value) in keys {
                    match (value.as_u64(), &mut *value) {
                        (Some(width), value) if WIDTHS.contains(&key.as_str()) => {
                            *value = (width / self.divisor).into();
                        }
                        (Some(_), value) if LAYERS.contains(&key.as_str()) => {
                            *value = self.kept_layers.into();
                        }
                        // One entry for each layer.
                        (_, Value::Array(list)) if list.len() as u64 == self.layers => {
                            list.truncate(self.kept_layers as usize);
                        }
                        (_, value) => self.config(value),
                    }
                }
            }
            Value::Array(list) => list.iter_mut().for_each(|value| self.config(value)),
            _ => {}
        }
    }
}

fn collect_widths(content: &Value, widths: &mut Vec<u64>) {
    match content {
        Value::Object(keys) => {
            for (key, value) in keys {
                match value.as_u64() {
                    Some(width) if WIDTHS.contains(&key.as_str()) => widths.push(width),
                    _ => collect_widths(value, widths),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| collect_widths(value, widths)),
        _ => {}
    }
}

/// Writes the twin of the checkpoint in `from` into `to`, which is created and must be empty.
///
/// # Errors
/// A checkpoint without `config.json` or safetensors in its folder, one with images or sound, a
/// folder that is not empty, or a failed read or write.
pub fn twin(from: &Path, to: &Path, seed: u64) -> Result<(), SynthError> {
    let path = from.join("config.json");
    if !path.exists() {
        let problem = "there is none in this folder: tables of vectors, and networks in a folder of \
                       their own, have no twins";
        return Err(SynthError::new(&path, problem));
    }
    let config = read_json(&path)?;
    let reduction = Reduction::of(&config, &module_configs(from)?)
        .map_err(|problem| SynthError::new(&path, problem))?;
    make_empty(to)?;
    let real = |path: &Path| {
        path.canonicalize().map_err(|problem| SynthError::new(path, problem.to_string()))
    };
    if real(to)?.starts_with(real(from)?) {
        return Err(SynthError::new(to, "it is inside the checkpoint; name another folder"));
    }
    copy_folder(from, to, &reduction, seed, 0)
}

/// The configuration files of a checkpoint's modules.
fn module_configs(from: &Path) -> Result<Vec<Value>, SynthError> {
    let failed = |problem: std::io::Error| SynthError::new(from, problem.to_string());
    let mut paths = vec![from.join("config_sentence_transformers.json")];
    for entry in fs::read_dir(from).map_err(failed)? {
        paths.push(entry.map_err(failed)?.path().join("config.json"));
    }
    paths.iter().filter(|path| path.is_file()).map(|path| read_json(path)).collect()
}

/// Copies a folder's files and its folders, two levels deep as modules are.
fn copy_folder(
    from: &Path,
    to: &Path,
    reduction: &Reduction,
    seed: u64,
    depth: usize,
) -> Result<(), SynthError> {
    let failed = |problem: std::io::Error| SynthError::new(from, problem.to_string());
    let mut tensors = BTreeMap::new();
    for entry in fs::read_dir(from).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let target = to.join(&name);
        // An index of shards is not needed: the twin has one file.
        if name.starts_with('.') || name == "model.safetensors.index.json" {
            continue;
        }
        if path.is_dir() {
            if depth < 2 && path.join("config.json").exists() {
                copy_folder(&path, &target, reduction, seed, depth + 1)?;
            }
        } else if !path.is_file() {
            // A pipe or a device would be read for ever.
        } else if name.starts_with("model") && name.ends_with(".safetensors") {
            tensors.extend(header(&path)?);
        } else if COPIED.iter().any(|end| name.ends_with(end)) {
            copy_file(&path, &target, reduction)?;
        }
    }
    if tensors.is_empty() && depth > 0 {
        return Ok(());
    }
    if tensors.is_empty() {
        return Err(SynthError::new(from, "there is no model.safetensors"));
    }
    let twins = tensors.into_iter().filter_map(|(name, shape)| {
        let shape = reduction.shape(&name, &shape)?;
        let scale = spread(&name, &shape);
        Some(Tensor { name, shape, scale })
    });
    let twins: Vec<Tensor> = twins.collect();
    let elements = twins.iter().try_fold(0usize, |sum, tensor| {
        let product = |product: usize, size: &usize| product.checked_mul(*size);
        sum.checked_add(tensor.shape.iter().try_fold(1, product)?)
    });
    if elements.is_none_or(|elements| elements > ELEMENTS_MAX) {
        return Err(SynthError::new(from, "its twin would be too large"));
    }
    write_file(&to.join("model.safetensors"), &twins, 4, seed)
}

/// Copies a file; the sizes in a `config.json` and its like are those of the twin.
fn copy_file(from: &Path, to: &Path, reduction: &Reduction) -> Result<(), SynthError> {
    let failed = |problem: std::io::Error| SynthError::new(from, problem.to_string());
    let name = from.file_name().unwrap_or_default().to_string_lossy();
    if fs::metadata(from).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Ok(());
    }
    if name != "config.json" && name != "config_sentence_transformers.json" {
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        return fs::copy(from, to).map(drop).map_err(failed);
    }
    let mut content = read_json(from)?;
    reduction.config(&mut content);
    write_json(to, &content)
}

/// Names and shapes of a safetensors file's tensors.
fn header(path: &Path) -> Result<Vec<(String, Vec<u64>)>, SynthError> {
    use std::io::Read as _;
    /// Largest header that is read.
    const HEADER_BYTES_MAX: u64 = 100 << 20;
    let failed = |problem: String| SynthError::new(path, problem);
    let mut file = fs::File::open(path).map_err(|problem| failed(problem.to_string()))?;
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(|problem| failed(problem.to_string()))?;
    let length = u64::from_le_bytes(length);
    if length > HEADER_BYTES_MAX {
        return Err(failed("its header is too large".into()));
    }
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes).map_err(|problem| failed(problem.to_string()))?;
    let content: BTreeMap<String, Value> =
        serde_json::from_slice(&bytes).map_err(|problem| failed(problem.to_string()))?;
    let tensors = content.into_iter().filter(|(name, _)| name != "__metadata__");
    let tensors = tensors.map(|(name, entry)| {
        let shape = entry["shape"].as_array().into_iter().flatten();
        (name, shape.filter_map(Value::as_u64).collect())
    });
    Ok(tensors.collect())
}

/// Mean and standard deviation of a tensor's values, by its name and shape, such that every part of
/// the network matters.
fn spread(name: &str, shape: &[usize]) -> (f32, f32) {
    let lower = name.to_lowercase();
    match shape {
        [_] if lower.contains("norm") && lower.ends_with("weight") => (1.0, 0.15),
        [_] | [] => (0.0, 0.05),
        _ if lower.contains("embed") => (0.0, 0.5),
        [.., inputs] => (0.0, 1.2 / (*inputs as f32).sqrt()),
    }
}
