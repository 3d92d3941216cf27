//! How much the files of requests may have: each request's, and those of all together.
//!
//! Must not know: where files come from.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

use super::SourceError;

/// Bytes of the files of all requests that are being got together.
#[derive(Debug)]
pub struct Held {
    left: AtomicUsize,
}

impl Held {
    /// Room for so many.
    pub fn new(limit: usize) -> Self {
        Self { left: AtomicUsize::new(limit) }
    }
}

/// Bytes that the files of one request may have together: addresses are short, what they lead to
/// is not, so the size of its body bounds nothing. Taken as they come, and given back when this is
/// dropped: from then on the engine counts them.
#[derive(Debug)]
pub struct MediaBudget {
    limit: usize,
    left: AtomicUsize,
    held: Arc<Held>,
    /// Files of the request that may be fetched at a time.
    pub fetches: Semaphore,
    /// Files of its client that may be fetched at a time.
    pub share: Arc<Semaphore>,
}

impl MediaBudget {
    /// Of a request that may have so many bytes and fetch so many files at a time, of a client with
    /// this share of all fetches.
    pub fn new(limit: usize, fetches: usize, share: Arc<Semaphore>, held: &Arc<Held>) -> Self {
        let (left, fetches) = (AtomicUsize::new(limit), Semaphore::new(fetches));
        Self { limit, left, held: held.clone(), fetches, share }
    }

    /// Takes bytes of a file.
    ///
    /// # Errors
    /// [`SourceError::TooMuch`] if the request has less left, [`SourceError::Busy`] if all have.
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

/// Whether there were so many, which are taken.
fn taken(left: &AtomicUsize, bytes: usize) -> bool {
    let rest = |left: usize| left.checked_sub(bytes);
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest).is_ok()
}
