//! The limits of a request for what comes in messages: each message of a stream passes them.
//!
//! Must not know: any dialect's messages.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;

use super::{App, Failure};

/// What happens when as many requests are at work as may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// One more is refused.
    Refuse,
    /// One more waits.
    Wait,
}

impl App {
    /// Does work as a request: so many at a time, so long, and a bug in it is its own error.
    ///
    /// # Errors
    /// A limit that was reached, or what the work says.
    pub async fn within_limits<T>(
        &self,
        when_full: WhenFull,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let permitted = async {
            let permit = match when_full {
                WhenFull::Refuse => self.permits().try_acquire().ok(),
                WhenFull::Wait => self.permits().acquire().await.ok(),
            };
            let Some(_permit) = permit else {
                let failure = Failure::TooManyRequests { limit: self.config().requests_max };
                self.metrics().refused(&failure);
                return Err(failure);
            };
            AssertUnwindSafe(work).catch_unwind().await.unwrap_or(Err(Failure::Bug))
        };
        let limit = self.config().request_timeout;
        match tokio::time::timeout(limit, permitted).await {
            Ok(result) => result,
            Err(_) => {
                let failure = Failure::Timeout { limit };
                self.metrics().refused(&failure);
                Err(failure)
            }
        }
    }
}
