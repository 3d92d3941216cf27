//! A load generator: clients that send texts over HTTP/1.1 as fast as they are answered, or at a
//! fixed rate, and record the results.
//!
//! Must not know: which server is measured, what is done with the results.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use proxima_models::Progress;

const WORDS: &str = "the a of to in on for with and or but time year people way day man thing \
    woman life child world school state family student group country problem hand part place \
    week company system program question work government number night point home water room";

/// How often the progress is told.
const TICK: Duration = Duration::from_millis(200);
/// Timeout for bytes of a response.
const READ_TIMEOUT: Duration = Duration::from_secs(600);
/// Maximum bytes of a response; one that declares more is broken.
const ANSWER_BYTES_MAX: usize = 1 << 30;
/// Maximum bytes read of an error's body, and maximum characters shown of it.
const ERROR_BYTES_MAX: usize = 64 * 1024;
const ERROR_CHARS: usize = 300;

/// What is sent, how and for how long.
#[derive(Debug, Clone)]
pub struct LoadPlan {
    /// Host and port.
    pub address: String,
    /// The path, which determines the form of a body.
    pub path: String,
    /// The model to name in requests, if any.
    pub model: Option<String>,
    /// A key to send.
    pub api_key: Option<String>,
    /// Concurrent clients, each with a connection.
    pub clients: usize,
    /// Texts per request.
    pub batch: usize,
    /// Requests of 1, 4, 16 and 64 texts in random order, instead of `batch`.
    pub mixed: bool,
    /// Words per text: this many, from half as many to half more.
    pub words: usize,
    /// How long to send.
    pub time: Duration,
    /// Requests per second of each client; if absent, as fast as responses arrive.
    pub rate: Option<f64>,
    /// How vectors are written.
    pub encoding: String,
    /// Whether a client whose request was refused waits as long as `Retry-After` says, as users'
    /// clients do.
    pub waits: bool,
}

/// The results of clients.
#[derive(Debug, Default)]
pub struct LoadTally {
    /// Size and latency of each answered request.
    pub latencies: Vec<Latency>,
    /// Tokens, if the server reports them.
    pub tokens: usize,
    /// Requests refused for lack of capacity, or because the server is stopping.
    pub refused: usize,
    /// Other errors.
    pub errors: Vec<String>,
    /// Duration of the run.
    pub took: Duration,
}

/// An answered request.
#[derive(Debug, Clone, Copy)]
pub struct Latency {
    /// The number of its texts.
    pub texts: usize,
    /// From its first byte to the last of its response.
    pub took: Duration,
}

impl LoadTally {
    /// Texts of all answered requests.
    pub fn texts(&self) -> usize {
        self.latencies.iter().map(|latency| latency.texts).sum()
    }

    /// A count, per second.
    pub fn per_second(&self, count: usize) -> f64 {
        count as f64 / self.took.as_secs_f64().max(1e-9)
    }

    /// The latency, in milliseconds, that this share of the requests did not exceed; of requests of
    /// one size, or of all.
    pub fn percentile(&self, share: f64, texts: Option<usize>) -> f64 {
        let of_size =
            self.latencies.iter().filter(|latency| texts.is_none_or(|size| size == latency.texts));
        let mut times: Vec<Duration> = of_size.map(|latency| latency.took).collect();
        times.sort();
        // The nearest rank: of few requests, the largest latency is the 99th percentile.
        let rank = (times.len() as f64 * share).ceil() as usize;
        times.get(rank.max(1) - 1).map_or(0.0, Duration::as_secs_f64) * 1e3
    }

    /// The distinct sizes of answered requests.
    pub fn sizes(&self) -> Vec<usize> {
        let mut sizes: Vec<usize> = self.latencies.iter().map(|latency| latency.texts).collect();
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }

    fn add(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.tokens += other.tokens;
        self.refused += other.refused;
        self.errors.extend(other.errors);
    }
}

