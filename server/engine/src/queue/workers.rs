//! What becomes of the workers that take a queue's jobs: health, restarts, the end.
//!
//! Must not know: jobs, batches.

use super::Queue;
use crate::worker_slots::CheckAnswer;

impl Queue {
    /// Asks every worker for a health check, ahead of everything.
    pub fn ask_check(&self) -> Vec<CheckAnswer> {
        let answers = self.lock().workers.ask();
        self.changed.notify_all();
        answers
    }

    /// The device of the worker of this slot failed, for this reason; it is being restarted.
    pub fn restarting(&self, slot: usize, reason: &str) {
        self.lock().workers.restarting(slot, reason);
    }

    /// The worker of this slot works again.
    pub fn working(&self, slot: usize) {
        self.lock().workers.working(slot);
    }

    /// The worker of this slot has ended; if its device is lost, for this reason. Behind the last
    /// worker nobody will answer what is left.
    pub fn end(&self, slot: usize, lost: Option<String>) {
        let mut state = self.lock();
        if state.workers.end(slot, lost.as_deref()) {
            state.ended = true;
            state.clear();
        }
        let ended = state.ended;
        drop(state);
        if ended {
            self.ended.send_replace(true);
        }
        if lost.is_some() {
            self.lost.send_if_modified(|known| {
                known.is_none() && {
                    *known = lost;
                    true
                }
            });
        }
    }

    /// Whether nobody waits for anything, and nobody will.
    pub fn is_over(&self) -> bool {
        let state = self.lock();
        state.closing && state.active == 0
    }

    /// Workers that wait for work.
    pub fn idle(&self) -> usize {
        self.lock().workers.idle
    }

    /// Why the device of a worker is lost, if one is.
    pub fn lost(&self) -> Option<String> {
        self.lost.borrow().clone()
    }

    /// Waits until the device of a worker is lost, and says why; for ever, if that does not happen.
    pub async fn wait_lost(&self) -> String {
        let mut lost = self.lost.subscribe();
        // The sender lives as long as the queue.
        let reason = lost.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        reason.unwrap_or_default()
    }

    /// Waits until all workers have ended.
    pub async fn wait_end(&self) {
        let mut ended = self.ended.subscribe();
        // The sender lives as long as the queue, so this only fails where there is nothing to wait
        // for.
        let _ = ended.wait_for(|ended| *ended).await;
    }
}
