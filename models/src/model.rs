//! A loaded model: network, recipe and readouts, and what it tells of itself.
//!
//! Must not know: requests, wire formats, devices beyond their name.

use std::collections::BTreeMap;

use proxima_kernels::{DType, Device};

use crate::batch::Encoder;
use crate::checkpoint::{Checkpoint, CheckpointError, Weights, read_json_if_there};
use crate::families::{self, Network};
use crate::layers::Loader;
use crate::readout::{Dense, EmbeddingReadout, Pooling};
use crate::recipes::{self, Limits, Recipe};

/// What a loaded model tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// Architecture, as `config.json` calls it (`bert`, `qwen3`).
    pub family: String,
    /// Where it runs (`cpu`).
    pub device: String,
    /// Precision of the weights (`float32`, `bfloat16`, `float16`).
    pub dtype: String,
    /// Instruction set of the kernels (`avx512`, `avx2`, `portable`).
    pub isa: String,
    /// Longest sequence in tokens, special tokens included.
    pub tokens_max: usize,
    /// Tokens in the vocabulary.
    pub vocabulary: usize,
    /// Prompts by name.
    pub prompts: BTreeMap<String, String>,
    /// The prompt used where a request names none.
    pub default_prompt_name: Option<String>,
}

/// What can be read out of a model; an absent capability is an absent value.
#[derive(Debug, Default)]
pub struct Readouts {
    /// One vector a sequence.
    pub embedding: Option<EmbeddingReadout>,
}

/// A loaded model.
pub struct Model {
    /// What it tells of itself.
    pub info: ModelInfo,
    /// Inputs to sequences.
    pub recipe: Box<dyn Recipe>,
    /// Sequences to hidden states.
    pub encoder: Box<dyn Encoder>,
    /// Hidden states to answers.
    pub readouts: Readouts,
}

/// Precision of the linear layers' weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// 32-bit floating point.
    Float32,
    /// bfloat16 weights, float32 activations and sums.
    Bfloat16,
    /// IEEE half weights, float32 activations and sums.
    Float16,
}

/// How to load a checkpoint; the default is as the checkpoint says.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Precision of the weights; `None` keeps the checkpoint's.
    pub dtype: Option<Dtype>,
    /// Pooling; `None` takes the checkpoint's, and refuses one that says nothing.
    pub pooling: Option<Pooling>,
    /// Longest sequence in tokens; `None` takes the checkpoint's own.
    pub tokens_max: Option<usize>,
}

impl Model {
    /// Makes a model of a checkpoint, on the CPU.
    ///
    /// # Errors
    /// An architecture, pooling or activation that is not known, a tensor that is missing or of
    /// the wrong shape, a tokenizer that cannot be read.
    pub fn load(checkpoint: &Checkpoint, options: &LoadOptions) -> Result<Self, CheckpointError> {
        let device = Device::Cpu;
        let family = families::of(checkpoint)?;
        let sentence = checkpoint.sentence_transformers();
        let configured = sentence.and_then(|modules| modules.pooling);
        let asked = options.pooling.or(configured);
        let pooling = asked.or_else(|| (family.pooling)(checkpoint)).ok_or_else(|| {
            CheckpointError::new(
                checkpoint.dir(),
                "no modules.json says how tokens are pooled; choose with --pooling (cls, mean, last_token, ...)",
            )
        })?;
        let dtype = match options.dtype {
            Some(dtype) => dtype,
            None => Dtype::of(checkpoint)?,
        };
        let network = (family.load)(checkpoint, dtype.into(), &device)?;
        let tokens_max = tokens_max(checkpoint, &network, options)?;
        let limits = Limits { tokens_max, vocabulary: network.vocabulary };
        let kind = recipes::all().into_iter().find(|kind| (kind.fits)(checkpoint));
        let kind = kind.ok_or_else(|| {
            CheckpointError::new(checkpoint.dir(), "no recipe fits this checkpoint")
        })?;
        let recipe = (kind.load)(checkpoint, &limits)?;
        let embedding = readout(checkpoint, pooling, network.width, &device)?;
        checkpoint.weights().release_pages();
        let info = ModelInfo {
            family: family.model_type.into(),
            device: "cpu".into(),
            dtype: dtype.name().into(),
            isa: proxima_kernels::cpu::Isa::current().name().into(),
            tokens_max,
            vocabulary: network.vocabulary,
            prompts: sentence.map(|modules| modules.prompts.clone()).unwrap_or_default(),
            default_prompt_name: sentence.and_then(|modules| modules.default_prompt_name.clone()),
        };
        let readouts = Readouts { embedding: Some(embedding) };
        Ok(Self { info, recipe, encoder: network.encoder, readouts })
    }
}

