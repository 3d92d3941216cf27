//! The readouts of a checkpoint: pooling and its module chain, score heads, vocabulary heads.
//!
//! Must not know: requests, recipes beyond a token's id.

use std::path::Path;

use proxima_kernels::Device;
use proxima_kernels::spec::{Activation, Precision};
use serde_json::Value;

use super::LoadOptions;
use crate::checkpoint::{
    Checkpoint, CheckpointError, DenseModule, LogitScore, ModuleStep, PoolingModule,
    SentenceTransformers, Subject, Weights,
};
use crate::families::{self, Network};
use crate::input::{Input, Prepare};
use crate::layers::{LayerNorm, LinearPart, Loader};
use crate::model::Readouts;
use crate::readout::{
    Dense, EmbeddingReadout, EmbeddingStep, HeadLayer, ListReadout, MultiVectorReadout, Pooling,
    Residual, ScoreFunction, ScoreFunctions, ScoreReadout, SparseReadout,
};
use crate::recipes::{AnswerWords, Recipe};
use crate::task::Task;

/// Epsilon of sentence-transformers' LayerNorm module: PyTorch's default.
const LAYER_NORM_EPS: f32 = 1e-5;

/// What readouts are built from.
pub(crate) struct ReadoutParts<'a> {
    pub checkpoint: &'a Checkpoint,
    pub task: Task,
    pub family: &'a families::Family,
    pub network: &'a Network,
    pub recipe: &'a dyn Recipe,
    pub device: &'a Device,
}

impl Readouts {
    pub(crate) fn load(
        parts: &ReadoutParts<'_>,
        options: &LoadOptions,
    ) -> Result<Self, CheckpointError> {
        let &ReadoutParts { checkpoint, task, family, network, device, .. } = parts;
        let classifies = checkpoint.classifies();
        let score = match task {
            Task::Embed | Task::E2Rank | Task::RankLists | Task::Sparse => None,
            Task::Classify | Task::Rerank if classifies => {
                check_cross_encoder(checkpoint)?;
                let score = (family.score)(checkpoint, network.width, device)?;
                check_padding(parts, &score)?;
                Some(score)
            }
            Task::Classify | Task::Rerank => match &family.language_model {
                Some(language) if task == Task::Rerank => Some(yes_or_no(parts, language)?),
                _ => return Err(no_head(checkpoint)),
            },
        };
        let embedding = match task {
            Task::Classify | Task::Rerank | Task::RankLists | Task::Sparse => None,
            Task::Embed | Task::E2Rank => {
                let chosen = options.pooling.map(|pooling| vec![pooling]);
                let configured =
                    checkpoint.sentence_transformers().and_then(|modules| modules.pooling());
                let pooling = chosen
                    .or_else(|| configured.map(|pooling| pooling.methods.clone()))
                    .or_else(|| match task {
                        Task::E2Rank => Some(vec![Pooling::Last]),
                        _ => (family.pooling)(checkpoint).map(|pooling| vec![pooling]),
                    })
                    .ok_or_else(|| no_pooling(checkpoint, family))?;
                Some(readout(checkpoint, pooling, network.width, device)?)
            }
        };
        let sparse = match task {
            Task::Sparse => Some(splade(checkpoint, family, network, device)?),
            Task::Embed => lexical(parts)?,
            _ => None,
        };
        let multi = match task {
            Task::Embed => token_vectors(checkpoint, network, device)?,
            _ => None,
        };
        let list = match task {
            Task::RankLists => Some(list(checkpoint, network, device)?),
            _ => None,
        };
        Ok(Self { embedding, score, sparse, multi, list })
    }
}

/// Refuses a cross-encoder with settings that sentence-transformers would not read: it is unclear
/// whether they are meant to apply.
fn check_cross_encoder(checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
    let modules = checkpoint.sentence_transformers();
    let Some(key) = modules.and_then(SentenceTransformers::unread_by_cross_encoder) else {
        return Ok(());
    };
    Err(CheckpointError::new(
        checkpoint.dir().join("modules.json"),
        format!(
            "sentence-transformers reads {key} of a cross-encoder only if \
             config_sentence_transformers.json has \"model_type\": \"CrossEncoder\"; set it there, \
             or remove modules.json"
        ),
    ))
}

