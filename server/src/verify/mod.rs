//! `proxima verify`: a checkpoint against the answers that were published for it.
//!
//! Must not know: how vectors are computed.

mod answers;

use clap::Args;
use proxima_models::readout::finish;
use proxima_models::{Input, Model, Prepare, Prompt, RaggedBatch};

use crate::cli::CommandError;
use crate::config::{self, DtypeName, Environment};
use crate::serve;
use answers::{Check, Known};

/// What `proxima verify` takes.
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    /// The model: a folder or an id of the Hugging Face Hub
    #[arg(long, value_name = "ID|PATH")]
    model: String,
    /// Which published model it is [default: by its name]
    #[arg(long = "as", value_name = "NAME")]
    published: Option<String>,
    /// Precision of the weights
    #[arg(long)]
    dtype: Option<DtypeName>,
}

/// Runs the command.
///
/// # Errors
/// A model of which nothing is known, or answers that differ.
pub fn run(arguments: &VerifyArgs, environment: &Environment) -> Result<(), CommandError> {
    let source = config::model_source(&arguments.model)?;
    let name = arguments.published.as_ref().unwrap_or(&source.name);
    let known = find(name)?;
    let dir = serve::folder(&source, &config::hub_settings(environment), "main")?;
    let model = serve::load(&dir, &config::load_options(arguments.dtype, None, None))?;
    let width = model.readouts.embedding.as_ref().map_or(0, |readout| readout.width());
    if width != known.width {
        let message =
            format!("{} has vectors of {} numbers, this model of {width}", known.name, known.width);
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

/// What was published of a model of this name: the end of a path, whatever its case.
fn find(name: &str) -> Result<&'static Known, CommandError> {
    let wanted = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
    let all = answers::all();
    all.iter().find(|known| known.name.eq_ignore_ascii_case(&wanted)).ok_or_else(|| {
        let names = all.iter().map(|known| known.name).collect::<Vec<_>>().join(", ");
        let message =
            format!("no published answers are known for {name:?}; name one with --as: {names}");
        CommandError::usage(message)
    })
}

/// Prints one check and says whether it holds.
fn report(model: &Model, check: &Check) -> Result<bool, CommandError> {
    let got = check_values(model, check)?;
    let tolerance = check.tolerance();
    let expected = check.expected();
    let off = got.iter().zip(expected).map(|(got, expected)| (got - expected).abs());
    // Not a number is not below the tolerance.
    let worst = off.fold(0.0f32, |worst, off| if off <= worst { worst } else { off });
    let holds = worst <= tolerance;
    let word = if holds { "ok   " } else { "WRONG" };
    println!("{word} {} (off by {worst:.1e}, at most {tolerance:.0e})", check.what());
    if !holds {
        println!("      expected {expected:?}\n      got      {got:?}");
    }
    Ok(holds)
}

fn check_values(model: &Model, check: &Check) -> Result<Vec<f32>, CommandError> {
    match check {
        Check::Similarities { prompt, first, second, .. } => {
            let first = embed(model, first, *prompt, None, true)?;
            let second = embed(model, second, None, None, true)?;
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum();
            let pairs = first.iter().flat_map(|a| second.iter().map(move |b| dot(a, b)));
            Ok(pairs.collect())
        }
        Check::FirstValues { text, dimensions, normalize, expected, .. } => {
            let vectors = embed(model, &[text], None, *dimensions, *normalize)?;
            Ok(vectors[0][..expected.len()].to_vec())
        }
    }
}

fn embed(
    model: &Model,
    texts: &[&str],
    prompt: Option<&str>,
    dimensions: Option<usize>,
    normalize: bool,
) -> Result<Vec<Vec<f32>>, CommandError> {
    let prompt = prompt.map_or(Prompt::None, |name| Prompt::Named(name.to_owned()));
    let how = Prepare { prompt, ..Prepare::default() };
    let prepare = |text: &&str| model.recipe.prepare(&Input::Text((*text).to_owned()), &how);
    let sequences: Result<Vec<_>, _> = texts.iter().map(prepare).collect();
    let sequences = sequences.map_err(|error| CommandError::failure(error.to_string()))?;
    let run = || {
        let hidden = model.encoder.encode(&RaggedBatch::new(&sequences))?;
        let readout = model.readouts.embedding.as_ref();
        readout.map_or(Ok(Vec::new()), |readout| readout.embed(&hidden))
    };
    let vectors = run().map_err(|error| CommandError::failure(error.to_string()))?;
    Ok(vectors.iter().map(|vector| finish(vector, dimensions, normalize)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_found_by_the_end_of_their_name() {
        for name in ["sentence-transformers/all-MiniLM-L6-v2", "all-minilm-l6-v2"] {
            assert_eq!(find(name).expect("known").width, 384);
        }
        let error = find("my-model").expect_err("unknown");
        assert_eq!(error.code, crate::cli::EXIT_USAGE);
        assert!(error.message.contains("Qwen3-Embedding-0.6B"));
    }
}
