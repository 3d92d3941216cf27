//! Load on any server, with percentiles for each request size: as `proxima bench`, with output that
//! scripts can parse.
//!
//! `cargo run --release --example load -- --address 127.0.0.1:8080 --clients 4 --batch 32`

use std::time::Duration;

use clap::Parser;
use proxima::bench::load::{self, LoadPlan, LoadTally};
use proxima_models::Progress;

/// Sends texts to a server and measures.
#[derive(Debug, Clone, Parser)]
struct Arguments {
    /// Host and port
    #[arg(long, default_value = "127.0.0.1:8080")]
    address: String,
    /// The path: /embed or /v1/embeddings
    #[arg(long, default_value = "/embed")]
    path: String,
    /// Concurrent clients
    #[arg(long, default_value_t = 4)]
    clients: usize,
    /// Texts per request
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// Requests of 1, 4, 16 and 64 texts in turn, instead of --batch
    #[arg(long)]
    mixed: bool,
    /// Words per text: from half this many to half more
    #[arg(long, default_value_t = 110)]
    words: usize,
    /// How long to send
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Requests per second of each client (open loop); without it, as fast as answers come
    #[arg(long)]
    rate: Option<f64>,
    /// Encoding of vectors
    #[arg(long, default_value = "float")]
    encoding: String,
}

fn percentiles(tally: &LoadTally, size: usize) {
    let at = |share: f64| tally.percentile(share, Some(size));
    println!(
        "{size} texts: p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    );
}

fn main() -> std::process::ExitCode {
    let Arguments { address, path, clients, batch, mixed, words, seconds, rate, encoding } =
        Arguments::parse();
    let time = Duration::from_secs_f64(seconds);
    let (model, api_key) = (None, None);
    // What is measured under overload is the server, not clients that leave it alone for a while.
    let waits = false;
    let load = LoadPlan {
        address,
        path,
        model,
        api_key,
        clients,
        batch,
        mixed,
        words,
        time,
        rate,
        encoding,
        waits,
    };
    let tally = load::run(&load, &Progress::default());
    println!(
        "{} requests in {:.1} s, {} refused, {} errors: {:.0} texts/s, {:.0} tokens/s",
        tally.latencies.len(),
        tally.took.as_secs_f64(),
        tally.refused,
        tally.errors.len(),
        tally.per_second(tally.texts()),
        tally.per_second(tally.tokens)
    );
    tally.sizes().into_iter().for_each(|size| percentiles(&tally, size));
    let mut errors = tally.errors;
    errors.dedup();
    errors.iter().take(5).for_each(|error| println!("error: {error}"));
    std::process::ExitCode::from(u8::from(!errors.is_empty()))
}