/// Sends the load, and returns the results of all clients. The progress is the time, in seconds.
pub fn run(load: &LoadPlan, progress: &Progress) -> LoadTally {
    let started = Instant::now();
    let until = started + load.time;
    let mut all = LoadTally::default();
    std::thread::scope(|scope| {
        let (end, ended) = mpsc::channel::<()>();
        scope.spawn(move || {
            while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                let done = started.elapsed().min(load.time);
                progress.set(done.as_secs(), load.time.as_secs());
            }
        });
        let begin = |index: usize| {
            scope.spawn(move || {
                LoadClient::connect(load, index as u64 * 7919 + 1).map(|client| client.run(until))
            })
        };
        let clients: Vec<_> = (0..load.clients).map(begin).collect();
        for client in clients {
            match client.join() {
                Ok(Ok(tally)) => all.add(tally),
                Ok(Err(error)) => all.errors.push(format!("no connection: {error}")),
                Err(_) => all.errors.push("a client panicked".to_owned()),
            }
        }
        drop(end);
    });
    all.took = started.elapsed();
    all.errors.sort();
    all
}

struct LoadClient<'a> {
    load: &'a LoadPlan,
    stream: BufReader<TcpStream>,
    seed: u64,
    /// Whether the server announced that it closes the connection.
    closing: bool,
}

/// What is needed of a response's head.
#[derive(Debug, Default)]
struct Head {
    status: u16,
    length: Option<usize>,
    chunked: bool,
    tokens: usize,
    /// When to retry.
    retry_after: Duration,
    /// The beginning of an error's body.
    said: String,
}

impl<'a> LoadClient<'a> {
    fn connect(load: &'a LoadPlan, seed: u64) -> io::Result<Self> {
        let stream = TcpStream::connect(&load.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(READ_TIMEOUT))?;
        Ok(Self { load, stream: BufReader::new(stream), seed, closing: false })
    }

