//! Prometheus metrics: under the server's own names with a `model` label, and under those of
//! text-embeddings-inference where they fit.
//!
//! What is counted for a request is also noted for its line in the access log.
//! Must not know: how anything is computed.

use std::sync::Arc;
use std::time::Instant;

use prometheus::{
    Encoder as _, Gauge, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Registry, TextEncoder, core::Collector, histogram_opts, opts,
};
use proxima_engine::{DeviceEvent, Metrics, Observation, Timings};

use crate::failure::Failure;
use crate::logging;
use crate::noted::{note_failure, note_timings};

/// Histogram buckets in seconds, from half a millisecond to two minutes.
const SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0];
/// Histogram buckets for counts of tokens or sequences.
const COUNTS: [f64; 12] =
    [1.0, 4.0, 16.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0];

/// The kind of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// Vectors of one input.
    Single,
    /// Vectors of several inputs.
    Batch,
    /// Term weights.
    Sparse,
    /// One vector per token.
    Multi,
    /// Scores of documents.
    Rerank,
    /// Classes.
    Predict,
    /// Tokenization of texts.
    Tokenize,
    /// Decoding of token ids.
    Decode,
}

impl Endpoint {
    /// A request for vectors of this many inputs.
    pub fn embed(inputs: usize) -> Self {
        if inputs == 1 { Self::Single } else { Self::Batch }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Batch => "batch",
            Self::Sparse => "sparse",
            Self::Multi => "multi",
            Self::Rerank => "rerank",
            Self::Predict => "predict",
            Self::Tokenize => "tokenize",
            Self::Decode => "decode",
        }
    }
}

macro_rules! family {
    ($registry:expr, $kind:ty, $options:expr, $labels:expr) => {{
        let family = <$kind>::new($options, $labels).expect("names and labels are valid");
        $registry.register(Box::new(family.clone())).expect("names are different");
        family
    }};
}

/// All metrics of the process.
#[derive(Debug)]
pub struct MetricsHub {
    registry: Registry,
    requests: IntCounterVec,
    errors: IntCounterVec,
    responses: IntCounterVec,
    request_seconds: HistogramVec,
    request_tokens: IntCounterVec,
    truncated: IntCounterVec,
    queue: IntGaugeVec,
    queue_seconds: HistogramVec,
    tokenize_seconds: HistogramVec,
    tokenizer_wait: HistogramVec,
    batch_tokens: HistogramVec,
    batch_sequences: HistogramVec,
    batch_seconds: HistogramVec,
    tokens: IntCounterVec,
    rows: IntCounterVec,
    prefix: IntGaugeVec,
    events: IntCounterVec,
    cache: IntGaugeVec,
    tei: Tei,
    resident: Gauge,
    log_lost: IntCounter,
}

/// The metrics with the names of text-embeddings-inference.
#[derive(Debug)]
struct Tei {
    request_count: IntCounterVec,
    request_success: IntCounterVec,
    request_failure: IntCounterVec,
    request_duration: HistogramVec,
    embed_count: IntCounterVec,
    embed_success: IntCounterVec,
    queue_size: IntGauge,
    input_length: HistogramVec,
}

fn gauge_of(name: &str, help: &str) -> Gauge {
    Gauge::new(name, help).expect("the name is valid")
}

fn lost_lines() -> IntCounter {
    let lost = opts!("proxima_log_lines_lost_total", "lines that standard error did not take");
    IntCounter::with_opts(lost).expect("the name is valid")
}

fn responses(registry: &Registry) -> IntCounterVec {
    let told = "answers over HTTP; 499 if the client went away first";
    let options = opts!("proxima_http_responses_total", told);
    family!(registry, IntCounterVec, options, &["path", "status"])
}

/// Registers a metric without labels.
fn registered<M: Collector + Clone + 'static>(registry: &Registry, metric: M) -> M {
    registry.register(Box::new(metric.clone())).expect("names are different");
    metric
}

