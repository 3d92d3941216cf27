//! The command line: the commands of the executable, and exit codes.
//!
//! Must not know: how any command does its work.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::command::{CommandError, EXIT_USAGE, write_out};
use crate::config::{self, Environment, ServeArgs};
use crate::logging::{LogFormat, LogSettings};
use crate::media::end_programs;
use crate::show::{Unit, shown};
use crate::{about, admit, bench, bulk, health, hub, logging, models, router, serve, verify};

/// Proxima serves embedding models: one binary, over HTTP, with the vectors of the reference
/// implementation.
#[derive(Debug, Parser)]
#[command(
    name = "proxima",
    version,
    max_term_width = 100,
    after_help = "\
Exit codes: 0 success, 1 failure, 64 wrong usage or configuration, 69 a device failed permanently."
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
    /// Say what a checkpoint is, whether it is served, and whether its answers are right
    Admit(admit::AdmitArgs),
    /// Write a checkpoint with random weights in a published layout
    Synth(SynthArgs),
    /// List the models in the cache, or remove one
    Models(models::ModelsArgs),
    /// Ask a server whether it is ready; the exit code is 0 if it is
    Health(health::HealthArgs),
    /// Measure a server, or a model that is served for the measurement
    Bench(bench::BenchArgs),
    /// Print the OpenAPI document
    Openapi,
    /// Print a shell completion script
    #[command(arg_required_else_help = true)]
    Completions {
        /// The shell
        shell: clap_complete::aot::Shell,
    },
    /// Print the manual page
    Man {
        /// Write it and the pages of all commands into this folder
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Print an example settings file, or how flags of other servers translate
    #[command(arg_required_else_help = true)]
    Docs {
        /// Which
        document: DocsPage,
    },
}

/// Documents that are written from the flags.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum DocsPage {
    /// Every setting with its default, as a file for --config
    Settings,
    /// Flags of text-embeddings-inference, infinity and vLLM, and their counterparts
    Migrate,
}

#[derive(Debug, Args)]
struct PullArgs {
    /// The model, as OWNER/NAME[@REVISION]
    id: String,
    /// Branch, tag or commit [default: main]
    #[arg(long)]
    revision: Option<String>,
}

#[derive(Debug, Args)]
struct SynthArgs {
    /// The configuration
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(proxima_synth::names()))]
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

