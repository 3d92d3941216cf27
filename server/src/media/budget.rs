//! Byte budgets of files: of each request, and of all requests together.
//!
//! Must not know: where files come from.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

use super::SourceError;

/// The byte budget of all requests that are still obtaining files.
#[derive(Debug)]
pub struct HeldBytes {
    left: AtomicUsize,
}

impl HeldBytes {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { left: AtomicUsize::new(limit) }
    }
}

/// The byte budget of one request's files: URLs are short but their files are not, so the limit on
/// the request body does not bound them. Bytes are taken as they arrive and released on drop; from
/// then on the engine counts them.
#[derive(Debug)]
pub struct MediaBudget {
    limit: usize,
    left: AtomicUsize,
    held: Arc<HeldBytes>,
    /// Permits for concurrent fetches of the request.
    pub fetches: Semaphore,
    /// Permits for concurrent fetches of its client.
    pub share: Arc<Semaphore>,
}

impl MediaBudget {
    /// The budget of a request that may have `limit` bytes and `fetches` concurrent fetches, and
    /// whose client has `share` of all fetches.
    pub fn new(limit: usize, fetches: usize, share: Arc<Semaphore>, held: &Arc<HeldBytes>) -> Self {
        let (left, fetches) = (AtomicUsize::new(limit), Semaphore::new(fetches));
        Self { limit, left, held: held.clone(), fetches, share }
    }

    /// Takes bytes for a file.
    ///
    /// # Errors
    /// [`SourceError::TooMuch`] if the request has fewer left, [`SourceError::Busy`] if all
    /// requests together have.
    pub fn take(&self, bytes: usize) -> Result<(), SourceError> {
        if !taken(&self.left, bytes) {
            return Err(SourceError::TooMuch { limit: self.limit });
        }
        if !taken(&self.held.left, bytes) {
            self.left.fetch_add(bytes, Ordering::Relaxed);
            return Err(SourceError::Busy);
        }
        Ok(())
    }
}

impl Drop for MediaBudget {
    fn drop(&mut self) {
        let taken = self.limit - self.left.load(Ordering::Relaxed);
        self.held.left.fetch_add(taken, Ordering::Relaxed);
    }
}

/// Takes `bytes` from `left`; false if there are fewer.
fn taken(left: &AtomicUsize, bytes: usize) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes)).is_ok()
}