impl MetricsHub {
    /// Metrics without any values yet.
    pub fn new() -> Arc<Self> {
        let registry = Registry::new();
        let r = &registry;
        let model = &["model"];
        let counter = |name: &str, help: &str, labels: &[&str]| {
            family!(r, IntCounterVec, opts!(name, help), labels)
        };
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            family!(r, IntGaugeVec, opts!(name, help), labels)
        };
        let histogram = |name: &str, help: &str, buckets: &[f64], labels: &[&str]| {
            family!(r, HistogramVec, histogram_opts!(name, help, buckets.to_vec()), labels)
        };
        let tei = Tei::new(r);
        Arc::new(Self {
            requests: counter("proxima_requests_total", "requests", &["model", "endpoint"]),
            errors: counter("proxima_errors_total", "failed requests", &["model", "kind"]),
            responses: responses(r),
            request_seconds: histogram(
                "proxima_request_seconds",
                "time of a request in the engine",
                &SECONDS,
                &["model", "endpoint"],
            ),
            request_tokens: counter("proxima_request_tokens_total", "tokens asked for", model),
            truncated: counter("proxima_truncated_inputs_total", "inputs that were cut", model),
            queue: gauge("proxima_queue", "what waits", &["model", "unit"]),
            queue_seconds: histogram("proxima_queue_seconds", "wait for a batch", &SECONDS, model),
            tokenize_seconds: histogram(
                "proxima_tokenize_seconds",
                "tokenising one input",
                &SECONDS,
                model,
            ),
            tokenizer_wait: histogram(
                "proxima_tokenizer_wait_seconds",
                "wait for a thread that tokenises",
                &SECONDS,
                model,
            ),
            batch_tokens: histogram("proxima_batch_tokens", "tokens of a batch", &COUNTS, model),
            batch_sequences: histogram(
                "proxima_batch_sequences",
                "sequences of a batch",
                &COUNTS,
                model,
            ),
            batch_seconds: histogram("proxima_batch_seconds", "forward pass", &SECONDS, model),
            tokens: counter("proxima_tokens_total", "tokens of sequences that were run", model),
            rows: counter(
                "proxima_rows_total",
                "rows computed for them: fewer, where sequences share what they begin with",
                model,
            ),
            prefix: gauge("proxima_prefix_bytes", "keys and values kept of prefixes", model),
            events: counter(
                "proxima_events_total",
                "cache hits and misses, joined and dropped jobs, failed batches, bad rows, devices",
                &["model", "event"],
            ),
            cache: gauge("proxima_cache", "what the vector cache holds", &["model", "unit"]),
            tei,
            resident: registered(r, gauge_of("proxima_resident_bytes", "memory in RAM")),
            log_lost: registered(r, lost_lines()),
            registry,
        })
    }

    /// The engine's view of the metrics of one model.
    pub fn for_model(&self, served_name: &str) -> Arc<dyn Metrics> {
        let label = &[served_name];
        let event = |event: &str| self.events.with_label_values(&[served_name, event]);
        Arc::new(ModelMetrics {
            name: served_name.to_owned(),
            queue_jobs: self.queue.with_label_values(&[served_name, "jobs"]),
            queue_tokens: self.queue.with_label_values(&[served_name, "tokens"]),
            queue_seconds: self.queue_seconds.with_label_values(label),
            tokenize_seconds: self.tokenize_seconds.with_label_values(label),
            truncated: self.truncated.with_label_values(label),
            tokenizer_wait: self.tokenizer_wait.with_label_values(label),
            batch_tokens: self.batch_tokens.with_label_values(label),
            batch_sequences: self.batch_sequences.with_label_values(label),
            batch_seconds: self.batch_seconds.with_label_values(label),
            tokens: self.tokens.with_label_values(label),
            rows: self.rows.with_label_values(label),
            prefix: self.prefix.with_label_values(label),
            batch_failed: event("batch_failed"),
            not_finite: event("not_finite"),
            out_of_memory: event("out_of_memory"),
            device_failed: event("device_failed"),
            cache_hit: event("cache_hit"),
            cache_miss: event("cache_miss"),
            joined: event("joined"),
            dropped: event("dropped"),
            cache_entries: self.cache.with_label_values(&[served_name, "entries"]),
            cache_bytes: self.cache.with_label_values(&[served_name, "bytes"]),
            tei_queue_size: self.tei.queue_size.clone(),
            tei_input_length: self.tei.input_length.with_label_values(&[] as &[&str]),
        })
    }

    /// Starts to measure a request.
    pub fn request<'a>(&'a self, model: &'a str, endpoint: Endpoint) -> RequestMeasure<'a> {
        self.requests.with_label_values(&[model, endpoint.name()]).inc();
        self.tei.request_count.with_label_values(&[endpoint.name()]).inc();
        RequestMeasure { hub: self, model, endpoint, started: Instant::now() }
    }

    /// Counts a request that was refused before an engine saw it.
    pub fn refused(&self, failure: &Failure) {
        note_failure(failure);
        self.errors.with_label_values(&["", failure.kind()]).inc();
        self.tei.request_failure.with_label_values(&[failure.kind()]).inc();
    }

    /// Counts a finished HTTP response by its route, if it has one, and its status.
    pub fn responded(&self, route: Option<&str>, status: u16) {
        let path = route.unwrap_or("other");
        self.responses.with_label_values(&[path, &status.to_string()]).inc();
    }

    /// Records an answered request for which tokens were computed.
    pub fn answered(&self, model: &str, timings: &Timings) {
        note_timings(timings);
        self.request_tokens.with_label_values(&[model]).inc_by(timings.n_tokens as u64);
    }

    /// Records an answered request for vectors.
    pub fn embedded(&self, model: &str, timings: &Timings) {
        self.answered(model, timings);
        self.tei.embed_count.with_label_values(&[] as &[&str]).inc();
        self.tei.embed_success.with_label_values(&[] as &[&str]).inc();
    }

    /// All metrics in the Prometheus text format.
    pub fn text(&self) -> String {
        self.resident.set(resident_bytes());
        self.log_lost.inc_by(logging::lost().saturating_sub(self.log_lost.get()));
        let mut text = Vec::new();
        let written = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        written.expect("a vector takes all that is written");
        String::from_utf8(text).expect("the text format is UTF-8")
    }
}

