//! `proxima admit`: what a checkpoint is, what of it is read, whether it is served, and whether its
//! answers equal the reference implementation's.
//!
//! Must not know: what any family computes, how a checkpoint is read.

mod compare;
mod report;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use proxima_models::{
    Checkpoint, CheckpointError, LoadOptions, Loading, Model, Progress, families, memory_needed,
};

use crate::command::{CommandError, write_out};
use crate::config::{self, Environment, PoolingName, PrecisionName, TaskName};
use crate::show::{Unit, shown};
use crate::{memory, serve};
use report::{FileUse, Report, Served};

/// What `proxima admit` takes.
#[derive(Debug, Clone, Args)]
pub struct AdmitArgs {
    /// The model: a folder or an id of the Hugging Face Hub
    #[arg(value_name = "ID|PATH")]
    model: String,
    /// What it is for, if its files do not say
    #[arg(long)]
    task: Option<TaskName>,
    /// Pooling, if its files do not say
    #[arg(long)]
    pooling: Option<PoolingName>,
    /// Write a small twin into this folder: the same files with narrower and fewer layers and
    /// random weights; it is examined instead
    #[arg(long, value_name = "DIR")]
    twin: Option<PathBuf>,
    /// Seed of the twin's weights
    #[arg(long, default_value_t = 0, requires = "twin")]
    seed: u64,
    /// A Python that has transformers and sentence-transformers, with which answers in float32 are
    /// compared [default: python3, if it has them]
    #[arg(long, value_name = "PROGRAM")]
    python: Option<String>,
    /// Write what was found as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// A model that is not available, is refused, or whose answers differ from the reference's or, with
/// `--python`, were not compared.
pub fn run(arguments: &AdmitArgs, environment: &Environment) -> Result<(), CommandError> {
    let source = config::model_source(&arguments.model)?;
    let settings = config::hub_settings(environment);
    let mut folder = shown(|show| {
        let progress = show.begin(&source.name, Unit::Bytes);
        serve::folder(&source, &settings, "main", &progress)
    })?;
    if let Some(twin) = &arguments.twin {
        proxima_synth::twin(&folder, twin, arguments.seed)
            .map_err(|problem| CommandError::failure(problem.to_string()))?;
        folder.clone_from(twin);
    }
    let report = examine(&folder, arguments);
    write_out(&report.to_string())?;
    if let Some(path) = &arguments.report {
        let text = serde_json::to_string_pretty(&report).map_err(|problem| {
            CommandError::failure(format!("the report could not be made: {problem}"))
        })?;
        std::fs::write(path, text + "\n")
            .map_err(|problem| CommandError::failure(format!("{}: {problem}", path.display())))?;
    }
    report.verdict().map_err(CommandError::failure)?;
    match (&arguments.python, &report.not_compared) {
        (Some(_), Some(problem)) => {
            Err(CommandError::failure(format!("its answers were not compared: {problem}")))
        }
        _ => Ok(()),
    }
}

/// Finds out everything about a checkpoint that can be found out.
fn examine(folder: &Path, arguments: &AdmitArgs) -> Report {
    let mut report = Report::new(folder);
    let model = match describe(folder, arguments, &mut report) {
        Ok(model) => model,
        Err(problem) => {
            report.refusal = Some(problem);
            return report;
        }
    };
    let python = arguments.python.as_deref().unwrap_or("python3");
    let compared = match arguments.pooling {
        Some(_) if folder.join("modules.json").exists() => {
            Err("--pooling takes precedence over modules.json here alone".to_owned())
        }
        _ => compare::compare(&model, folder, python),
    };
    match compared {
        Ok(comparison) => report.comparison = Some(comparison),
        Err(problem) => report.not_compared = Some(problem),
    }
    report
}

/// Adds what a checkpoint is and how it is served, as far as it is not refused, and loads it.
fn describe(folder: &Path, arguments: &AdmitArgs, report: &mut Report) -> Result<Model, String> {
    let refused = |problem: CheckpointError| problem.to_string();
    let checkpoint = Checkpoint::open(folder).map_err(refused)?;
    report.set_checkpoint(&checkpoint);
    let family = families::of(&checkpoint).map_err(refused)?;
    let uses = checkpoint.key_uses(family.keys, family.files).map_err(refused)?;
    report.files = FileUse::of(&uses);
    // The reference computes in float32, so that is what is compared.
    let mut options = config::load_options(Some(PrecisionName::Float32), arguments.pooling, None);
    options.task = arguments.task.map(Into::into).or(options.task);
    let model = load(&checkpoint, folder, &options)?;
    report.served = Some(Served::of(&model));
    Ok(model)
}

fn load(checkpoint: &Checkpoint, folder: &Path, options: &LoadOptions) -> Result<Model, String> {
    let needed = memory_needed(checkpoint, options).map_err(|problem| problem.to_string())?;
    memory::check(folder, needed).map_err(|problem| problem.message)?;
    let _loading = Loading::begin();
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    shown(|show| {
        let progress: &Arc<Progress> = checkpoint.weights().progress();
        show.follow(&name, Unit::Of("tensors"), progress.clone());
        Model::load(checkpoint, options).map_err(|problem| problem.to_string())
    })
}

#[cfg(test)]
mod tests;
