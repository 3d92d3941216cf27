//! Prometheus metrics: under the server's own names with a `model` label, and under those of
//! text-embeddings-inference where they fit.
//!
//! What is counted for a request is also noted for its line in the access log.
//! Must not know: how anything is computed.

mod model;
mod process;

use std::sync::Arc;
use std::time::Instant;

use model::ModelMetrics;
use process::Process;
use prometheus::{
    Encoder as _, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder,
    histogram_opts, opts,
};
use proxima_engine::{Metrics, Timings};

use crate::failure::Failure;
use crate::noted::{note_failure, note_timings};

/// Histogram buckets in seconds, from half a millisecond to two minutes.
const SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0];
/// Histogram buckets for counts of tokens or sequences.
const COUNTS: [f64; 12] =
    [1.0, 4.0, 16.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0];

/// Failures that alerts watch. Their series exist from the start: a rate does not see the failure
/// that creates a series.
const WATCHED_KINDS: [&str; 5] = ["bug", "model", "overloaded", "timeout", "unhealthy"];

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
    ready: IntGaugeVec,
    process: Process,
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

fn responses(registry: &Registry) -> IntCounterVec {
    let told = "HTTP responses; 499 if the client disconnected first";
    let options = opts!("proxima_http_responses_total", told);
    family!(registry, IntCounterVec, options, &["path", "status"])
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
        let hub = Self {
            requests: counter("proxima_requests_total", "requests", &["model", "endpoint"]),
            errors: counter("proxima_errors_total", "failed requests", &["model", "kind"]),
            responses: responses(r),
            request_seconds: histogram(
                "proxima_request_seconds",
                "time of a request in the engine",
                &SECONDS,
                &["model", "endpoint"],
            ),
            request_tokens: counter("proxima_request_tokens_total", "tokens of requests", model),
            truncated: counter("proxima_truncated_inputs_total", "truncated inputs", model),
            queue: gauge("proxima_queue", "what is waiting", &["model", "unit"]),
            queue_seconds: histogram("proxima_queue_seconds", "wait for a batch", &SECONDS, model),
            tokenize_seconds: histogram(
                "proxima_tokenize_seconds",
                "tokenising one input",
                &SECONDS,
                model,
            ),
            tokenizer_wait: histogram(
                "proxima_tokenizer_wait_seconds",
                "wait for a tokenizer thread",
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
                "rows computed for them: fewer where sequences share a prefix",
                model,
            ),
            prefix: gauge("proxima_prefix_bytes", "cached keys and values of prefixes", model),
            events: counter(
                "proxima_events_total",
                "cache hits and misses, joined and dropped jobs, failed batches, bad rows, devices",
                &["model", "event"],
            ),
            cache: gauge("proxima_cache", "contents of the vector cache", &["model", "unit"]),
            tei,
            ready: gauge("proxima_model_ready", "whether the model is loaded and served", model),
            process: Process::new(r),
            registry,
        };
        hub.watch("");
        Arc::new(hub)
    }

    /// Creates the series that alerts watch. Requests refused before a model was chosen have an
    /// empty name.
    fn watch(&self, model: &str) {
        for kind in WATCHED_KINDS {
            self.errors.with_label_values(&[model, kind]);
        }
    }

    /// Sets whether a model is loaded and served.
    pub fn set_ready(&self, model: &str, is_ready: bool) {
        self.ready.with_label_values(&[model]).set(i64::from(is_ready));
    }

    /// The engine's view of the metrics of one model.
    pub fn for_model(&self, served_name: &str) -> Arc<dyn Metrics> {
        self.watch(served_name);
        Arc::new(ModelMetrics::new(self, served_name))
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

    /// Counts a forward pass of a health check that failed or took too long.
    pub fn check_failed(&self, model: &str) {
        self.errors.with_label_values(&[model, "unhealthy"]).inc();
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
        self.process.update();
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
        let queue_size = IntGauge::new("te_queue_size", "waiting jobs").expect("the name is valid");
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
