//! Measures how fast work of large requests leaves the queue. That is slower than the device
//! computes, as small requests go first.
//!
//! Must not know: jobs, clocks.

use std::time::Duration;

/// Time constant of the exponential decay, in seconds.
const SPAN: f64 = 5.0;
/// Seconds that must be observed before a rate is known.
const SECONDS_MIN: f64 = 0.25;

/// The work that left and the time it took, both decaying exponentially.
#[derive(Debug, Default)]
pub struct Drain {
    cost: f64,
    seconds: f64,
}

impl Drain {
    /// Records that work of this cost left in this time, while more was waiting.
    pub fn note(&mut self, cost: usize, took: Duration) {
        let seconds = took.as_secs_f64();
        let faded = (-seconds / SPAN).exp();
        self.cost = self.cost * faded + cost as f64;
        self.seconds = self.seconds * faded + seconds;
    }

    /// Work per second, once known.
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
        // A batch taken right after another hardly changes the rate.
        let before = rate(&drain);
        drain.note(1_000, Duration::from_micros(1));
        assert!(rate(&drain) < before * 1.5, "{}", rate(&drain));
    }
}
