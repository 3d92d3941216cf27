//! The state of the workers that run a queue's jobs: health, restarts, end.
//!
//! Must not know: jobs, batches.

use super::Queue;
use crate::worker_slots::CheckAnswer;

impl Queue {
    /// Requests a health check from every worker, ahead of all other work.
    pub fn ask_check(&self) -> Vec<CheckAnswer> {
        let answers = self.lock().workers.ask();
        self.changed.notify_all();
        answers
    }

    /// Records that the device of the worker in this slot failed, why, and that it is being
    /// restarted.
    pub fn restarting(&self, slot: usize, reason: &str) {
        self.lock().workers.restarting(slot, reason);
    }

    /// Records that the worker in this slot works again.
    pub fn working(&self, slot: usize) {
        self.lock().workers.working(slot);
    }

    /// Records that the worker in this slot has ended; `lost` is the reason if its device is lost.
    /// Once the last worker has ended, the remaining jobs are dropped.
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

    /// Whether the queue is closed and every accepted request is answered.
    pub fn is_over(&self) -> bool {
        let state = self.lock();
        state.closing && state.active == 0
    }

    /// Number of idle workers.
    pub fn idle(&self) -> usize {
        self.lock().workers.idle
    }

    /// Why the device of a worker is lost, if one is.
    pub fn lost(&self) -> Option<String> {
        self.lost.borrow().clone()
    }

    /// Waits until the device of a worker is lost, and returns the reason; waits forever if none
    /// is.
    pub async fn wait_lost(&self) -> String {
        let mut lost = self.lost.subscribe();
        let reason = lost.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        match reason {
            Some(reason) => reason,
            // The queue is gone, and its devices with it.
            None => std::future::pending().await,
        }
    }

    /// Waits until all workers have ended.
    pub async fn wait_end(&self) {
        let mut ended = self.ended.subscribe();
        // The sender lives as long as the queue, so this cannot fail.
        let _ = ended.wait_for(|ended| *ended).await;
    }
}