impl Dtype {
    /// Its name in config files and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Bfloat16 => "bfloat16",
            Self::Float16 => "float16",
        }
    }

    /// The precision of most of a checkpoint's numbers.
    fn of(checkpoint: &Checkpoint) -> Result<Self, CheckpointError> {
        match checkpoint.weights().main_dtype() {
            Some(DType::F32) => Ok(Self::Float32),
            Some(DType::BF16) => Ok(Self::Bfloat16),
            Some(DType::F16) => Ok(Self::Float16),
            _ => Err(CheckpointError::new(
                checkpoint.dir(),
                "it has no tensors in F32, BF16 or F16; convert it to one of them",
            )),
        }
    }
}

impl From<Dtype> for DType {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::Float32 => Self::F32,
            Dtype::Bfloat16 => Self::BF16,
            Dtype::Float16 => Self::F16,
        }
    }
}

/// The limit sentence-transformers names, else the tokenizer's, else the network's; never above the
/// network's positions.
fn tokens_max(
    checkpoint: &Checkpoint,
    network: &Network,
    options: &LoadOptions,
) -> Result<usize, CheckpointError> {
    #[derive(serde::Deserialize)]
    struct TokenizerConfig {
        model_max_length: Option<f64>,
    }
    let path = checkpoint.transformer_dir().join("tokenizer_config.json");
    let config: Option<TokenizerConfig> = read_json_if_there(&path)?;
    // Tokenizers without a limit write 1e30.
    let of_tokenizer = config
        .and_then(|config| config.model_max_length)
        .filter(|length| (1.0..1e9).contains(length))
        .map(|length| length as usize);
    let of_modules = checkpoint.sentence_transformers().and_then(|modules| modules.tokens_max);
    let own = of_modules.or(of_tokenizer).unwrap_or(network.positions).min(network.positions);
    match options.tokens_max {
        Some(asked) if asked == 0 || asked > network.positions => Err(CheckpointError::new(
            checkpoint.dir(),
            format!(
                "a limit of {asked} tokens is not within its 1 to {} positions",
                network.positions
            ),
        )),
        Some(asked) => Ok(asked),
        None => Ok(own),
    }
}

fn readout(
    checkpoint: &Checkpoint,
    pooling: Pooling,
    width: usize,
    device: &Device,
) -> Result<EmbeddingReadout, CheckpointError> {
    let mut readout = EmbeddingReadout::new(pooling, width);
    let modules = checkpoint.sentence_transformers();
    for module in modules.map(|modules| &modules.dense[..]).unwrap_or_default() {
        if module.inputs != readout.width() {
            let found = readout.width();
            let problem = format!("it takes {} numbers where {found} come in", module.inputs);
            return Err(CheckpointError::new(&module.dir, problem));
        }
        let weights = Weights::open(&module.dir)?;
        // A projection is small: always in float32.
        let loader = Loader::new(&weights, "", DType::F32, device);
        let linear = loader.linear(&[("linear", module.outputs)], module.inputs, module.bias)?;
        let (activation, width) = (module.activation, module.outputs);
        readout = readout.with_dense(Dense { linear, activation, width });
    }
    Ok(readout)
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model")
            .field("info", &self.info)
            .field("readouts", &self.readouts)
            .finish_non_exhaustive()
    }
}
