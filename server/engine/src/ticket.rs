//! Whose request it is, and how long it may wait before any of it is computed.
//!
//! Must not know: queues, batches, wire formats.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::fair::ClientKey;

/// Whose request it is.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// The client; clients take turns.
    pub client: ClientKey,
    /// The request's id, for the log.
    pub request_id: Option<Arc<str>>,
}

impl From<ClientKey> for Caller {
    fn from(client: ClientKey) -> Self {
        Self { client, request_id: None }
    }
}

/// Shared by the jobs of a request: whether a worker has started on any of them. From then on the
/// request does not time out, however long the rest of it takes.
#[derive(Debug, Default)]
pub struct Ticket {
    begun: AtomicBool,
    request_id: Option<Arc<str>>,
}

impl Ticket {
    /// The ticket of a request that has just arrived.
    pub fn of(caller: &Caller) -> Arc<Self> {
        Arc::new(Self { begun: AtomicBool::new(false), request_id: caller.request_id.clone() })
    }

    /// The request's id, for what workers log about its jobs.
    pub fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }

    /// Marks the request as started.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    /// Whether the request has started.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }
}

/// The work had not started in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLate;

/// Runs `work`, or drops it if it has not started within `limit`. There is no limit at zero, where
/// a request is only admitted if it has nothing but running work to wait for.
///
/// # Errors
/// [`TooLate`] if the work was dropped.
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

/// How long a request may wait, and how long it has waited before.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// Maximum wait in total; zero or [`Duration::MAX`] for no limit.
    pub wait_max: Duration,
    /// Time waited so far.
    pub waited: Duration,
}

impl Limit {
    /// The time left, if there is a limit.
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
        // Once started, it may take any amount of time.
        assert_eq!(in_time(limit(SHORT, Duration::ZERO), || true, later()).await, Ok(()));
        for none in [Duration::ZERO, Duration::MAX] {
            assert_eq!(in_time(limit(none, SHORT), || false, later()).await, Ok(()));
        }
    }
}
