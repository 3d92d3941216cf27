//! The metrics that a model's engine observes.
//!
//! Must not know: how anything is computed.

use prometheus::{Histogram, IntCounter, IntGauge};
use proxima_engine::{DeviceEvent, Metrics, Observation};

use super::MetricsHub;

/// The metrics of one model, looked up once.
pub struct ModelMetrics {
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

impl ModelMetrics {
    /// The metrics of the model with this name.
    pub fn new(hub: &MetricsHub, served_name: &str) -> Self {
        let label = &[served_name];
        let event = |event: &str| hub.events.with_label_values(&[served_name, event]);
        Self {
            name: served_name.to_owned(),
            queue_jobs: hub.queue.with_label_values(&[served_name, "jobs"]),
            queue_tokens: hub.queue.with_label_values(&[served_name, "tokens"]),
            queue_seconds: hub.queue_seconds.with_label_values(label),
            tokenize_seconds: hub.tokenize_seconds.with_label_values(label),
            truncated: hub.truncated.with_label_values(label),
            tokenizer_wait: hub.tokenizer_wait.with_label_values(label),
            batch_tokens: hub.batch_tokens.with_label_values(label),
            batch_sequences: hub.batch_sequences.with_label_values(label),
            batch_seconds: hub.batch_seconds.with_label_values(label),
            tokens: hub.tokens.with_label_values(label),
            rows: hub.rows.with_label_values(label),
            prefix: hub.prefix.with_label_values(label),
            batch_failed: event("batch_failed"),
            not_finite: event("not_finite"),
            out_of_memory: event("out_of_memory"),
            device_failed: event("device_failed"),
            cache_hit: event("cache_hit"),
            cache_miss: event("cache_miss"),
            joined: event("joined"),
            dropped: event("dropped"),
            cache_entries: hub.cache.with_label_values(&[served_name, "entries"]),
            cache_bytes: hub.cache.with_label_values(&[served_name, "bytes"]),
            tei_queue_size: hub.tei.queue_size.clone(),
            tei_input_length: hub.tei.input_length.with_label_values(&[] as &[&str]),
        }
    }
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
                     memory; it is retried in halves, and batches are smaller from now on"
                );
            }
            DeviceEvent::Failed { device, reason } => {
                self.device_failed.inc();
                tracing::error!("model {model}: {device} failed: {reason}");
            }
            DeviceEvent::Restarted { device } => {
                tracing::warn!("model {model}: {device} was reopened and works again");
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
