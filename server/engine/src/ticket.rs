//! How long a request may wait before any of it is computed.
//!
//! Must not know: queues, batches, wire formats.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What a request's jobs have in common: whether one of them was taken to be computed. From then on
/// the request is answered, however long the rest of it takes.
#[derive(Debug, Default)]
pub struct Ticket {
    begun: AtomicBool,
}

impl Ticket {
    /// Work of the request is taken to be computed.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    /// Whether it was.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }
}

/// What came of work that had to begin in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLate;

/// What `work` gives, unless it has not begun within `limit`: then it is dropped. A limit of zero
/// is none: what was let in then waits for what runs, and for nothing else.
///
/// # Errors
/// `TooLate`.
pub async fn in_time<T>(
    limit: Limit,
    has_begun: impl Fn() -> bool,
    work: impl Future<Output = T>,
) -> Result<T, TooLate> {
    let Some(left) = limit.left() else { return Ok(work.await) };
    let late = async {
        tokio::time::sleep(left).await;
        if has_begun() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        biased;
        done = work => Ok(done),
        () = late => Err(TooLate),
    }
}

/// How long a request may wait, and for how long it did so before.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// In all.
    pub wait_max: Duration,
    /// Until now.
    pub waited: Duration,
}

impl Limit {
    /// What is left, if there is a limit.
    fn left(self) -> Option<Duration> {
        let has_one = !self.wait_max.is_zero() && self.wait_max != Duration::MAX;
        has_one.then(|| self.wait_max.saturating_sub(self.waited))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(10);

    fn limit(wait_max: Duration, waited: Duration) -> Limit {
        Limit { wait_max, waited }
    }

    #[tokio::test]
    async fn work_that_has_not_begun_in_time_is_given_up() {
        let never = || std::future::pending::<()>();
        assert_eq!(in_time(limit(SHORT, SHORT / 2), || false, never()).await, Err(TooLate));
        let later = || async { tokio::time::sleep(SHORT * 5).await };
        assert_eq!(in_time(limit(SHORT, SHORT * 9), || false, never()).await, Err(TooLate));
        // Once it has begun it may take as long as it takes.
        assert_eq!(in_time(limit(SHORT, Duration::ZERO), || true, later()).await, Ok(()));
        for none in [Duration::ZERO, Duration::MAX] {
            assert_eq!(in_time(limit(none, SHORT), || false, later()).await, Ok(()));
        }
    }
}
