//! A loaded model: network, recipe and readouts, and what it tells of itself.
//!
//! Must not know: requests, wire formats, devices beyond their name.

use std::sync::Arc;

use proxima_kernels::ops::linear::Precision;
use proxima_kernels::{BatchRows, DType, Device, DeviceChoice, OpenDevice};

use crate::batch::Encoder;
use crate::checkpoint::{Checkpoint, CheckpointError, LogitScore, Weights, read_json_if_there};
use crate::families::{self, Network};
use crate::info::{Capabilities, ModelInfo};
use crate::layers::Loader;
use crate::media::MediaOptions;
use crate::readout::{
    Dense, EmbeddingReadout, HeadLayer, MultiVectorReadout, Pooling, ScoreReadout, SparseReadout,
};
use crate::recipes::{self, Limits, Recipe};

/// What can be read out of a model; an absent capability is an absent value.
#[derive(Debug, Default)]
pub struct Readouts {
    /// One vector a sequence.
    pub embedding: Option<EmbeddingReadout>,
    /// Logits of a sequence: of a pair, or of a text's classes.
    pub score: Option<ScoreReadout>,
    /// Weights of words.
    pub sparse: Option<SparseReadout>,
    /// One vector a token.
    pub multi: Option<MultiVectorReadout>,
}

/// What a checkpoint is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Text to vector.
    Embed,
    /// Text to vector, and a query with its candidates to a vector that ranks them (E2Rank).
    Listwise,
    /// A chat model that answers whether a document fits a query by yes or no (Qwen3-Reranker).
    YesNo,
    /// A classification head over a pair or a text.
    Score,
    /// Text to weights of words, by the head of a masked language model (SPLADE).
    Sparse,
}

impl Task {
    /// What a checkpoint's files say it is for. Its name is the last hint.
    ///
    /// # Errors
    /// If they leave it open.
    pub fn of(checkpoint: &Checkpoint) -> Result<Self, CheckpointError> {
        let architectures = checkpoint.architectures();
        if architectures.iter().any(|name| name.ends_with("ForSequenceClassification")) {
            return Ok(Self::Score);
        }
        if checkpoint.sentence_transformers().is_some_and(|modules| modules.splade.is_some()) {
            return Ok(Self::Sparse);
        }
        if !matches!(checkpoint.model_type(), "qwen3" | "qwen3_vl") {
            return Ok(Self::Embed);
        }
        if checkpoint.sentence_transformers().is_some_and(|it| it.logit_score.is_some()) {
            return Ok(Self::YesNo);
        }
        if checkpoint.sentence_transformers().is_some_and(|it| it.pooling.is_some()) {
            return Ok(Self::Embed);
        }
        let names = checkpoint.names();
        if names.contains("e2rank") {
            return Ok(Self::Listwise);
        }
        if architectures.iter().all(|name| *name == "Qwen3Model") {
            return Ok(Self::Embed);
        }
        // A causal language model: an embedder and a reranker look alike but for their name.
        match (names.contains("rerank"), names.contains("embed")) {
            (true, _) => Ok(Self::YesNo),
            (false, true) => Ok(Self::Embed),
            (false, false) => Err(checkpoint.config_error(
                "a causal language model whose files do not say what it is for; choose with --task \
                 (embed, rerank or e2rank)",
            )),
        }
    }
}

/// A loaded model.
pub struct Model {
    /// What it tells of itself.
    pub info: ModelInfo,
    /// Inputs to sequences; the same for a model that is on several devices.
    pub recipe: Arc<dyn Recipe>,
    /// Sequences to hidden states.
    pub encoder: Box<dyn Encoder>,
    /// Hidden states to answers.
    pub readouts: Readouts,
    /// Where it computes; dropped last.
    pub device: OpenDevice,
}

