//! The limits of a request for what comes in messages: each message of a stream passes them.
//!
//! Must not know: any dialect's messages.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use proxima_engine::ClientKey;
use tokio::time::Instant;

use super::scope::Scope;
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
    /// Does work as a request of this client: so many at a time, so long, and a bug in it is its
    /// own error. What the request holds is to be kept until the answer is written.
    ///
    /// # Errors
    /// A limit that was reached, or what the work says.
    pub async fn within_limits<T>(
        &self,
        client: ClientKey,
        when_full: WhenFull,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<(T, Arc<Scope>), Failure> {
        let limit = self.config().request_timeout;
        let scope = Scope::new(client, Instant::now() + limit);
        let permitted = async {
            let permits = self.permits().clone();
            let permit = match when_full {
                WhenFull::Refuse => permits.try_acquire_owned().ok(),
                WhenFull::Wait => permits.acquire_owned().await.ok(),
            };
            let Some(permit) = permit else {
                let failure = self.too_many_requests();
                self.metrics().refused(&failure);
                return Err(failure);
            };
            scope.hold(permit);
            AssertUnwindSafe(scope.run(work)).catch_unwind().await.unwrap_or(Err(Failure::Bug))
        };
        match tokio::time::timeout(limit, permitted).await {
            Ok(result) => result.map(|answer| (answer, scope)),
            Err(_) => {
                let failure = Failure::Timeout { limit };
                self.metrics().refused(&failure);
                Err(failure)
            }
        }
    }

    /// The failure of a request above the number of those at a time.
    pub fn too_many_requests(&self) -> Failure {
        Failure::TooManyRequests { limit: self.config().requests_max }
    }
}
