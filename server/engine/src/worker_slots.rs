//! The workers of an engine as its queue sees them: how many are idle, which health checks are
//! pending, and which devices have failed.
//!
//! Must not know: jobs, models, threads.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::error::EngineError;

/// Sender of a health check's result: how long a forward pass took.
pub type CheckSender = oneshot::Sender<Result<Duration, EngineError>>;
/// Receiver of a health check's result.
pub type CheckAnswer = oneshot::Receiver<Result<Duration, EngineError>>;

/// The slots of all workers.
pub struct WorkerSlots {
    slots: Vec<WorkerSlot>,
    /// Number of idle workers.
    pub idle: usize,
}

#[derive(Default)]
struct WorkerSlot {
    condition: Condition,
    checks: Vec<CheckSender>,
}

/// The state of a worker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Condition {
    #[default]
    Works,
    /// Its device failed and is being restarted.
    Restarts(String),
    Ended,
    /// Its device failed for good.
    Lost(String),
}

impl Condition {
    /// Why a health check fails without being run, if it does.
    fn unhealthy(&self) -> Option<String> {
        match self {
            Self::Works => None,
            Self::Restarts(reason) => Some(format!("the device failed and restarts: {reason}")),
            Self::Ended => Some("the worker has ended".into()),
            Self::Lost(reason) => Some(format!("the device is lost: {reason}")),
        }
    }
}

impl WorkerSlots {
    /// Slots of `count` workers, all of them working.
    pub fn new(count: usize) -> Self {
        Self { slots: (0..count).map(|_| WorkerSlot::default()).collect(), idle: 0 }
    }

    /// Requests a health check of every worker; for an unhealthy one, the answer is there at once.
    pub fn ask(&mut self) -> Vec<CheckAnswer> {
        let answers = self.slots.iter_mut().map(|slot| {
            let (sender, answer) = oneshot::channel();
            match slot.condition.unhealthy() {
                None => slot.checks.push(sender),
                // The receiver still exists, so this cannot fail.
                Some(reason) => drop(sender.send(Err(EngineError::Failed { reason }))),
            }
            answer
        });
        answers.collect()
    }

    /// Takes the pending health checks of a worker, if there are any.
    pub fn checks(&mut self, slot: usize) -> Option<Vec<CheckSender>> {
        let checks = std::mem::take(&mut self.slots[slot].checks);
        (!checks.is_empty()).then_some(checks)
    }

    /// Number of workers that work.
    pub fn at_work(&self) -> usize {
        self.slots.iter().filter(|slot| slot.condition == Condition::Works).count()
    }

    /// Records that a worker's device failed and is being restarted.
    pub fn restarting(&mut self, slot: usize, reason: &str) {
        self.set(slot, Condition::Restarts(reason.to_owned()));
    }

    /// Records that a worker works again.
    pub fn working(&mut self, slot: usize) {
        self.set(slot, Condition::Works);
    }

    /// Records that a worker has ended; `lost` is the reason if its device is lost. Returns whether
    /// all workers have ended.
    pub fn end(&mut self, slot: usize, lost: Option<&str>) -> bool {
        let lost = lost.map(|reason| Condition::Lost(reason.to_owned()));
        self.set(slot, lost.unwrap_or(Condition::Ended));
        let gone =
            |slot: &WorkerSlot| matches!(slot.condition, Condition::Ended | Condition::Lost(_));
        self.slots.iter().all(gone)
    }

    fn set(&mut self, slot: usize, condition: Condition) {
        let slot = &mut self.slots[slot];
        slot.condition = condition;
        let Some(reason) = slot.condition.unhealthy() else { return };
        for sender in slot.checks.drain(..) {
            // The caller may have given up.
            let _ = sender.send(Err(EngineError::Failed { reason: reason.clone() }));
        }
    }
}
