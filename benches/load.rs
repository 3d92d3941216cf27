//! A load generator: clients that send texts over HTTP/1.1 as fast as they are answered, or at a
//! rate.
//!
//! `cargo run --release --example load -- --address 127.0.0.1:8080 --clients 4 --batch 32`
//! Prints requests, errors, texts and tokens a second, and percentiles of the latency.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use clap::Parser;

const WORDS: &str = "the a of to in on for with and or but time year people way day man thing \
    woman life child world school state family student group country problem hand part place \
    week company system program question work government number night point home water room";

/// Sends texts to a server and measures.
#[derive(Debug, Clone, Parser)]
struct Arguments {
    /// Host and port
    #[arg(long, default_value = "127.0.0.1:8080")]
    address: String,
    /// The path: /embed or /v1/embeddings
    #[arg(long, default_value = "/embed")]
    path: String,
    /// Clients at a time
    #[arg(long, default_value_t = 4)]
    clients: usize,
    /// Texts of a request
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// Requests of 1, 4, 16 and 64 texts by turns, instead of --batch
    #[arg(long)]
    mixed: bool,
    /// Words of a text: this many, half as many or half more
    #[arg(long, default_value_t = 110)]
    words: usize,
    /// How long to send
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Requests a second of each client (open loop); without it as fast as answers come
    #[arg(long)]
    rate: Option<f64>,
    /// How vectors are written
    #[arg(long, default_value = "float")]
    encoding: String,
}

#[derive(Default)]
struct Tally {
    latencies: Vec<(usize, Duration)>,
    texts: usize,
    tokens: usize,
    refused: usize,
    errors: Vec<String>,
}

struct Client {
    arguments: Arguments,
    stream: BufReader<TcpStream>,
    seed: u64,
    /// The server said that it closes the connection.
    closing: bool,
}

impl Client {
    fn connect(arguments: &Arguments, seed: u64) -> std::io::Result<Self> {
        let stream = TcpStream::connect(&arguments.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(600)))?;
        Ok(Self {
            arguments: arguments.clone(),
            stream: BufReader::new(stream),
            seed,
            closing: false,
        })
    }

    fn random(&mut self, below: usize) -> usize {
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) as usize % below.max(1)
    }

    fn body(&mut self, texts: usize) -> String {
        let words: Vec<&str> = WORDS.split_whitespace().collect();
        let half = self.arguments.words / 2;
        let mut list = Vec::with_capacity(texts);
        for _ in 0..texts {
            let count = (half + self.random(2 * half + 1)).max(1);
            let text: Vec<&str> = (0..count).map(|_| words[self.random(words.len())]).collect();
            list.push(format!("\"{}\"", text.join(" ")));
        }
        let field = if self.arguments.path.starts_with("/v1") { "input" } else { "inputs" };
        let encoding = &self.arguments.encoding;
        format!("{{\"{field}\":[{}],\"encoding_format\":\"{encoding}\"}}", list.join(","))
    }

    /// Sends a request; gives status and tokens once the whole answer is there.
    fn send(&mut self, texts: usize) -> std::io::Result<(u16, usize, Duration)> {
        let body = self.body(texts);
        let head = format!(
            "POST {} HTTP/1.1\r\nhost: load\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            self.arguments.path,
            body.len()
        );
        let started = Instant::now();
        self.stream.get_mut().write_all((head + &body).as_bytes())?;
        let broken = |what: &str| std::io::Error::other(format!("a broken answer: {what}"));
        let (mut status, mut length, mut tokens) = (0, None, 0);
        self.closing = false;
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(broken("the connection ended"));
            }
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(code) = line.strip_prefix("http/1.1 ") {
                status = code[..3].parse().map_err(|_| broken("no status"))?;
            } else if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().ok();
            } else if line == "connection: close" {
                self.closing = true;
            } else if let Some(value) = line.strip_prefix("x-compute-tokens: ") {
                tokens = value.parse().unwrap_or(0);
            }
        }
        let mut answer = vec![0; length.ok_or_else(|| broken("no length"))?];
        self.stream.read_exact(&mut answer)?;
        Ok((status, tokens, started.elapsed()))
    }

    fn run(mut self, until: Instant) -> Tally {
        let mut tally = Tally::default();
        let started = Instant::now();
        for turn in 0u32.. {
            if let Some(rate) = self.arguments.rate {
                let due = started + Duration::from_secs_f64(f64::from(turn) / rate);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            if self.closing || Instant::now() >= until {
                break;
            }
            let mixed = [1, 4, 16, 64][self.random(4)];
            let texts = if self.arguments.mixed { mixed } else { self.arguments.batch };
            match self.send(texts) {
                Ok((200, tokens, took)) => {
                    tally.latencies.push((texts, took));
                    tally.texts += texts;
                    tally.tokens += tokens;
                }
                // Refused because the server is full or stopping: said so, in order.
                Ok((429 | 503, ..)) => tally.refused += 1,
                Ok((status, ..)) => tally.errors.push(format!("status {status}")),
                Err(error) => {
                    tally.errors.push(error.to_string());
                    break;
                }
            }
        }
        tally
    }
}

fn percentiles(name: &str, mut latencies: Vec<Duration>) {
    latencies.sort();
    let at = |share: f64| {
        let last = latencies.len().saturating_sub(1);
        latencies.get((last as f64 * share) as usize).map_or(0.0, Duration::as_secs_f64) * 1e3
    };
    println!(
        "{name}: p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    );
}

fn main() -> std::process::ExitCode {
    let arguments = Arguments::parse();
    let started = Instant::now();
    let until = started + Duration::from_secs_f64(arguments.seconds);
    let clients: Vec<_> = (0..arguments.clients)
        .map(|index| {
            let client = Client::connect(&arguments, index as u64 * 7919 + 1);
            std::thread::spawn(move || client.map(|client| client.run(until)))
        })
        .collect();
    let mut all = Tally::default();
    for client in clients {
        match client.join().expect("no client panics") {
            Ok(tally) => {
                all.latencies.extend(tally.latencies);
                all.texts += tally.texts;
                all.tokens += tally.tokens;
                all.refused += tally.refused;
                all.errors.extend(tally.errors);
            }
            Err(error) => all.errors.push(format!("no connection: {error}")),
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{} requests in {seconds:.1} s, {} refused, {} errors: {:.0} texts/s, {:.0} tokens/s",
        all.latencies.len(),
        all.refused,
        all.errors.len(),
        all.texts as f64 / seconds,
        all.tokens as f64 / seconds
    );
    let mut sizes: Vec<usize> = all.latencies.iter().map(|(texts, _)| *texts).collect();
    sizes.sort_unstable();
    sizes.dedup();
    for size in sizes {
        let of_size = all.latencies.iter().filter(|(texts, _)| *texts == size);
        percentiles(&format!("{size} texts"), of_size.map(|(_, took)| *took).collect());
    }
    all.errors.sort();
    all.errors.dedup();
    all.errors.iter().take(5).for_each(|error| println!("error: {error}"));
    std::process::ExitCode::from(u8::from(!all.errors.is_empty()))
}
