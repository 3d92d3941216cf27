//! Responses that are being sent. A request holds its permit until its response is written, so
//! clients that do not read could hold all permits: if none is left, the response that has not
//! moved for longest is cut off and its permit given to a new request.
//!
//! Must not know: what responses contain, who needs a permit.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::progress::SendProgress;

/// A response that has moved within this time is being read.
const READ_WITHIN: Duration = Duration::from_secs(1);

/// Holds a request's permit, which another request may take.
#[derive(Debug, Default)]
pub struct PermitSlot(Mutex<Option<OwnedSemaphorePermit>>);

impl PermitSlot {
    /// Stores a permit.
    pub fn put(&self, permit: OwnedSemaphorePermit) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(permit);
    }

    /// Takes the permit, for another request.
    pub fn take(&self) -> Option<OwnedSemaphorePermit> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// All responses that are being sent.
#[derive(Debug, Default)]
pub struct Outgoing {
    all: Mutex<VecDeque<OutgoingResponse>>,
}

#[derive(Debug)]
struct OutgoingResponse {
    permit: Weak<PermitSlot>,
    progress: Weak<SendProgress>,
}

impl Outgoing {
    /// Adds the response of a request that has a permit.
    pub fn add(&self, permit: &Arc<PermitSlot>, progress: &Arc<SendProgress>) {
        let answer =
            OutgoingResponse { permit: Arc::downgrade(permit), progress: Arc::downgrade(progress) };
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        // Those left hold a permit each, so their number is bounded.
        all.retain(|answer| answer.permit.strong_count() > 0);
        all.push_back(answer);
    }

    /// Cuts off the response that has not moved for longest and returns its permit; none if all are
    /// being read.
    pub fn cut_off_one(&self) -> Option<OwnedSemaphorePermit> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let still = all.iter().enumerate().filter_map(|(index, answer)| {
            let since = answer.progress.upgrade()?.waits_since()?;
            (now.saturating_duration_since(since) >= READ_WITHIN).then_some((since, index))
        });
        let (_, index) = still.min()?;
        let answer = all.remove(index)?;
        drop(all);
        let (permit, progress) = (answer.permit.upgrade()?, answer.progress.upgrade()?);
        let permit = permit.take();
        progress.give_up();
        permit
    }
}