/// Refuses a head over the last token if texts end in the padding token: transformers scores at the
/// last token that is not padding.
fn check_padding(parts: &ReadoutParts<'_>, score: &ScoreReadout) -> Result<(), CheckpointError> {
    let &ReadoutParts { checkpoint, recipe, .. } = parts;
    let padding = checkpoint.config_key("pad_token_id").and_then(Value::as_u64);
    let (query, document) = ("a".into(), "b".into());
    let prepared = recipe.prepare(&Input::Pair { query, document }, &Prepare::default());
    let last = prepared.ok().and_then(|sequence| sequence.tokens.last().map(|id| u64::from(*id)));
    if score.pooling() != Pooling::Last || padding.is_none() || padding != last {
        return Ok(());
    }
    Err(checkpoint.config_error(
        "pad_token_id is the token that every input ends with, so transformers scores at another \
         token, which is not supported",
    ))
}

/// The error for a checkpoint that sets no pooling, with what to do about it.
fn no_pooling(checkpoint: &Checkpoint, family: &families::Family) -> CheckpointError {
    let masked = checkpoint.architectures().iter().any(|name| name.ends_with("ForMaskedLM"));
    let sparse = match masked && family.words.is_some() {
        true => {
            "; a SPLADE model, whose language head gives word weights, is served with --task \
             sparse or --pooling splade"
        }
        false => "",
    };
    CheckpointError::new(
        checkpoint.dir(),
        format!(
            "there is no modules.json to define pooling; choose with --pooling (cls, mean, \
             last_token, ...){sparse}"
        ),
    )
}

/// Hidden states to vectors: these poolings, and the other modules in order.
fn readout(
    checkpoint: &Checkpoint,
    poolings: Vec<Pooling>,
    width: usize,
    device: &Device,
) -> Result<EmbeddingReadout, CheckpointError> {
    let modules = checkpoint.sentence_transformers();
    let steps = modules.map(|modules| &modules.steps[..]).unwrap_or_default();
    // Trailing Normalize modules are left out: requests choose the final normalisation.
    let last =
        steps.iter().rposition(|step| !matches!(step, ModuleStep::Normalize(Subject::Sentence)));
    let steps = &steps[..last.map_or(0, |last| last + 1)];
    let mut readout = EmbeddingReadout::new(Pooling::Mean, width);
    let (tokens, rest): (Vec<&ModuleStep>, Vec<&ModuleStep>) =
        steps.iter().filter(|step| !matches!(step, ModuleStep::Pool(_))).partition(|step| {
            matches!(
                step,
                ModuleStep::Dense(Subject::Tokens, _) | ModuleStep::Normalize(Subject::Tokens)
            )
        });
    for step in tokens {
        let made = embedding_step(step, readout.token_width(), device)?;
        readout = made.into_iter().fold(readout, EmbeddingReadout::with_token_step);
    }
    readout = readout.with_poolings(poolings);
    for step in rest {
        let made = embedding_step(step, readout.width(), device)?;
        readout = made.into_iter().fold(readout, EmbeddingReadout::with_step);
    }
    let cut = modules.and_then(|modules| modules.truncate_dim);
    Ok(cut.into_iter().fold(readout, EmbeddingReadout::cut_to))
}

/// The step of a module over `width` components; `None` for pooling, which is done separately.
fn embedding_step(
    step: &ModuleStep,
    width: usize,
    device: &Device,
) -> Result<Option<EmbeddingStep>, CheckpointError> {
    Ok(Some(match step {
        ModuleStep::Pool(PoolingModule { .. }) => return Ok(None),
        ModuleStep::Normalize(_) => EmbeddingStep::Normalize,
        ModuleStep::TanhInt8 => EmbeddingStep::TanhInt8,
        ModuleStep::Dense(_, module) => {
            EmbeddingStep::Dense(Box::new(dense(module, width, device)?))
        }
        ModuleStep::LayerNorm { dir, width: own } => {
            check_width(dir, *own, width)?;
            let weights = Weights::of_module(dir)?;
            let loader = Loader::new(&weights, "", Precision::Float32, &Device::Cpu);
            let norm = LayerNorm::load(&loader, "norm", width, LAYER_NORM_EPS, true)?;
            all_used(dir, &weights)?;
            EmbeddingStep::LayerNorm(norm)
        }
    }))
}