/// Runs a command line and returns its exit code; `commit` is the source commit, if known.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    commit: Option<&'static str>,
) -> ExitCode {
    let environment = Environment::of_process();
    if let Err(problem) = proxima_models::check_instruction_set() {
        return ended(&CommandError::usage(problem));
    }
    // Leaked once per process.
    let version: &'static str = about::version(commit).leak();
    let command = config::without_kubelet(Cli::command().long_version(version), &environment);
    let arguments = match config::rewritten(arguments) {
        Ok(arguments) => arguments,
        Err(error) => return ended(&error),
    };
    let parsed = command.try_get_matches_from(arguments);
    let parsed = parsed.and_then(|matches| {
        check_bare_words(&matches)?;
        Cli::from_arg_matches(&matches).map(|cli| (cli, model_is_of_variable(&matches)))
    });
    let cli = match parsed {
        Ok((Cli { command: Command::Serve(mut arguments) }, true)) => {
            if !arguments.models.is_empty() {
                arguments.model = None;
            }
            Cli { command: Command::Serve(arguments) }
        }
        Ok((cli, _)) => cli,
        Err(error) => {
            let error = with_hint(error);
            // If the terminal is closed, nothing can be done.
            let _ = error.print();
            return if error.use_stderr() { EXIT_USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    let code = match dispatch(cli.command, &environment) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => return ended(&error),
    };
    logging::flush();
    code
}

/// Adds the intended flag to the error of an unknown one that resembles another server's flag.
/// Words without a dash are models, so none is taken for a misspelt flag.
fn with_hint(mut error: clap::Error) -> clap::Error {
    error.remove(ContextKind::TrailingArg);
    error.remove(ContextKind::Suggested);
    if let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg)
        && let Some(meant) = config::meant_flag(flag.trim_start_matches('-'))
    {
        // It shows a flag that only has a similar name.
        error.remove(ContextKind::Usage);
        error.insert(ContextKind::SuggestedArg, ContextValue::String(format!("--{meant}")));
    }
    error
}

/// Whether `serve` takes its models from the environment; the command line has precedence.
fn model_is_of_variable(matches: &ArgMatches) -> bool {
    let serve = matches.subcommand_matches("serve");
    serve.is_some_and(|serve| serve.value_source("model") == Some(ValueSource::EnvVariable))
}

/// Refuses words without a flag in several positions of a command line, or beside `--model`: one of
/// them is probably a stray second value of the flag before it, such as a key, which must neither
/// be looked up as a model nor printed.
fn check_bare_words(matches: &ArgMatches) -> Result<(), clap::Error> {
    let Some(serve) = matches.subcommand_matches("serve") else { return Ok(()) };
    let positions: Vec<usize> = serve.indices_of("models").into_iter().flatten().collect();
    let apart = positions.windows(2).any(|two| two[1] != two[0] + 1);
    let beside =
        !positions.is_empty() && serve.value_source("model") == Some(ValueSource::CommandLine);
    if !apart && !beside {
        return Ok(());
    }
    let problem = "words without a flag are models: give them all in one place, or each with \
                   --model; separate several values of one flag with commas\n";
    Err(Cli::command().error(clap::error::ErrorKind::ValueValidation, problem))
}

/// Reports why a command failed, and returns its exit code.
fn ended(error: &CommandError) -> ExitCode {
    logging::say(&format!("proxima: {}", error.message));
    logging::flush();
    error.code.into()
}

fn dispatch(command: Command, environment: &Environment) -> Result<(), CommandError> {
    match command {
        Command::Serve(arguments) => serve::run(*arguments, environment),
        Command::Pull(arguments) => {
            logging::start(&LogSettings { format: LogFormat::Text, level: "warn".into() });
            let (id, revision) = config::model_id(&arguments.id)?;
            let revision = revision.or(arguments.revision).unwrap_or_else(|| "main".into());
            let hub = hub::Hub::new(&config::hub_settings(environment));
            let dir = shown(|show| hub.pull(&id, &revision, &show.begin(&id, Unit::Bytes)))?;
            write_out(&format!("{}\n", dir.display()))
        }
        Command::Embed(arguments) => {
            serve::end_programs_by_signal()?;
            let result = bulk::run(&arguments, environment);
            // Media programs of inputs after one that failed.
            end_programs();
            result
        }
        Command::Verify(arguments) => verify::run(&arguments, environment),
        Command::Admit(arguments) => admit::run(&arguments, environment),
        Command::Synth(arguments) => synth(&arguments),
        Command::Models(arguments) => models::run(&arguments, environment),
        Command::Health(arguments) => health::run(arguments),
        Command::Bench(arguments) => bench::run(&arguments, environment),
        Command::Openapi => write_out(&router::document()),
        Command::Completions { shell } => about::completions(Cli::command(), shell),
        Command::Man { out } => about::manual(Cli::command(), out.as_deref()),
        Command::Docs { document: DocsPage::Settings } => write_out(&config::example()),
        Command::Docs { document: DocsPage::Migrate } => write_out(&config::migrate_page()),
    }
}

fn synth(arguments: &SynthArgs) -> Result<(), CommandError> {
    let options = proxima_synth::SynthOptions {
        seed: arguments.seed,
        tokenizer: arguments.tokenizer.clone(),
    };
    proxima_synth::write(&arguments.name, &arguments.out, &options)
        .map_err(|error| CommandError::failure(error.to_string()))?;
    let tokenizer = arguments.tokenizer.as_ref();
    let tokenizer = tokenizer.map_or("a byte-level one".into(), |path| path.display().to_string());
    write_out(&format!("{} (random weights, tokenizer: {tokenizer})\n", arguments.out.display()))
}