impl Tei {
    fn new(r: &Registry) -> Self {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            family!(r, IntCounterVec, opts!(name, help), labels)
        };
        let queue_size =
            IntGauge::new("te_queue_size", "jobs that wait").expect("the name is valid");
        r.register(Box::new(queue_size.clone())).expect("names are different");
        let seconds = histogram_opts!("te_request_duration", "time of a request", SECONDS.to_vec());
        let length =
            histogram_opts!("te_request_input_length", "tokens of an input", COUNTS.to_vec());
        Self {
            request_count: counter("te_request_count", "requests", &["method"]),
            request_success: counter("te_request_success", "answered requests", &["method"]),
            request_failure: counter("te_request_failure", "failed requests", &["err"]),
            request_duration: family!(r, HistogramVec, seconds, &["method"]),
            embed_count: counter("te_embed_count", "requests for vectors", &[]),
            embed_success: counter("te_embed_success", "answered requests for vectors", &[]),
            queue_size,
            input_length: family!(r, HistogramVec, length, &[]),
        }
    }
}

/// Resident memory of this process in bytes; 0 if the system does not say.
fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().split(' ').next()?.parse::<f64>().ok());
    kilobytes.unwrap_or(0.0) * 1024.0
}

/// A request being measured.
pub struct RequestMeasure<'a> {
    hub: &'a MetricsHub,
    model: &'a str,
    endpoint: Endpoint,
    started: Instant,
}

impl RequestMeasure<'_> {
    /// The request was answered.
    pub fn succeeded(self) {
        self.hub.tei.request_success.with_label_values(&[self.endpoint.name()]).inc();
        self.took();
    }

    /// The request failed.
    pub fn failed(self, failure: &Failure) {
        note_failure(failure);
        self.hub.errors.with_label_values(&[self.model, failure.kind()]).inc();
        self.hub.tei.request_failure.with_label_values(&[failure.kind()]).inc();
        self.took();
    }

    fn took(&self) {
        let (seconds, endpoint) = (self.started.elapsed().as_secs_f64(), self.endpoint.name());
        self.hub.request_seconds.with_label_values(&[self.model, endpoint]).observe(seconds);
        self.hub.tei.request_duration.with_label_values(&[endpoint]).observe(seconds);
    }
}

