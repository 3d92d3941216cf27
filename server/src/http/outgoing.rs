//! Answers that are on their way to their clients. A request keeps its permit until its answer is
//! written, so clients that do not read could keep all permits: where none is left, the answer
//! that has not moved for longest is cut off and its permit given to a new request.
//!
//! Must not know: what answers say, who asks for a permit.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::progress::Progress;

/// An answer that has moved within this time is being read.
const READ_WITHIN: Duration = Duration::from_secs(1);

/// Where a request keeps its permit, from which another may take it.
#[derive(Debug, Default)]
pub struct PermitSlot(Mutex<Option<OwnedSemaphorePermit>>);

impl PermitSlot {
    /// Keeps a permit.
    pub fn put(&self, permit: OwnedSemaphorePermit) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(permit);
    }

    /// Gives the permit to another request.
    pub fn take(&self) -> Option<OwnedSemaphorePermit> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// All answers on their way.
#[derive(Debug, Default)]
pub struct Outgoing {
    all: Mutex<VecDeque<Answer>>,
}

#[derive(Debug)]
struct Answer {
    permit: Weak<PermitSlot>,
    progress: Weak<Progress>,
}

impl Outgoing {
    /// Notes the answer of a request that has a permit.
    pub fn add(&self, permit: &Arc<PermitSlot>, progress: &Arc<Progress>) {
        let answer = Answer { permit: Arc::downgrade(permit), progress: Arc::downgrade(progress) };
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that are left have a permit each, so there are no more of them.
        all.retain(|answer| answer.permit.strong_count() > 0);
        all.push_back(answer);
    }

    /// The permit of the answer that has not moved for longest, which is cut off; none if all are
    /// being read.
    pub fn cut_off_one(&self) -> Option<OwnedSemaphorePermit> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let still = all.iter().enumerate().filter_map(|(place, answer)| {
            let since = answer.progress.upgrade()?.waits_since()?;
            (now.saturating_duration_since(since) >= READ_WITHIN).then_some((since, place))
        });
        let (_, place) = still.min()?;
        let answer = all.remove(place)?;
        drop(all);
        let (permit, progress) = (answer.permit.upgrade()?, answer.progress.upgrade()?);
        let permit = permit.take();
        progress.give_up();
        permit
    }
}
