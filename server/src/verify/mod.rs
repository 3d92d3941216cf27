//! `proxima verify`: checks a checkpoint against its published answers.
//!
//! Must not know: how vectors are computed.

mod answers;

use std::sync::Arc;

use clap::Args;
use proxima_models::readout::{finish, sigmoid};
use proxima_models::{
    HiddenStates, Input, ListwiseTemplate, Model, Prepare, Progress, Prompt, RaggedBatch,
};

use crate::command::{CommandError, write_out};
use crate::config::{self, Environment, PrecisionName};
use crate::serve;
use crate::show::{Unit, shown};
use answers::{Check, KnownModel, TextPrefix};

/// What `proxima verify` takes.
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    /// The model: a folder or an id of the Hugging Face Hub
    #[arg(long, value_name = "ID|PATH")]
    model: String,
    /// Which published model it is [default: from its name]
    #[arg(long = "as", value_name = "NAME")]
    published: Option<String>,
    /// Precision of the weights
    #[arg(long)]
    dtype: Option<PrecisionName>,
}

/// Runs the command.
///
/// # Errors
/// A model without published answers, or answers that differ.
pub fn run(arguments: &VerifyArgs, environment: &Environment) -> Result<(), CommandError> {
    let source = config::model_source(&arguments.model)?;
    let name = arguments.published.as_ref().unwrap_or(&source.name);
    let known = find(name)?;
    let settings = config::hub_settings(environment);
    let options = config::load_options(arguments.dtype, None, None);
    let model = shown(|show| {
        let progress = show.begin(&source.name, Unit::Bytes);
        let dir = serve::folder(&source, &settings, "main", &progress)?;
        let opened = |progress: &Arc<Progress>| {
            show.follow("loading", Unit::Of("tensors"), progress.clone());
        };
        serve::load_shown(&dir, &options, &opened)
    })?;
    let width = model.readouts.embedding.as_ref().map_or(0, |readout| readout.width());
    if width != known.width {
        let message = match known.width {
            0 => format!("{} is a reranker, but this model is an embedder", known.name),
            wanted => {
                format!(
                    "{} has vectors of {wanted} elements, but this model's have {width}",
                    known.name
                )
            }
        };
        return Err(CommandError::failure(message));
    }
    let mut wrong = 0;
    for check in known.checks {
        wrong += usize::from(!report(&model, check)?);
    }
    match wrong {
        0 => Ok(()),
        _ => {
            Err(CommandError::failure(format!("{wrong} of {} answers differ", known.checks.len())))
        }
    }
}

/// The published answers for a model's name: the last component of a path, in any case.
fn find(name: &str) -> Result<&'static KnownModel, CommandError> {
    let wanted = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
    answers::all().find(|known| known.name.eq_ignore_ascii_case(&wanted)).ok_or_else(|| {
        let names = answers::all().map(|known| known.name).collect::<Vec<_>>().join(", ");
        let message =
            format!("no published answers are known for {name:?}; name one with --as: {names}");
        CommandError::usage(message)
    })
}

/// Prints the result of one check, and returns whether it holds.
fn report(model: &Model, check: &Check) -> Result<bool, CommandError> {
    let got = check_values(model, check)?;
    let (what, expected, tolerance) = check.parts();
    let worst = worst(got.iter().zip(expected).map(|(got, expected)| (got - expected).abs()));
    let holds = worst <= tolerance;
    let word = if holds { "ok   " } else { "WRONG" };
    write_out(&format!("{word} {what} (off by {worst:.1e}, at most {tolerance:.0e})\n"))?;
    if !holds {
        write_out(&format!("      expected {expected:?}\n      got      {got:?}\n"))?;
    }
    Ok(holds)
}

/// The largest difference; NaN if one is, where `max` would ignore it, so that a check fails.
fn worst(mut differences: impl Iterator<Item = f32>) -> f32 {
    let larger =
        |worst: f32, next: f32| if next.is_nan() { Err(next) } else { Ok(worst.max(next)) };
    differences.try_fold(0.0, larger).unwrap_or_else(|nan| nan)
}