/// The metrics of one model, looked up once.
struct ModelMetrics {
    name: String,
    queue_jobs: IntGauge,
    queue_tokens: IntGauge,
    queue_seconds: Histogram,
    tokenize_seconds: Histogram,
    truncated: IntCounter,
    tokenizer_wait: Histogram,
    batch_tokens: Histogram,
    batch_sequences: Histogram,
    batch_seconds: Histogram,
    tokens: IntCounter,
    rows: IntCounter,
    prefix: IntGauge,
    batch_failed: IntCounter,
    not_finite: IntCounter,
    out_of_memory: IntCounter,
    device_failed: IntCounter,
    cache_hit: IntCounter,
    cache_miss: IntCounter,
    joined: IntCounter,
    dropped: IntCounter,
    cache_entries: IntGauge,
    cache_bytes: IntGauge,
    tei_queue_size: IntGauge,
    tei_input_length: Histogram,
}

impl Metrics for ModelMetrics {
    fn device(&self, event: DeviceEvent<'_>) {
        let model = &self.name;
        match event {
            DeviceEvent::Measured(measured) => tracing::info!(
                "model {model}: {:.0} tokens/s in batches of {} tokens, measured in {:.1} s",
                measured.tokens_per_second,
                measured.batch_tokens,
                measured.took.as_secs_f64(),
            ),
            DeviceEvent::OutOfMemory { sequences } => {
                self.out_of_memory.inc();
                tracing::warn!(
                    "model {model}: a batch of {sequences} inputs does not fit into the device's \
                     memory; its halves are tried, and batches are smaller from now on"
                );
            }
            DeviceEvent::Failed { device, reason } => {
                self.device_failed.inc();
                tracing::error!("model {model}: {device} failed: {reason}");
            }
            DeviceEvent::Restarted { device } => {
                tracing::warn!("model {model}: {device} was opened anew and computes again");
            }
            DeviceEvent::Lost { device, reason } => {
                tracing::error!("model {model}: {device} is lost: {reason}");
            }
            _ => {}
        }
    }

    fn observe(&self, observation: Observation) {
        match observation {
            Observation::QueueDepth { jobs, tokens } => {
                self.queue_jobs.set(jobs as i64);
                self.queue_tokens.set(tokens as i64);
                self.tei_queue_size.set(jobs as i64);
            }
            Observation::Tokenized { tokens, is_cut, took } => {
                self.truncated.inc_by(u64::from(is_cut));
                self.tokenize_seconds.observe(took.as_secs_f64());
                self.tei_input_length.observe(tokens as f64);
            }
            Observation::TokenizerWait { waited } => {
                self.tokenizer_wait.observe(waited.as_secs_f64());
            }
            Observation::Dequeued { waited } => self.queue_seconds.observe(waited.as_secs_f64()),
            Observation::Batch { sequences, tokens, rows, took } => {
                self.batch_sequences.observe(sequences as f64);
                self.batch_tokens.observe(tokens as f64);
                self.batch_seconds.observe(took.as_secs_f64());
                self.tokens.inc_by(tokens as u64);
                self.rows.inc_by(rows as u64);
            }
            Observation::BatchFailed { .. } => self.batch_failed.inc(),
            Observation::NotFinite => self.not_finite.inc(),
            Observation::CacheHit => self.cache_hit.inc(),
            Observation::CacheMiss => self.cache_miss.inc(),
            Observation::CacheSize { entries, bytes } => {
                self.cache_entries.set(entries as i64);
                self.cache_bytes.set(bytes as i64);
            }
            Observation::PrefixSize { bytes } => self.prefix.set(bytes as i64),
            Observation::Joined => self.joined.inc(),
            Observation::Dropped => self.dropped.inc(),
            _ => {}
        }
    }
}
