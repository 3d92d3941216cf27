//! `proxima embed`: embeds the texts or images of a file or folder with an in-process engine, in
//! order, resuming an interrupted run.
//!
//! Must not know: HTTP, how batches are made.

mod chunks;
mod files;
mod read;
mod requests;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use futures_util::{StreamExt as _, stream};
use indicatif::{ProgressBar, ProgressStyle};
use proxima_engine::{Engine, EngineConfig, NoMetrics};
use proxima_models::{LoadOptions, Prepare, Progress, Prompt};

use crate::command::CommandError;
use crate::config::{self, Environment, PoolingName, PrecisionName};
use crate::logging::{LogFormat, LogSettings};
use crate::media::media_options;
use crate::show::{LINE_INTERVAL, Unit, shown, time_left};
use crate::{logging, serve};
use chunks::Chunks;
use requests::{REQUESTS, Requests};

pub use read::{BulkRecord, InputFormat, RecordOrigin};
pub use write::OutputFormat;

/// What `proxima embed` takes.
#[derive(Debug, Clone, Args)]
pub struct EmbedArgs {
    /// The model: a folder or an id of the Hugging Face Hub
    #[arg(long, value_name = "ID|PATH")]
    model: String,
    /// The file to read, or a folder of images; standard input if absent or "-"
    #[arg(long, value_name = "FILE", default_value = "-")]
    input: PathBuf,
    /// Its format: one text per line, JSON Lines (optionally with paths under "image" and "video"),
    /// CSV with a header, or a folder of images [default: from its name, else text]
    #[arg(long)]
    format: Option<InputFormat>,
    /// The field or column with the text, in JSON Lines and CSV
    #[arg(long, default_value = "text")]
    field: String,
    /// The file to write; standard output if absent or "-"
    #[arg(long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    /// Its format [default: from its name, else jsonl]
    #[arg(long)]
    output_format: Option<OutputFormat>,
    /// Continue the output of an interrupted run
    #[arg(long)]
    resume: bool,
    /// A prompt of the checkpoint, by name
    #[arg(long, conflicts_with = "instruction")]
    prompt_name: Option<String>,
    /// A free-form instruction
    #[arg(long)]
    instruction: Option<String>,
    /// Keep the first components only
    #[arg(long)]
    dimensions: Option<usize>,
    /// Do not scale vectors to length one
    #[arg(long)]
    no_normalize: bool,
    /// Refuse texts longer than the model's limit instead of truncating them
    #[arg(long)]
    no_truncate: bool,
    /// Longest input in tokens
    #[arg(long)]
    max_length: Option<usize>,
    /// Precision of the weights
    #[arg(long)]
    dtype: Option<PrecisionName>,
    /// How tokens are pooled
    #[arg(long)]
    pooling: Option<PoolingName>,
    /// Where to compute: cpu, cuda, cuda:N, several as cuda:0,cuda:1 or cuda:all, metal or auto
    #[arg(long, env = "PROXIMA_DEVICE")]
    device: Option<String>,
    /// Fraction of an NVIDIA GPU's memory that may be used
    #[arg(long, env = "PROXIMA_GPU_MEMORY_FRACTION", value_name = "FRACTION")]
    gpu_memory_fraction: Option<f64>,
}

/// Settings of a bulk run other than its input and output.
#[derive(Debug, Clone)]
pub struct BulkJob {
    /// Prompt and truncation.
    pub prepare: Prepare,
    /// Keep the first components only.
    pub dimensions: Option<usize>,
    /// Scale vectors to length one.
    pub normalize: bool,
}

