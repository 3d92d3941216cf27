//! Measures how many tokens a batch should have on this device, when an engine starts.
//!
//! Must not know: requests, queues, what kind of device it is.

use std::time::{Duration, Instant};

use proxima_models::model::Readouts;
use proxima_models::readout::token_rows;
use proxima_models::{BatchRows, Model, ModelError, RaggedBatch, Sequence};

/// Tokens of the smallest batch that is tried.
pub const TOKENS_MIN: usize = 1_024;
/// Tokens of each sequence, as of a typical passage.
const TOKENS_OF_A_SEQUENCE: usize = 256;
/// Tokens of a short text.
const TOKENS_OF_A_QUERY: usize = 16;
/// A batch size that reaches this fraction of the best rate is large enough: with smaller batches,
/// others wait less.
const NEAR_ENOUGH: f64 = 0.97;
/// No larger batch is tried after this time.
const TIME_MAX: Duration = Duration::from_secs(5);

/// The result of a measurement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WarmUp {
    /// Tokens of a batch at which the device is close to its best rate.
    pub batch_tokens: usize,
    /// Tokens per second in such batches.
    pub tokens_per_second: f64,
    /// How long it took to measure.
    pub took: Duration,
}

/// Measures batches of increasing size, up to `tokens_max`. `None` if the best size is known
/// without measuring, or if even the smallest batch fails.
pub fn measure(model: &Model, tokens_max: usize) -> Option<WarmUp> {
    let BatchRows::AtMost(most) = model.info.batch_tokens else { return None };
    let started = Instant::now();
    let time = |tokens: usize| {
        let batch = sequences(model, tokens);
        // The first run includes planning and memory allocation on the device.
        compute(model, &batch).ok()?;
        let began = Instant::now();
        compute(model, &batch).ok()?;
        Some(began.elapsed())
    };
    // Prepares the device's plans for short texts, too.
    compute(model, &sequences(model, TOKENS_OF_A_QUERY.min(tokens_max))).ok()?;
    let sizes = sizes(most.min(tokens_max));
    let rates = rates(&sizes, time, || started.elapsed() < TIME_MAX);
    // Later batches may be smaller than the largest one tried.
    model.device.release_memory();
    let (batch_tokens, tokens_per_second) = best(&rates)?;
    Some(WarmUp { batch_tokens, tokens_per_second, took: started.elapsed() })
}

/// The sizes to try: powers of two times [`TOKENS_MIN`], then the largest allowed.
fn sizes(tokens_max: usize) -> Vec<usize> {
    let doubled = std::iter::successors(Some(TOKENS_MIN), |tokens| Some(tokens * 2));
    let mut sizes: Vec<usize> = doubled.take_while(|tokens| *tokens < tokens_max).collect();
    sizes.push(tokens_max);
    sizes
}

/// Tokens per second at each size, until one fails or there is no time left.
fn rates(
    sizes: &[usize],
    mut time: impl FnMut(usize) -> Option<Duration>,
    has_time: impl Fn() -> bool,
) -> Vec<(usize, f64)> {
    let mut rates = Vec::new();
    for &tokens in sizes {
        if !rates.is_empty() && !has_time() {
            break;
        }
        let Some(took) = time(tokens) else { break };
        rates.push((tokens, tokens as f64 / took.as_secs_f64().max(1e-9)));
    }
    rates
}

/// The smallest size whose rate is close enough to the best.
fn best(rates: &[(usize, f64)]) -> Option<(usize, f64)> {
    let fastest = rates.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
    rates.iter().copied().find(|(_, rate)| *rate >= NEAR_ENOUGH * fastest)
}

/// Passages of `tokens` tokens in total, without common prefixes.
fn sequences(model: &Model, tokens: usize) -> Vec<Sequence> {
    let length = TOKENS_OF_A_SEQUENCE.min(model.info.tokens_max).min(tokens).max(1);
    let ids = model.info.vocabulary.max(1);
    let sequences = (0..(tokens / length).max(1)).map(|index| {
        let tokens =
            (0..length).map(|position| ((index * 7 + position * 13) % ids) as u32).collect();
        Sequence { tokens, ..Sequence::default() }
    });
    sequences.collect()
}

/// Runs a batch as the worker does, including the readout.
fn compute(model: &Model, sequences: &[Sequence]) -> Result<(), ModelError> {
    let hidden = model.encoder.encode(&RaggedBatch::new(sequences))?;
    let sequences: Vec<&Sequence> = sequences.iter().collect();
    match &model.readouts {
        Readouts { embedding: Some(embedding), .. } => embedding.embed(&hidden).map(drop),
        Readouts { score: Some(score), .. } => score.logits(&hidden).map(drop),
        Readouts { sparse: Some(sparse), .. } => sparse.weights(&hidden, &sequences).map(drop),
        _ => token_rows(&hidden).map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rates of a device with a fixed time per batch and a time per token.
    fn device(fixed: f64, of_a_token: f64, largest: usize) -> Vec<(usize, f64)> {
        let time = |tokens: usize| {
            let seconds = fixed + of_a_token * tokens as f64;
            (tokens <= largest).then(|| Duration::from_secs_f64(seconds))
        };
        rates(&sizes(32_768), time, || true)
    }

    #[test]
    fn a_batch_is_as_small_as_it_can_be_at_full_speed() {
        assert_eq!(sizes(32_768), [1_024, 2_048, 4_096, 8_192, 16_384, 32_768]);
        assert_eq!(sizes(3_000), [1_024, 2_048, 3_000]);
        assert_eq!(sizes(500), [500]);
        // Without overhead the smallest batch is as good as any.
        assert_eq!(best(&device(0.0, 1e-6, usize::MAX)).expect("a size").0, 1_024);
        // 2 ms of overhead are 6 % of 32,768 tokens at a microsecond each, and 11 % of 16,384.
        let (tokens, rate) = best(&device(2e-3, 1e-6, usize::MAX)).expect("a size");
        assert_eq!(tokens, 32_768);
        assert!((rate - 32_768.0 / 0.034_768).abs() < 1.0, "{rate}");
        assert_eq!(best(&device(2e-4, 1e-6, usize::MAX)).expect("a size").0, 8_192);
    }

    #[test]
    fn what_does_not_fit_or_takes_too_long_is_not_chosen() {
        assert_eq!(best(&device(1.0, 1e-6, 4_096)).expect("a size").0, 4_096);
        assert_eq!(best(&device(1.0, 1e-6, 0)), None);
        let one = rates(&sizes(32_768), |_| Some(Duration::from_secs(9)), || false);
        assert_eq!(one.len(), 1);
    }
}
