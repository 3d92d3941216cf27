//! How fast work of large requests leaves the queue: less than the device computes, as small
//! requests go first.
//!
//! Must not know: jobs, clocks.

use std::time::Duration;

/// Time over which it is measured: what was longer ago counts less and less.
const SPAN: f64 = 5.0;
/// Seconds of work that make a measure.
const SECONDS_MIN: f64 = 0.25;

/// The work that left, and the time in which it did; both fade.
#[derive(Debug, Default)]
pub struct Drain {
    cost: f64,
    seconds: f64,
}

impl Drain {
    /// Notes that so much work left in this time, while more of it waited.
    pub fn note(&mut self, cost: usize, took: Duration) {
        let seconds = took.as_secs_f64();
        let faded = (-seconds / SPAN).exp();
        self.cost = self.cost * faded + cost as f64;
        self.seconds = self.seconds * faded + seconds;
    }

    /// Work a second, once that is known.
    pub fn rate(&self) -> Option<f64> {
        (self.seconds >= SECONDS_MIN).then(|| self.cost / self.seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_that_falls_is_known_within_seconds() {
        let mut drain = Drain::default();
        assert_eq!(drain.rate(), None);
        let quarter = Duration::from_millis(250);
        (0..400).for_each(|_| drain.note(1_000, quarter));
        let rate = |drain: &Drain| drain.rate().expect("measured");
        assert!((rate(&drain) - 4_000.0).abs() < 1.0, "{}", rate(&drain));
        (0..40).for_each(|_| drain.note(250, quarter));
        assert!((1_000.0..1_500.0).contains(&rate(&drain)), "{}", rate(&drain));
        // One batch that is taken at once with another says little.
        let before = rate(&drain);
        drain.note(1_000, Duration::from_micros(1));
        assert!(rate(&drain) < before * 1.5, "{}", rate(&drain));
    }
}