fn dense(module: &DenseModule, width: usize, device: &Device) -> Result<Dense, CheckpointError> {
    let &DenseModule { inputs, outputs, bias, activation, .. } = module;
    check_width(&module.dir, inputs, width)?;
    let weights = Weights::of_module(&module.dir)?;
    // Projections are small, so they are always float32.
    let loader = Loader::new(&weights, "", Precision::Float32, device);
    let linear = loader.linear(&[LinearPart::new("linear", outputs)], inputs, bias)?;
    let residual = match module.residual {
        false => Residual::None,
        true if inputs == outputs => Residual::Input,
        true => Residual::Projected(loader.linear(
            &[LinearPart::new("residual", outputs)],
            inputs,
            false,
        )?),
    };
    all_used(&module.dir, &weights)?;
    Ok(Dense { linear, activation, residual, width: outputs })
}

fn check_width(dir: &Path, wanted: usize, found: usize) -> Result<(), CheckpointError> {
    if wanted == found {
        return Ok(());
    }
    let problem = format!("it takes {wanted} components but gets {found}");
    Err(CheckpointError::new(dir, problem))
}

/// Refuses a module with a tensor that its configuration does not mention, as sentence-transformers
/// does.
fn all_used(dir: &Path, weights: &Weights) -> Result<(), CheckpointError> {
    match weights.names().find(|(_, used)| !used) {
        None => Ok(()),
        Some((name, _)) => {
            let problem = format!("its config.json does not mention the tensor {name}");
            Err(CheckpointError::new(dir, problem))
        }
    }
}

/// The score functions that the files ask for, with this many labels.
///
/// # Errors
/// An unknown function, or a problem_type that contradicts the labels.
pub(crate) fn scores(
    checkpoint: &Checkpoint,
    labels: usize,
) -> Result<ScoreFunctions, CheckpointError> {
    let error = |problem: String| checkpoint.config_error(problem);
    let classes = match (checkpoint.text(&["problem_type"]), labels) {
        (Some("regression"), _) => ScoreFunction::Identity,
        (Some("multi_label_classification"), _) | (None, 1) => ScoreFunction::Sigmoid,
        (Some("single_label_classification"), 1) => {
            let problem = "problem_type single_label_classification needs several labels";
            return Err(error(problem.into()));
        }
        (Some("single_label_classification") | None, _) => ScoreFunction::Softmax,
        (Some(other), _) => return Err(error(format!("problem_type {other:?} is not supported"))),
    };
    let settings =
        checkpoint.sentence_transformers().and_then(|modules| modules.activation_fn.as_deref());
    let path = settings
        .or_else(|| checkpoint.text(&["sentence_transformers", "activation_fn"]))
        .or_else(|| checkpoint.text(&["sbert_ce_default_activation_function"]));
    let pairs = match path {
        Some(path) => ScoreFunction::of_path(path)
            .ok_or_else(|| error(format!("activation function {path} is not supported")))?,
        None if labels == 1 => ScoreFunction::Sigmoid,
        None => ScoreFunction::Identity,
    };
    Ok(ScoreFunctions { classes, pairs })
}

fn splade(
    checkpoint: &Checkpoint,
    family: &families::Family,
    network: &Network,
    device: &Device,
) -> Result<SparseReadout, CheckpointError> {
    let load = family.words.ok_or_else(|| {
        checkpoint.config_error("this architecture has no language head; choose another --task")
    })?;
    let how = checkpoint.sentence_transformers().and_then(|modules| modules.splade);
    let head = load(checkpoint, network, device)?;
    Ok(SparseReadout::Splade { head, how: how.unwrap_or_default() })
}

/// The layer of bge-m3 that computes word weights, if there is one.
fn lexical(parts: &ReadoutParts<'_>) -> Result<Option<SparseReadout>, CheckpointError> {
    let &ReadoutParts { checkpoint, network, recipe, device, .. } = parts;
    let Some(weights) = checkpoint.part("sparse_linear")? else { return Ok(None) };
    let loader = Loader::new(&weights, "", Precision::Float32, device);
    let linear = loader.linear_of("weight", "bias", network.width, 1)?;
    Ok(Some(SparseReadout::Lexical { linear, special: recipe.tokenizer().special_ids() }))
}

/// The projection of bge-m3 to one vector per token, if there is one.
fn token_vectors(
    checkpoint: &Checkpoint,
    network: &Network,
    device: &Device,
) -> Result<Option<MultiVectorReadout>, CheckpointError> {
    let Some(weights) = checkpoint.part("colbert_linear")? else { return Ok(None) };
    let width = weights.rows("weight").unwrap_or(network.width);
    let loader = Loader::new(&weights, "", Precision::Float32, device);
    let linear = loader.linear_of("weight", "bias", network.width, width)?;
    Ok(Some(MultiVectorReadout::new(linear, width)))
}

