//! The workers of an engine as its queue sees them: who waits for work, who asks after their
//! health, and what became of those whose device failed.
//!
//! Must not know: jobs, models, threads.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::error::EngineError;

/// Where the result of a health check goes: how long a forward pass took.
pub type CheckSender = oneshot::Sender<Result<Duration, EngineError>>;
/// Where it comes from.
pub type CheckAnswer = oneshot::Receiver<Result<Duration, EngineError>>;

/// All workers' slots.
pub struct WorkerSlots {
    slots: Vec<WorkerSlot>,
    /// Workers that wait for work.
    pub idle: usize,
}

#[derive(Default)]
struct WorkerSlot {
    condition: Condition,
    checks: Vec<CheckSender>,
}

/// What a worker does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Condition {
    #[default]
    Works,
    /// Its device failed, and is opened anew.
    Restarts(String),
    Ended,
    /// Its device failed, for good.
    Lost(String),
}

impl Condition {
    /// Why a health check needs not be made.
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
    /// So many workers, which all work.
    pub fn new(count: usize) -> Self {
        Self { slots: (0..count).map(|_| WorkerSlot::default()).collect(), idle: 0 }
    }

    /// Asks all for a health check. Those that do not work need not be asked.
    pub fn ask(&mut self) -> Vec<CheckAnswer> {
        let ask = |slot: &mut WorkerSlot| {
            let (sender, answer) = oneshot::channel();
            match slot.condition.unhealthy() {
                None => slot.checks.push(sender),
                // Who asks has the other end still.
                Some(reason) => drop(sender.send(Err(EngineError::Failed { reason }))),
            }
            answer
        };
        self.slots.iter_mut().map(ask).collect()
    }

    /// Who asks after the health of a worker, if somebody does.
    pub fn checks(&mut self, slot: usize) -> Option<Vec<CheckSender>> {
        let checks = std::mem::take(&mut self.slots[slot].checks);
        (!checks.is_empty()).then_some(checks)
    }

    /// Workers that work.
    pub fn at_work(&self) -> usize {
        self.slots.iter().filter(|slot| slot.condition == Condition::Works).count()
    }

    /// A worker's device failed, and is opened anew.
    pub fn restarting(&mut self, slot: usize, reason: &str) {
        self.set(slot, Condition::Restarts(reason.to_owned()));
    }

    /// It works again.
    pub fn working(&mut self, slot: usize) {
        self.set(slot, Condition::Works);
    }

    /// A worker has ended, its device lost or not. Whether it was the last one.
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
            // Whoever asked may have given up.
            let _ = sender.send(Err(EngineError::Failed { reason: reason.clone() }));
        }
    }
}