fn check_values(model: &Model, check: &Check) -> Result<Vec<f32>, CommandError> {
    match check {
        Check::Similarities { prompt, first, second, .. } => {
            let first = embed(model, first, *prompt, None, true)?;
            let second = embed(model, second, TextPrefix::Nothing, None, true)?;
            let pairs = first.iter().flat_map(|a| second.iter().map(move |b| dot(a, b)));
            Ok(pairs.collect())
        }
        Check::Scores { query, documents, probabilities, .. } => {
            let inputs = documents.iter().map(|document| Input::Pair {
                query: (*query).into(),
                document: (*document).into(),
            });
            let inputs: Vec<Input> = inputs.collect();
            let logits = logits(model, &inputs)?;
            Ok(if *probabilities { logits.into_iter().map(sigmoid).collect() } else { logits })
        }
        Check::Listwise { queries, documents, .. } => {
            let vectors = embed(model, documents, TextPrefix::Nothing, None, true)?;
            let mut cosines = Vec::new();
            for query in *queries {
                let input = Input::Listwise {
                    query: (*query).into(),
                    candidates: documents.iter().map(|text| (*text).into()).collect(),
                    template: ListwiseTemplate::Readme,
                };
                let pseudo = vectors_of(model, &[input], &Prepare::default())?;
                let pseudo = finish(&pseudo[0], None, true);
                cosines.extend(vectors.iter().map(|vector| dot(&pseudo, vector)));
            }
            Ok(cosines)
        }
        Check::FirstValues { text, dimensions, normalize, expected, .. } => {
            let vectors = embed(model, &[text], TextPrefix::Nothing, *dimensions, *normalize)?;
            Ok(vectors[0][..expected.len()].to_vec())
        }
    }
}

fn embed(
    model: &Model,
    texts: &[&str],
    prefix: TextPrefix,
    dimensions: Option<usize>,
    normalize: bool,
) -> Result<Vec<Vec<f32>>, CommandError> {
    let prompt = match prefix {
        TextPrefix::Nothing => Prompt::None,
        TextPrefix::Prompt(name) => Prompt::Named(name.to_owned()),
        TextPrefix::Instruction(text) => Prompt::Instruction(text.to_owned()),
    };
    let how = Prepare { prompt, ..Prepare::default() };
    let inputs: Vec<Input> = texts.iter().map(|text| Input::from(*text)).collect();
    let vectors = vectors_of(model, &inputs, &how)?;
    Ok(vectors.iter().map(|vector| finish(vector, dimensions, normalize)).collect())
}

fn vectors_of(
    model: &Model,
    inputs: &[Input],
    how: &Prepare,
) -> Result<Vec<Vec<f32>>, CommandError> {
    let hidden = hidden(model, inputs, how)?;
    let readout = model.readouts.embedding.as_ref();
    let readout = readout.ok_or_else(|| failed("this model gives no vectors"))?;
    readout.embed(&hidden).map_err(failed)
}

fn logits(model: &Model, inputs: &[Input]) -> Result<Vec<f32>, CommandError> {
    let hidden = hidden(model, inputs, &Prepare::default())?;
    let readout = model.readouts.score.as_ref();
    let readout = readout.ok_or_else(|| failed("this model scores no pairs"))?;
    let logits = readout.logits(&hidden).map_err(failed)?;
    Ok(logits.into_iter().map(|logits| logits[0]).collect())
}

fn hidden(model: &Model, inputs: &[Input], how: &Prepare) -> Result<HiddenStates, CommandError> {
    let prepare = |input: &Input| model.recipe.prepare(input, how).map_err(failed);
    let sequences: Vec<_> = inputs.iter().map(prepare).collect::<Result<_, _>>()?;
    model.encoder.encode(&RaggedBatch::new(&sequences)).map_err(failed)
}

fn failed(error: impl ToString) -> CommandError {
    CommandError::failure(error.to_string())
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_that_is_nan_fails_wherever_it_is() {
        let nan = f32::NAN;
        for differences in [[nan, 0.0, 0.1], [0.0, nan, 0.1], [0.1, 0.0, nan]] {
            assert!(worst(differences.into_iter()).is_nan(), "{differences:?}");
        }
        assert_eq!(worst([0.1, 0.3, 0.2].into_iter()), 0.3);
    }

    #[test]
    fn models_are_found_by_the_end_of_their_name() {
        for name in ["sentence-transformers/all-MiniLM-L6-v2", "all-minilm-l6-v2"] {
            assert_eq!(find(name).expect("known").width, 384);
        }
        assert_eq!(find("BAAI/bge-reranker-v2-m3").expect("known").width, 0);
        let error = find("my-model").expect_err("unknown");
        assert_eq!(error.code, crate::command::EXIT_USAGE);
        assert!(error.message.contains("Qwen3-Embedding-0.6B"));
    }
}