/// The projector of jina-reranker-v3 (`JinaForRanking`).
fn list(
    checkpoint: &Checkpoint,
    network: &Network,
    device: &Device,
) -> Result<ListReadout, CheckpointError> {
    let weights = checkpoint.weights();
    let loader = Loader::new(weights, "projector.", Precision::Float32, device);
    let size = |name: &str| {
        let rows = weights.rows(name);
        rows.ok_or_else(|| {
            CheckpointError::new(checkpoint.dir(), format!("there is no tensor {name}"))
        })
    };
    let (middle, width) = (size("projector.0.weight")?, size("projector.2.weight")?);
    let first = HeadLayer::load(&loader, "0", network.width, middle, false)?;
    let second = HeadLayer::load(&loader, "2", middle, width, false)?;
    Ok(ListReadout::new(vec![first.with_activation(Activation::Relu), second]))
}

/// The error for a checkpoint without anything that scores.
fn no_head(checkpoint: &Checkpoint) -> CheckpointError {
    let names = checkpoint.architectures().join(", ");
    let problem = match names.as_str() {
        "" => "it names no architectures, and no tensor is a classification head's",
        names => &format!("{names} has no classification head"),
    };
    checkpoint.config_error(format!("{problem}; choose another --task"))
}

/// The rows of the language head that answer no and yes.
fn yes_or_no(
    parts: &ReadoutParts<'_>,
    language: &families::LanguageModel,
) -> Result<ScoreReadout, CheckpointError> {
    let &ReadoutParts { checkpoint, network, recipe, device, .. } = parts;
    let said = checkpoint.sentence_transformers().and_then(|modules| modules.logit_score);
    let answers = recipe.answers();
    let rows = match said {
        Some(LogitScore { true_token_id, false_token_id }) => {
            let rows: Vec<usize> = false_token_id.into_iter().chain([true_token_id]).collect();
            if let Some(row) = rows.iter().find(|row| **row >= network.vocabulary) {
                return Err(
                    checkpoint.config_error(format!("there is no token {row} for the answer"))
                );
            }
            rows
        }
        None => {
            let row = |word: &str| {
                let tokenizer = recipe.tokenizer();
                let first = || tokenizer.tokens(word, false).ok()?.first().map(|token| token.id);
                let id = match answers.first_token {
                    true => first(),
                    false => tokenizer.id_of(word),
                };
                let id = id.map(|id| id as usize).filter(|id| *id < network.vocabulary);
                id.ok_or_else(|| {
                    let path = checkpoint.transformer_dir().join("tokenizer.json");
                    CheckpointError::new(path, format!("it has no token {word:?} for the answer"))
                })
            };
            let AnswerWords { yes, no, .. } = answers;
            no.map(row).transpose()?.into_iter().chain([row(yes)?]).collect()
        }
    };
    if checkpoint.has("final_logit_softcapping") {
        return Err(checkpoint.config_error(
            "final_logit_softcapping caps the logits that scores are computed from, which is not \
             supported",
        ));
    }
    let weights = checkpoint.weights();
    let loader = Loader::new(weights, "", Precision::Float32, device);
    // As in transformers, a stored head is used even if the config ties it to the embeddings.
    let tied = checkpoint.said("tie_word_embeddings").unwrap_or(language.tied);
    let head = match language.heads.iter().find(|name| weights.contains(name)) {
        Some(name) => (*name).to_owned(),
        None if tied => {
            format!(
                "{}embed_tokens.weight",
                weights.prefix(language.tables, "embed_tokens.weight")?
            )
        }
        None => {
            return Err(CheckpointError::new(
                checkpoint.dir(),
                "its config does not tie the language head to the embeddings (tie_word_embeddings: \
                 true), and there is no lm_head.weight to compute yes and no",
            ));
        }
    };
    let head = loader.rows_of(&head, network.vocabulary, network.width, &rows)?;
    let score = match rows.len() {
        2 => ScoreReadout::yes_or_no(head),
        _ => ScoreReadout::new(Pooling::Last, vec![HeadLayer::new(head)], vec!["yes".into()]),
    };
    Ok(score.divided_by(if said.is_none() { answers.divisor } else { 1.0 }))
}