/// Precision of the linear layers. Norms, softmax and sums are always float32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// Weights as they are stored, float32 activations. With AMX, which multiplies bfloat16
    /// numbers, weights in float32 or IEEE half are each two of these, as activations then are:
    /// errors of about 2^-16 of the products instead of float32's 2^-24.
    Float32,
    /// bfloat16 weights, and bfloat16 activations where the CPU multiplies such numbers.
    Bfloat16,
    /// IEEE half weights, float32 activations. With AMX as `Float32`, in 4 bytes a weight.
    Float16,
    /// 8-bit weights with a scale an output, 8-bit activations with a scale a token.
    Int8,
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
    /// What it is used for; `None` finds out ([`Task::of`]).
    pub task: Option<Task>,
    /// Where it computes.
    pub device: DeviceChoice,
    /// The part of an NVIDIA GPU's memory that tensors may have; `None` sets no limit.
    pub device_memory: Option<f64>,
    /// How images and videos are read.
    pub media: MediaOptions,
}

impl Model {
    /// Makes a model of a checkpoint.
    ///
    /// # Errors
    /// An architecture, pooling or activation that is not known, a tensor that is missing or of
    /// the wrong shape, a tokenizer that cannot be read, a device that is not there.
    pub fn load(checkpoint: &Checkpoint, options: &LoadOptions) -> Result<Self, CheckpointError> {
        Self::load_with(checkpoint, options, None)
    }

    /// As [`load`](Self::load), with the recipe of the same model that was loaded before: another
    /// device needs no tokenizer of its own.
    ///
    /// # Errors
    /// As of `load`.
    pub fn load_with(
        checkpoint: &Checkpoint,
        options: &LoadOptions,
        recipe: Option<Arc<dyn Recipe>>,
    ) -> Result<Self, CheckpointError> {
        let failed = |error: proxima_kernels::KernelError| {
            CheckpointError::new(checkpoint.dir(), error.to_string())
        };
        let opened = options.device.open(options.device_memory).map_err(failed)?;
        let device = &opened.device;
        let family = families::of(checkpoint)?;
        let task = match (options.task, options.pooling) {
            (Some(task), _) => task,
            // Who chooses a pooling wants vectors.
            (None, Some(_)) => Task::of(checkpoint).unwrap_or(Task::Embed),
            (None, None) => Task::of(checkpoint)?,
        };
        let dtype = options.dtype.map_or_else(|| Dtype::of(checkpoint), Ok)?;
        let network = (family.load)(checkpoint, dtype.into(), device)?;
        let kind = recipes::all().into_iter().find(|kind| (kind.fits)(checkpoint, task));
        let kind = kind.ok_or_else(|| {
            CheckpointError::new(checkpoint.dir(), "no recipe fits this checkpoint and task")
        })?;
        let tokens_max = tokens_max(checkpoint, &network, kind.tokens_max, options)?;
        let limits = Limits { tokens_max, vocabulary: network.vocabulary };
        let recipe = match recipe {
            Some(recipe) => recipe,
            None => Arc::from((kind.load)(checkpoint, &limits, &options.media)?),
        };
        let readouts = {
            let recipe = &*recipe;
            let parts =
                Parts { checkpoint, task, family: &family, network: &network, recipe, device };
            Readouts::load(&parts, options)?
        };
        checkpoint.weights().release_pages();
        let sentence = checkpoint.sentence_transformers();
        let info = ModelInfo {
            family: family.model_type.into(),
            recipe: kind.name.into(),
            device: opened.name.clone(),
            dtype: dtype.name().into(),
            batch_tokens: BatchRows::of(device),
            isa: proxima_kernels::cpu::Isa::current().name().into(),
            tokens_max,
            vocabulary: network.vocabulary,
            prompts: recipe.prompts(),
            special_tokens: recipe.special_tokens(),
            default_prompt_name: sentence.and_then(|modules| modules.default_prompt_name.clone()),
            listwise: task == Task::Listwise,
            media: recipe.takes_media(),
            capabilities: readouts.capabilities(),
        };
        Ok(Self { info, recipe, encoder: network.encoder, readouts, device: opened })
    }

    /// Whether sequences that begin alike may share rows: the network is causal and only read at
    /// last tokens.
    pub fn shares_prefixes(&self) -> bool {
        let last = |pooling: Option<Pooling>| pooling.is_none_or(|it| it == Pooling::Last);
        let embedding = self.readouts.embedding.as_ref().map(EmbeddingReadout::pooling);
        let score = self.readouts.score.as_ref().map(ScoreReadout::pooling);
        let all = self.readouts.sparse.is_none() && self.readouts.multi.is_none();
        self.encoder.is_causal() && all && last(embedding) && last(score)
    }
}

