//! The command line: what can be asked of the executable, and exit codes.
//!
//! Must not know: how any command does its work.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Environment, ServeArgs};
use crate::media::end_programs;
use crate::{bulk, hub, logging, openapi, serve, verify};

/// Exit code of wrong usage or configuration (`EX_USAGE`).
pub const EXIT_USAGE: u8 = 64;
/// Exit code of a command that failed.
pub const EXIT_FAILURE: u8 = 1;
/// Exit code of a server whose device failed for good (`EX_UNAVAILABLE`).
pub const EXIT_DEVICE: u8 = 69;

/// Why a command did not do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandError {
    /// A sentence.
    pub message: String,
    /// The exit code.
    pub code: u8,
}

impl CommandError {
    /// Something is wrong with how the command was asked.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: EXIT_USAGE }
    }

    /// A device failed for good while it was served from.
    pub fn device(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: EXIT_DEVICE }
    }

    /// The command was asked rightly and failed.
    pub fn failure(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: EXIT_FAILURE }
    }
}

/// Proxima serves embedding models: one binary, over HTTP, with the vectors of the reference
/// implementation.
#[derive(Debug, Parser)]
#[command(
    name = "proxima",
    version,
    max_term_width = 100,
    after_help = "\
Exit codes: 0 done, 1 failed, 64 wrong usage or configuration, 69 a device failed for good."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve one or more models over HTTP
    Serve(Box<ServeArgs>),
    /// Download a model from the Hugging Face Hub
    Pull(PullArgs),
    /// Embed many texts from a file or standard input
    Embed(bulk::EmbedArgs),
    /// Check a model against published vectors
    Verify(verify::VerifyArgs),
    /// Write a checkpoint with random weights in a published layout
    Synth(SynthArgs),
    /// Print the OpenAPI document
    Openapi,
}

#[derive(Debug, Args)]
struct PullArgs {
    /// The model, as OWNER/NAME
    id: String,
    /// Branch, tag or commit
    #[arg(long, default_value = "main")]
    revision: String,
}

#[derive(Debug, Args)]
struct SynthArgs {
    /// The configuration
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(proxima_models::synth::names()))]
    name: String,
    /// The folder to write, which must be empty or absent
    #[arg(long)]
    out: PathBuf,
    /// Same seed, same bytes
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// A tokenizer.json, or a folder with one; without it a byte-level tokenizer is made
    #[arg(long)]
    tokenizer: Option<PathBuf>,
}

/// Runs a command line and gives its exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing can be done about a closed terminal.
            let _ = error.print();
            return if error.use_stderr() { EXIT_USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    match dispatch(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("proxima: {}", error.message);
            error.code.into()
        }
    }
}

fn dispatch(command: Command) -> Result<(), CommandError> {
    let environment = Environment::of_process();
    match command {
        Command::Serve(arguments) => {
            let settings = config::settings(*arguments, &environment)?;
            logging::start(&settings.log);
            serve::run(settings)
        }
        Command::Pull(arguments) => {
            let hub = hub::Hub::new(&config::hub_settings(&environment));
            let dir = hub.pull(&arguments.id, &arguments.revision)?;
            println!("{}", dir.display());
            Ok(())
        }
        Command::Embed(arguments) => {
            serve::end_programs_by_signal()?;
            let result = bulk::run(&arguments, &environment);
            // Of inputs behind one that is wrong.
            end_programs();
            result
        }
        Command::Verify(arguments) => verify::run(&arguments, &environment),
        Command::Synth(arguments) => synth(&arguments),
        Command::Openapi => {
            print!("{}", openapi::openapi_json());
            Ok(())
        }
    }
}

fn synth(arguments: &SynthArgs) -> Result<(), CommandError> {
    let options = proxima_models::synth::SynthOptions {
        seed: arguments.seed,
        tokenizer: arguments.tokenizer.clone(),
    };
    proxima_models::synth::write(&arguments.name, &arguments.out, &options)
        .map_err(|error| CommandError::failure(error.to_string()))?;
    let tokenizer = arguments.tokenizer.as_ref();
    let tokenizer = tokenizer.map_or("a byte-level one".into(), |path| path.display().to_string());
    println!("{} (random weights, tokenizer: {tokenizer})", arguments.out.display());
    Ok(())
}