    fn random(&mut self, below: usize) -> usize {
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) as usize % below.max(1)
    }

    fn text(&mut self) -> String {
        let words: Vec<&str> = WORDS.split_whitespace().collect();
        let half = self.load.words / 2;
        let count = (half + self.random(2 * half + 1)).max(1);
        let text: Vec<&str> = (0..count).map(|_| words[self.random(words.len())]).collect();
        text.join(" ")
    }

    fn body(&mut self, texts: usize) -> String {
        let list: Vec<String> = (0..texts).map(|_| self.text()).collect();
        let (path, encoding) = (&self.load.path, &self.load.encoding);
        let mut body = match path.as_str() {
            path if path.ends_with("rerank") => {
                let key = if path.starts_with("/v") { "documents" } else { "texts" };
                serde_json::json!({ "query": "what people do at home", key: list })
            }
            path if path.starts_with("/v1") => {
                serde_json::json!({ "input": list, "encoding_format": encoding })
            }
            path if path.starts_with("/predict") => {
                let list: Vec<[String; 1]> = list.into_iter().map(|text| [text]).collect();
                serde_json::json!({ "inputs": list })
            }
            "/embed" => serde_json::json!({ "inputs": list, "encoding_format": encoding }),
            _ => serde_json::json!({ "inputs": list }),
        };
        if let Some(model) = &self.load.model {
            body["model"] = model.as_str().into();
        }
        body.to_string()
    }

    /// Sends a request; returns its head and latency once the whole response has arrived.
    fn send(&mut self, texts: usize) -> io::Result<(Head, Duration)> {
        let body = self.body(texts);
        let (path, address) = (&self.load.path, &self.load.address);
        let key = self.load.api_key.as_ref();
        let key = key.map_or_else(String::new, |key| format!("authorization: Bearer {key}\r\n"));
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\n{key}content-type: application/json\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        );
        let started = Instant::now();
        self.stream.get_mut().write_all((head + &body).as_bytes())?;
        let mut head = self.head()?;
        match head.length {
            Some(length) if head.status != 200 && length <= ERROR_BYTES_MAX => {
                let mut body = vec![0; length];
                self.stream.read_exact(&mut body)?;
                let text = String::from_utf8_lossy(&body);
                head.said = text.trim().chars().take(ERROR_CHARS).collect();
            }
            _ if head.chunked => self.skip_chunks()?,
            Some(length) => self.skip(length)?,
            None => return Err(broken("no length")),
        }
        Ok((head, started.elapsed()))
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line)? {
            0 => Err(broken("the connection ended")),
            _ => Ok(line.trim_end().to_ascii_lowercase()),
        }
    }

    fn head(&mut self) -> io::Result<Head> {
        let mut head = Head::default();
        self.closing = false;
        loop {
            let line = self.line()?;
            if let Some(code) = line.strip_prefix("http/1.1 ") {
                let code = code.get(..3).and_then(|code| code.parse().ok());
                head.status = code.ok_or_else(|| broken("no status"))?;
                continue;
            }
            match line.split_once(": ") {
                Some(("content-length", value)) => head.length = value.parse().ok(),
                Some(("transfer-encoding", "chunked")) => head.chunked = true,
                Some(("retry-after", value)) => {
                    let seconds: u64 = value.parse().unwrap_or(0);
                    head.retry_after = Duration::from_secs(seconds);
                }
                Some(("connection", "close")) => self.closing = true,
                Some(("x-compute-tokens", value)) => head.tokens = value.parse().unwrap_or(0),
                Some(_) => {}
                // The end of an interim response; the final one follows.
                None if head.status == 100 => {}
                None => return Ok(head),
            }
        }
    }

    fn skip(&mut self, bytes: usize) -> io::Result<()> {
        if bytes > ANSWER_BYTES_MAX {
            return Err(broken("too long"));
        }
        let mut part = (&mut self.stream).take(bytes as u64);
        let read = io::copy(&mut part, &mut io::sink())?;
        if read == bytes as u64 { Ok(()) } else { Err(broken("the connection ended")) }
    }

    fn skip_chunks(&mut self) -> io::Result<()> {
        loop {
            let line = self.line()?;
            let length = usize::from_str_radix(line.split(';').next().unwrap_or_default(), 16);
            let length = length.map_err(|_| broken("no chunk length"))?;
            // Including the line break after it.
            self.skip(length.saturating_add(2))?;
            if length == 0 {
                return Ok(());
            }
        }
    }

    fn run(mut self, until: Instant) -> LoadTally {
        let mut tally = LoadTally::default();
        let started = Instant::now();
        for turn in 0u32.. {
            if let Some(rate) = self.load.rate {
                let due = started + Duration::from_secs_f64(f64::from(turn) / rate);
                wait_until(due);
            }
            if self.closing || Instant::now() >= until {
                break;
            }
            let mixed = [1, 4, 16, 64][self.random(4)];
            let texts = if self.load.mixed { mixed } else { self.load.batch };
            match self.send(texts) {
                Ok((Head { status: 200, tokens, .. }, took)) => {
                    tally.latencies.push(Latency { texts, took });
                    tally.tokens += tokens;
                }
                // Refused properly, because the server is full or stopping.
                Ok((Head { status: 429 | 503, retry_after, .. }, _)) => {
                    tally.refused += 1;
                    if self.load.waits {
                        let then = Instant::now().checked_add(retry_after);
                        wait_until(then.map_or(until, |then| then.min(until)));
                    }
                }
                Ok((Head { status, said, .. }, _)) => {
                    tally.errors.push(format!("status {status} {said}").trim_end().to_owned());
                }
                Err(error) => {
                    tally.errors.push(error.to_string());
                    break;
                }
            }
        }
        tally
    }
}

/// Sleeps until `due`; spurious wake-ups are ignored.
fn wait_until(due: Instant) {
    while let Some(left) = due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    {
        std::thread::park_timeout(left);
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::other(format!("a malformed response: {what}"))
}
