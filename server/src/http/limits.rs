//! The limits of a request, for what arrives as messages: each message of a stream passes them.
//!
//! Must not know: any dialect's messages.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use proxima_engine::ClientKey;
use tokio::time::Instant;

use super::scope::Scope;
use super::{App, Failure};

/// Smaller bodies are always parsed.
const BYTES_MIN: usize = 4 * 1024;
/// Paths whose requests do not wait for a device.
const NOT_QUEUED: [&str; 2] = ["/tokenize", "/decode"];

/// What happens at the limit of concurrent requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// Another request is refused.
    Refuse,
    /// Another request waits, as the messages of streams do.
    Wait,
}

impl App {
    /// Does work as a request of this client, within the limits of concurrency and time; a panic
    /// fails only this request. The returned scope must be held until the response is written.
    ///
    /// # Errors
    /// A limit that was reached, or the error of the work.
    pub async fn within_limits<T>(
        &self,
        client: ClientKey,
        when_full: WhenFull,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<(T, Arc<Scope>), Failure> {
        let limit = self.config().request_timeout;
        let scope = Scope::new(client, Instant::now() + limit);
        let permitted = async {
            if when_full == WhenFull::Wait
                && let Some(slot) = self.streams().enter(client).await
            {
                scope.keep(slot);
            }
            if when_full == WhenFull::Refuse {
                let share = self.take_share(client).inspect_err(|failure| {
                    self.metrics().refused(failure);
                })?;
                scope.keep_share(share);
            }
            let permit = match (self.take_permit(), when_full) {
                (None, WhenFull::Wait) => self.permits().clone().acquire_owned().await.ok(),
                (permit, _) => permit,
            };
            let Some(permit) = permit else {
                let failure = self.too_many_requests();
                self.metrics().refused(&failure);
                return Err(failure);
            };
            scope.hold(permit, self.outgoing());
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

    /// Checks, before its body is parsed, whether a request may be admitted: it may not if its
    /// engine would refuse it by the size of the body alone. The check costs next to nothing, so
    /// clients that retry at once cost no throughput. Admitted requests are counted exactly later.
    ///
    /// # Errors
    /// The refusal, with the time to retry.
    pub fn check_load(&self, path: &str, client: ClientKey, body: &[u8]) -> Result<(), Failure> {
        let registry = self.registry();
        if body.len() < BYTES_MIN
            || NOT_QUEUED.contains(&path)
            || registry.not_ready().next().is_some()
        {
            return Ok(());
        }
        let (texts, mut refusal) = (strings(body), None);
        // The model is not known yet, so all of them must refuse.
        for (_, engine) in registry.iter() {
            // Most bytes of a body with images are not text.
            if engine.info().media {
                return Ok(());
            }
            match engine.for_caller(client.into()).check_load(texts, body.len()) {
                Ok(()) => return Ok(()),
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        // Vectors in the request need no computation, however long they are.
        refusal.filter(|_| !has_vectors(body)).map_or(Ok(()), |error| Err(error.into()))
    }

    /// The failure of a request beyond the limit of concurrent requests.
    pub fn too_many_requests(&self) -> Failure {
        Failure::TooManyRequests { limit: self.config().requests_max }
    }
}

/// An upper bound of the strings in a JSON body: a pair of quotes each.
fn strings(body: &[u8]) -> usize {
    body.iter().filter(|byte| **byte == b'"').count() / 2
}

/// Whether a body contains vectors of documents.
fn has_vectors(body: &[u8]) -> bool {
    const KEY: &[u8] = b"\"document_embeddings\"";
    body.windows(KEY.len()).any(|window| window == KEY)
}