/// What readouts are made of.
struct Parts<'a> {
    checkpoint: &'a Checkpoint,
    task: Task,
    family: &'a families::Family,
    network: &'a Network,
    recipe: &'a dyn Recipe,
    device: &'a Device,
}

impl Readouts {
    /// What they are, without what is on a device.
    pub fn capabilities(&self) -> Capabilities {
        Capabilities {
            embedding: self.embedding.as_ref().map(EmbeddingReadout::width),
            pooling: self.embedding.as_ref().map(EmbeddingReadout::pooling),
            labels: self.score.as_ref().map(|score| score.labels().to_vec()),
            sparse: self.sparse.is_some(),
            multi: self.multi.is_some(),
        }
    }

    fn load(parts: &Parts<'_>, options: &LoadOptions) -> Result<Self, CheckpointError> {
        let &Parts { checkpoint, task, family, network, recipe, device } = parts;
        let classifies =
            checkpoint.architectures().iter().any(|it| it.ends_with("ForSequenceClassification"));
        let score = match task {
            Task::Embed | Task::Listwise | Task::Sparse => None,
            Task::Score | Task::YesNo
                if !classifies
                    && (task == Task::Score
                        || !matches!(checkpoint.model_type(), "qwen3" | "qwen3_vl")) =>
            {
                let problem = "it has no classification head; choose another --task";
                return Err(checkpoint.config_error(problem));
            }
            Task::YesNo if !classifies => Some(yes_or_no(checkpoint, recipe, network, device)?),
            Task::Score | Task::YesNo => Some((family.score)(checkpoint, network.width, device)?),
        };
        let embedding = match task {
            Task::Score | Task::YesNo | Task::Sparse => None,
            Task::Embed | Task::Listwise => {
                let sentence = checkpoint.sentence_transformers();
                let configured = sentence.and_then(|modules| modules.pooling);
                let own = || match task {
                    Task::Listwise => Some(Pooling::Last),
                    _ => (family.pooling)(checkpoint),
                };
                let pooling = options.pooling.or(configured).or_else(own).ok_or_else(|| {
                    CheckpointError::new(
                        checkpoint.dir(),
                        "no modules.json says how tokens are pooled; choose with --pooling (cls, mean, last_token, ...)",
                    )
                })?;
                Some(readout(checkpoint, pooling, network.width, device)?)
            }
        };
        let sparse = match task {
            Task::Sparse => Some(splade(checkpoint, family, network, device)?),
            Task::Embed => lexical(checkpoint, network, device)?,
            _ => None,
        };
        let multi = match task {
            Task::Embed => token_vectors(checkpoint, network, device)?,
            _ => None,
        };
        Ok(Self { embedding, score, sparse, multi })
    }
}

fn splade(
    checkpoint: &Checkpoint,
    family: &families::Family,
    network: &Network,
    device: &Device,
) -> Result<SparseReadout, CheckpointError> {
    let load = family.words.ok_or_else(|| {
        checkpoint.config_error("this architecture has no head over words; choose another --task")
    })?;
    let how = checkpoint.sentence_transformers().and_then(|modules| modules.splade);
    let head = load(checkpoint, network, device)?;
    Ok(SparseReadout::Splade { head, how: how.unwrap_or_default() })
}

/// The layer of bge-m3 that weighs words, if there is one.
fn lexical(
    checkpoint: &Checkpoint,
    network: &Network,
    device: &Device,
) -> Result<Option<SparseReadout>, CheckpointError> {
    let Some(weights) = checkpoint.part("sparse_linear")? else { return Ok(None) };
    let loader = Loader::new(&weights, "", Precision::Float32, device);
    let linear = loader.linear_of(("weight", "bias"), (network.width, 1))?;
    Ok(Some(SparseReadout::Lexical { linear, special: checkpoint.special_ids()? }))
}

