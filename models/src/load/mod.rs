//! Turns a checkpoint into a model: family, task, recipe, readouts, in this order.
//!
//! Must not know: requests, wire formats, devices beyond their name.

mod readouts;

use std::sync::Arc;

use proxima_kernels::spec::Precision;
use proxima_kernels::{BatchRows, DeviceChoice};
use proxima_media::MediaOptions;

use crate::checkpoint::{Checkpoint, CheckpointError, Warning};
use crate::families::{self, Network};
use crate::info::ModelInfo;
use crate::model::{Model, Readouts};
use crate::precision::stored_precision;
use crate::readout::{Pooling, Similarity};
use crate::recipes::{self, NetworkTraits, Recipe};
use crate::task::Task;
use readouts::{ReadoutParts, scores};

/// How to load a checkpoint; by default, as its files say.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Precision of the weights; `None` keeps the checkpoint's.
    pub precision: Option<Precision>,
    /// Pooling; `None` takes the checkpoint's or its family's default, and fails if there is
    /// neither.
    pub pooling: Option<Pooling>,
    /// Longest sequence in tokens; `None` takes the checkpoint's limit.
    pub tokens_max: Option<usize>,
    /// What it is used for; `None` detects it ([`Task::of`]).
    pub task: Option<Task>,
    /// The device it runs on.
    pub device: DeviceChoice,
    /// The fraction of an NVIDIA GPU's memory that tensors may use; `None` sets no limit.
    pub device_memory: Option<f64>,
    /// How images and videos are read.
    pub media: MediaOptions,
    /// Refuse a checkpoint whose configuration has an unknown key.
    pub strict_checkpoint: bool,
}

impl Model {
    /// Loads a model from a checkpoint.
    ///
    /// # Errors
    /// An unknown architecture, pooling or activation, a tensor that is missing or has the wrong
    /// shape, a tokenizer that cannot be read, or a device that is not available.
    pub fn load(checkpoint: &Checkpoint, options: &LoadOptions) -> Result<Self, CheckpointError> {
        Self::load_with(checkpoint, options, None)
    }

    /// As [`load`](Self::load), with the recipe of the same model loaded before: another device
    /// needs no tokenizer of its own.
    ///
    /// # Errors
    /// As `load`.
    pub fn load_with(
        checkpoint: &Checkpoint,
        options: &LoadOptions,
        recipe: Option<Arc<dyn Recipe>>,
    ) -> Result<Self, CheckpointError> {
        let opened = options.device.open(options.device_memory).map_err(|error| {
            CheckpointError::new(checkpoint.dir(), proxima_kernels::sentence(&error))
        })?;
        let device = &opened.device;
        let family = families::of(checkpoint)?;
        let mut warnings = checkpoint.check_keys(family.keys, family.files)?;
        if options.strict_checkpoint {
            refuse(checkpoint, &warnings)?;
        }
        let task = match (options.task, options.pooling) {
            (Some(task), _) => task,
            // Choosing a pooling implies embedding, if the files do not tell.
            (None, Some(_)) => Task::of(checkpoint, &family).unwrap_or(Task::Embed),
            (None, None) => Task::of(checkpoint, &family)?,
        };
        let precision = options.precision.map_or_else(|| stored_precision(checkpoint), Ok)?;
        let network = (family.load)(checkpoint, precision, device)?;
        let kind = recipes::all().into_iter().find(|kind| (kind.fits)(checkpoint, task));
        let kind = kind.ok_or_else(|| {
            CheckpointError::new(checkpoint.dir(), "no recipe fits this checkpoint and task")
        })?;
        let tokens_max = tokens_max(checkpoint, &network, kind.tokens_max, options)?;
        let (vocabulary, token_types) = (network.vocabulary, network.token_types);
        let traits =
            NetworkTraits { tokens_max, vocabulary, token_types, conventions: family.conventions };
        let recipe = match recipe {
            Some(recipe) => recipe,
            None => Arc::from((kind.load)(checkpoint, &traits, &options.media)?),
        };
        let readouts = {
            let (recipe, network) = (&*recipe, &network);
            let parts = ReadoutParts { checkpoint, task, family: &family, network, recipe, device };
            Readouts::load(&parts, options)?
        };
        checkpoint.weights().release_pages();
        warnings.extend(checkpoint.check_unused()?);
        let sentence = checkpoint.sentence_transformers();
        let similarity = sentence.map(|modules| Similarity {
            function: modules.similarity,
            normalized: modules.normalizes(),
        });
        let labels = readouts.score.as_ref().map(|score| score.labels().len());
        let info = ModelInfo {
            family: family.model_type.into(),
            recipe: kind.name.into(),
            device: opened.name.clone(),
            precision: precision.name().into(),
            batch_tokens: BatchRows::of(device),
            isa: proxima_kernels::instruction_set().into(),
            tokens_max,
            vocabulary: network.vocabulary,
            prompts: recipe.prompts(),
            special_tokens: recipe.special_tokens(),
            default_prompt_name: sentence.and_then(|modules| modules.default_prompt_name.clone()),
            listwise: matches!(task, Task::E2Rank | Task::RankLists),
            media: recipe.takes_media(),
            similarity: similarity.unwrap_or_default(),
            scores: labels.map(|labels| scores(checkpoint, labels)).transpose()?,
            warnings: warnings.iter().map(Warning::to_string).collect(),
            capabilities: readouts.capabilities(),
        };
        tracing::debug!("{} is loaded as {} on {}", info.family, info.recipe, info.device);
        Ok(Self { info, recipe, encoder: network.encoder, readouts, device: opened })
    }
}

/// Refuses a checkpoint with unknown keys.
fn refuse(checkpoint: &Checkpoint, warnings: &[Warning]) -> Result<(), CheckpointError> {
    if warnings.is_empty() {
        return Ok(());
    }
    let all: Vec<String> = warnings.iter().map(Warning::to_string).collect();
    let problem = format!("refused by --strict-checkpoint: {}", all.join("; "));
    Err(CheckpointError::new(checkpoint.dir(), problem))
}

/// The maximum sequence length: the first that is set of `--max-length`, `max_seq_length`, the
/// recipe's and the tokenizer's, capped at the network's positions.
fn tokens_max(
    checkpoint: &Checkpoint,
    network: &Network,
    of_recipe: Option<usize>,
    options: &LoadOptions,
) -> Result<usize, CheckpointError> {
    let of_modules = checkpoint.sentence_transformers().and_then(|modules| modules.tokens_max);
    let of_tokenizer = match of_modules.or(of_recipe) {
        Some(limit) => Some(limit),
        None => recipes::tokens_max(checkpoint)?,
    };
    let own = of_tokenizer.unwrap_or(network.positions).min(network.positions);
    if let (Some(limit), None) = (of_modules, options.tokens_max)
        && network.rotary_positions
        && limit > network.positions
    {
        return Err(CheckpointError::new(
            checkpoint.dir(),
            format!(
                "max_seq_length {limit} is above the {} positions of config.json, and \
                 sentence-transformers would go beyond them; choose a limit with --max-length",
                network.positions
            ),
        ));
    }
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