/// Runs the command.
///
/// # Errors
/// An invalid model, line or file.
pub fn run(arguments: &EmbedArgs, environment: &Environment) -> Result<(), CommandError> {
    logging::start(&LogSettings { format: LogFormat::Text, level: "warn".into() });
    let source = config::model_source(&arguments.model)?;
    let settings = config::hub_settings(environment);
    let options = config::load_options(arguments.dtype, arguments.pooling, arguments.max_length);
    let media = media_options(&config::media_settings(environment)?);
    let media = media.map_err(|problem| CommandError::usage(format!("ffmpeg: {problem}")))?;
    let devices = config::devices(arguments.device.as_deref())?;
    let device_memory = config::device_memory(arguments.gpu_memory_fraction, &devices)?;
    let options = LoadOptions { media, device_memory, ..options };
    let replicas = shown(|show| {
        let progress = show.begin(&source.name, Unit::Bytes);
        let dir = serve::folder(&source, &settings, "main", &progress)?;
        let opened = |progress: &Arc<Progress>| {
            show.follow("loading", Unit::Of("tensors"), progress.clone());
        };
        serve::replicas(&dir, &options, &devices, &opened)
    })?;
    // No other client is waiting, so a request may stay queued for as long as it takes.
    let config = EngineConfig { queue_time_max: Duration::MAX, ..EngineConfig::default() };
    let engine = Engine::start_on(replicas, config, Arc::new(NoMetrics))
        .map_err(|error| CommandError::failure(error.to_string()))?;
    let prompt = match (&arguments.instruction, &arguments.prompt_name) {
        (Some(instruction), _) => Prompt::Instruction(instruction.clone()),
        (None, Some(name)) => Prompt::Named(name.clone()),
        (None, None) => Prompt::Default,
    };
    let job = BulkJob {
        prepare: Prepare { prompt, truncate: !arguments.no_truncate, ..Prepare::default() },
        dimensions: arguments.dimensions,
        normalize: !arguments.no_normalize,
    };
    let input_format = arguments.format.unwrap_or_else(|| InputFormat::of(&arguments.input));
    let output_format =
        arguments.output_format.unwrap_or_else(|| OutputFormat::of(&arguments.output));
    let width = engine.info().capabilities.embedding.unwrap_or(0);
    let width = arguments.dimensions.unwrap_or(width);
    let mut sink = write::open(&arguments.output, output_format, width, arguments.resume)?;
    let bar = progress(&arguments.input);
    let reader = read::open(&arguments.input, input_format, &arguments.field, &bar)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CommandError::failure(format!("cannot start threads: {error}")))?;
    let result = runtime.block_on(embed_all(&engine, &job, reader, &mut *sink));
    bar.finish_and_clear();
    // If the device was lost, that was the first failure.
    let count = result.map_err(|error| engine.lost().map_or(error, CommandError::device))?;
    logging::say(&format!("{count} inputs embedded"));
    Ok(())
}

fn progress(input: &Path) -> ProgressBar {
    let bytes = std::fs::metadata(input).ok().filter(std::fs::Metadata::is_file);
    let (bar, template) = match bytes {
        Some(file) => (
            ProgressBar::new(file.len()),
            "{msg} inputs [{elapsed_precise}] [{wide_bar}] {percent}% (ETA {eta})",
        ),
        None => (ProgressBar::new_spinner(), "{msg} inputs [{elapsed_precise}] {spinner}"),
    };
    let style = ProgressStyle::with_template(template).expect("the template is valid");
    bar.with_style(style).with_message("0")
}

/// Progress and time left, for an input of known size.
fn left(bar: &ProgressBar) -> String {
    let Some(length) = bar.length().filter(|length| *length > 0) else { return String::new() };
    let percent = bar.position() * 100 / length;
    format!(", {percent}% of the input, time left: {}", time_left(bar.eta().as_secs_f64()))
}

/// Embeds, in order, all records that the sink does not have yet, and returns its total row count.
///
/// # Errors
/// A record cannot be read or embedded (the message names its line), or a write fails. Everything
/// before it is written.
pub async fn embed_all(
    engine: &Engine,
    job: &BulkJob,
    reader: read::Reader,
    sink: &mut dyn write::Sink,
) -> Result<u64, CommandError> {
    let bar = reader.bar.clone();
    let requests = &Requests::new(engine, job);
    let mut answers = stream::iter(Chunks::new(reader, sink.rows()))
        .map(|(records, broken)| async move { (requests.embed(records).await, broken) })
        .buffered(REQUESTS);
    let started = std::time::Instant::now();
    let before = sink.rows();
    let mut told = started;
    while let Some((embedded, broken)) = answers.next().await {
        for (record, vector) in embedded? {
            sink.write(&record, &vector)?;
        }
        sink.flush()?;
        let rate = (sink.rows() - before) as f64 / started.elapsed().as_secs_f64().max(1e-3);
        bar.set_message(format!("{} ({rate:.0}/s)", sink.rows()));
        if bar.is_hidden() && told.elapsed() >= LINE_INTERVAL {
            told = std::time::Instant::now();
            logging::say(&format!("{} inputs, {rate:.0}/s{}", sink.rows(), left(&bar)));
        }
        if let Some(error) = broken {
            return Err(error);
        }
    }
    Ok(sink.rows())
}

#[cfg(test)]
mod tests;
