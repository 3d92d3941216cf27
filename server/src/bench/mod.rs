//! `proxima bench`: measures the throughput and latency of a server.
//!
//! Must not know: how anything is computed.

pub mod load;
mod serving;

use std::time::Duration;

use clap::Args;

use crate::command::{CommandError, write_out};
use crate::config::{Environment, PrecisionName, Secret};
use crate::show::{Unit, shown};
use load::{LoadPlan, LoadTally};

/// Maximum kinds of errors shown.
const ERRORS_SHOWN: usize = 5;

/// What `proxima bench` takes.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// A server (`http://HOST:PORT`), or a model to serve and measure: a folder or a Hub id
    #[arg(value_name = "URL|MODEL")]
    target: String,
    /// Where to send: /embed, /v1/embeddings, /rerank ... [default: what the model is for; /embed]
    #[arg(long)]
    path: Option<String>,
    /// Name this model in requests
    #[arg(long, value_name = "NAME")]
    served_name: Option<String>,
    /// The server's key
    #[arg(long, env = "PROXIMA_API_KEY", hide_env_values = true)]
    api_key: Option<Secret>,
    /// Concurrent clients
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    clients: u16,
    /// Texts per request
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Requests of 1, 4, 16 and 64 texts in random order, instead of --batch
    #[arg(long)]
    mixed: bool,
    /// Words per text: from half this many to half more
    #[arg(long, default_value_t = 110)]
    words: u16,
    /// How long to send
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Requests per second of each client [default: as fast as they are answered]
    #[arg(long)]
    rate: Option<f64>,
    /// Encoding of vectors
    #[arg(long, default_value = "float")]
    encoding: String,
    /// Precision of the linear layers, if a model is given
    #[arg(long)]
    dtype: Option<PrecisionName>,
    /// Where to compute, if a model is given
    #[arg(long, env = "PROXIMA_DEVICE")]
    device: Option<String>,
    /// Compute threads, if a model is given [default: all physical cores]
    #[arg(long)]
    threads: Option<usize>,
}

/// Runs the command.
///
/// # Errors
/// A model that cannot be served, or a server that answers nothing or with errors.
pub fn run(arguments: &BenchArgs, environment: &Environment) -> Result<(), CommandError> {
    if arguments.rate.is_some_and(|rate| !(rate.is_finite() && rate > 0.0)) {
        return Err(CommandError::usage("--rate must be above 0"));
    }
    match address(&arguments.target)? {
        Some(address) => measure(arguments, &arguments.target, &address, "/embed"),
        None => serving::with_server(arguments, environment, |server| {
            let what = format!("{} on {}", arguments.target, server.on);
            measure(arguments, &what, &server.address.to_string(), server.path)
        }),
    }
}

/// Host and port of a server's address; `None` if the target is not an address.
fn address(target: &str) -> Result<Option<String>, CommandError> {
    let wrong = |problem: &str| CommandError::usage(format!("{target:?} {problem}"));
    if target.starts_with("https://") {
        return Err(wrong("uses TLS, whose cost would be measured too; give the plain HTTP URL"));
    }
    if !target.starts_with("http://") {
        return Ok(None);
    }
    let url = url::Url::parse(target).map_err(|error| wrong(&error.to_string()))?;
    let host = url.host_str().ok_or_else(|| wrong("names no host"))?;
    if url.path() != "/" || url.query().is_some() {
        return Err(wrong("has a path; give it with --path"));
    }
    Ok(Some(format!("{host}:{}", url.port_or_known_default().unwrap_or(80))))
}

fn measure(
    arguments: &BenchArgs,
    what: &str,
    address: &str,
    path: &str,
) -> Result<(), CommandError> {
    let load = LoadPlan {
        address: address.to_owned(),
        path: arguments.path.clone().unwrap_or_else(|| path.to_owned()),
        model: arguments.served_name.clone(),
        api_key: arguments.api_key.clone().map(|key| key.0),
        clients: arguments.clients.into(),
        batch: arguments.batch.into(),
        mixed: arguments.mixed,
        words: arguments.words.into(),
        time: Duration::from_secs(arguments.seconds.into()),
        rate: arguments.rate,
        encoding: arguments.encoding.clone(),
        // At a fixed rate, requests are due whether others are refused or not.
        waits: arguments.rate.is_none(),
    };
    let tally = shown(|show| load::run(&load, &show.begin(&load.path, Unit::Seconds)));
    write_out(&table(what, &load, &tally))?;
    let count = tally.errors.len();
    if count > 0 || tally.latencies.is_empty() {
        let mut kinds = tally.errors;
        kinds.dedup();
        kinds.truncate(ERRORS_SHOWN);
        let kinds = if kinds.is_empty() { "none was answered".into() } else { kinds.join(", ") };
        return Err(CommandError::failure(format!("{count} requests failed: {kinds}")));
    }
    Ok(())
}

fn table(what: &str, load: &LoadPlan, tally: &LoadTally) -> String {
    let sizes = tally.sizes();
    let batch = if load.mixed { "1 to 64".to_owned() } else { load.batch.to_string() };
    let mut lines = vec![
        what.to_owned(),
        format!(
            "{} by {} clients, {batch} texts per request, about {} words per text, {:.1} s",
            load.path,
            load.clients,
            load.words,
            tally.took.as_secs_f64()
        ),
        String::new(),
        format!("requests    {:>12}", tally.latencies.len()),
        format!("requests/s  {:>12.1}", tally.per_second(tally.latencies.len())),
        format!("texts/s     {:>12.1}", tally.per_second(tally.texts())),
        match tally.tokens {
            // Other servers do not report tokens.
            0 => format!("tokens/s    {:>12}", "-"),
            tokens => format!("tokens/s    {:>12.0}", tally.per_second(tokens)),
        },
        format!("refused     {:>12}", tally.refused),
        format!("errors      {:>12}", tally.errors.len()),
        String::new(),
        format!("{:<12}{:>12}{:>12}{:>12}{:>12}", "latency, ms", "p50", "p95", "p99", "max"),
    ];
    let row = |name: String, texts: Option<usize>| {
        let times = [0.5, 0.95, 0.99, 1.0].map(|share| tally.percentile(share, texts));
        let times: String = times.iter().map(|time| format!("{time:>12.2}")).collect();
        format!("{name:<12}{times}")
    };
    lines.push(row("all".to_owned(), None));
    if sizes.len() > 1 {
        lines.extend(sizes.into_iter().map(|size| row(format!("{size} texts"), Some(size))));
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests;