/// The projection of bge-m3 to a vector a token, if there is one.
fn token_vectors(
    checkpoint: &Checkpoint,
    network: &Network,
    device: &Device,
) -> Result<Option<MultiVectorReadout>, CheckpointError> {
    let Some(weights) = checkpoint.part("colbert_linear")? else { return Ok(None) };
    let width = weights.rows("weight").unwrap_or(network.width);
    let loader = Loader::new(&weights, "", Precision::Float32, device);
    let linear = loader.linear_of(("weight", "bias"), (network.width, width))?;
    Ok(Some(MultiVectorReadout::new(linear, width)))
}

/// What the name of the embedding table begins with, in one family or another.
const TABLES: [&str; 5] =
    ["", "model.", "model.language_model.", "language_model.model.", "language_model."];
/// The language head, likewise.
const HEADS: [&str; 2] = ["lm_head.weight", "language_model.lm_head.weight"];

/// The two rows of the language head that answer no and yes.
fn yes_or_no(
    checkpoint: &Checkpoint,
    recipe: &dyn Recipe,
    network: &Network,
    device: &Device,
) -> Result<ScoreReadout, CheckpointError> {
    let said = checkpoint.sentence_transformers().and_then(|modules| modules.logit_score);
    let rows = match said {
        Some(LogitScore { true_token_id, false_token_id }) => {
            let rows: Vec<usize> = false_token_id.into_iter().chain([true_token_id]).collect();
            if let Some(row) = rows.iter().find(|row| **row >= network.vocabulary) {
                return Err(
                    checkpoint.config_error(format!("there is no token {row} to answer with"))
                );
            }
            rows
        }
        None => {
            let row = |word: &str| {
                let id = recipe.id(word).map(|id| id as usize);
                id.ok_or_else(|| {
                    let path = checkpoint.transformer_dir().join("tokenizer.json");
                    CheckpointError::new(path, format!("it has no token {word:?} to answer with"))
                })
            };
            vec![row("no")?, row("yes")?]
        }
    };
    let weights = checkpoint.weights();
    let loader = Loader::new(weights, "", Precision::Float32, device);
    // Tied models have no head of their own.
    let tied = checkpoint.said("tie_word_embeddings");
    let own = HEADS.iter().find(|name| weights.contains(name)).filter(|_| tied != Some(true));
    let head = match own {
        Some(name) => (*name).to_owned(),
        None if tied != Some(false) => {
            format!("{}embed_tokens.weight", weights.prefix(&TABLES, "embed_tokens.weight")?)
        }
        None => {
            return Err(CheckpointError::new(
                checkpoint.dir(),
                "its config says that the language head is not tied to the embeddings, and there \
                 is no lm_head.weight to answer yes or no with",
            ));
        }
    };
    let table = (network.vocabulary, network.width);
    let head = loader.rows_of(&head, table, &rows)?;
    Ok(if rows.len() == 2 {
        ScoreReadout::yes_or_no(head)
    } else {
        ScoreReadout::new(Pooling::Last, vec![HeadLayer::new(head)], vec!["yes".into()])
    })
}

impl Dtype {
    /// Its name in config files and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Bfloat16 => "bfloat16",
            Self::Float16 => "float16",
            Self::Int8 => "int8",
        }
    }

    /// The precision of most of a checkpoint's numbers.
    ///
    /// # Errors
    /// None that is served.
    pub fn of(checkpoint: &Checkpoint) -> Result<Self, CheckpointError> {
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

impl From<Dtype> for Precision {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::Float32 => Self::Float32,
            Dtype::Bfloat16 => Self::Bfloat16,
            Dtype::Float16 => Self::Float16,
            Dtype::Int8 => Self::Int8,
        }
    }
}

/// The limit sentence-transformers names, else the tokenizer's, else the network's; never above the
/// network's positions.
fn tokens_max(
    checkpoint: &Checkpoint,
    network: &Network,
    of_recipe: Option<usize>,
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
    let own = of_modules
        .or(of_recipe)
        .or(of_tokenizer)
        .unwrap_or(network.positions)
        .min(network.positions);
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
        let loader = Loader::new(&weights, "", Precision::Float32, device);
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
