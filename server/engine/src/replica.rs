//! The life of a worker: it computes, and if its device fails, the model is reloaded, once.
//!
//! Must not know: requests, what devices there are.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use proxima_models::{CheckpointError, Model};

use crate::metrics::{DeviceEvent, Metrics};
use crate::queue::Queue;
use crate::threads::{self, NoThread};
use crate::worker::{self, Stopped, WorkerContext};

/// Reloads a model, after the failed one has been dropped.
pub type Reload = Box<dyn FnOnce() -> Result<Model, CheckpointError> + Send>;

/// A model on a device, for one worker.
pub struct Replica {
    /// The model.
    pub model: Model,
    /// How it is reloaded if its device fails; if `None`, the device is lost at once.
    pub reload: Option<Reload>,
}

impl From<Model> for Replica {
    fn from(model: Model) -> Self {
        Self { model, reload: None }
    }
}

/// What all workers of an engine share.
#[derive(Clone)]
pub struct WorkerResources {
    /// Where jobs come from.
    pub queue: Arc<Queue>,
    /// Receives observations.
    pub metrics: Arc<dyn Metrics>,
    /// Size of each worker's prefix KV cache in bytes.
    pub prefix_bytes_max: usize,
}

/// Starts a worker's thread.
///
/// # Errors
/// If the system cannot start a thread.
pub fn start(shared: WorkerResources, slot: usize, replica: Replica) -> Result<(), NoThread> {
    threads::spawn(format!("worker-{slot}"), move || live(&shared, slot, replica))
}

/// Runs until the queue ends or the device is lost. The queue is told even if this function panics.
fn live(shared: &WorkerResources, slot: usize, replica: Replica) {
    struct End<'a>(&'a Queue, usize, Option<String>);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.end(self.1, self.2.take());
        }
    }
    let mut end = End(&shared.queue, slot, Some("the worker panicked".into()));
    let Replica { mut model, mut reload } = replica;
    end.2 = loop {
        let reason = match worker::run(shared.context(slot, &model)) {
            Stopped::Ended => break None,
            Stopped::DeviceFailed(reason) => reason,
        };
        let device = model.info.device.clone();
        shared.metrics.device(DeviceEvent::Failed { device: &device, reason: &reason });
        if shared.queue.is_over() {
            // No restart is needed any more.
            dropped(model);
            break None;
        }
        shared.queue.restarting(slot, &reason);
        match shared.renewed(slot, model, reload.take(), reason) {
            Ok(fresh) => model = fresh,
            Err(reason) => {
                shared.metrics.device(DeviceEvent::Lost { device: &device, reason: &reason });
                break Some(format!("{device}: {reason}"));
            }
        }
        shared.metrics.device(DeviceEvent::Restarted { device: &device });
        shared.queue.working(slot);
    };
}

impl WorkerResources {
    fn context<'a>(&'a self, slot: usize, model: &'a Model) -> WorkerContext<'a> {
        WorkerContext {
            queue: &self.queue,
            slot,
            model,
            metrics: &*self.metrics,
            prefix_bytes_max: self.prefix_bytes_max,
        }
    }

    /// The model, reloaded and checked with a forward pass; otherwise why that failed, or `reason`
    /// if it cannot be reloaded.
    fn renewed(
        &self,
        slot: usize,
        model: Model,
        reload: Option<Reload>,
        reason: String,
    ) -> Result<Model, String> {
        dropped(model);
        let reload = reload.ok_or(reason)?;
        let fresh = catch_unwind(AssertUnwindSafe(reload));
        let fresh = fresh.map_err(|_| "reloading it panicked".to_owned())?;
        let fresh = fresh.map_err(|error| format!("it cannot be reloaded: {error}"))?;
        match worker::check(self.context(slot, &fresh)) {
            Ok(_) => Ok(fresh),
            Err(error) => {
                dropped(fresh);
                Err(format!("after reloading, it does not compute: {error}"))
            }
        }
    }
}

/// Drops a model on a failed device, ignoring panics.
fn dropped(model: Model) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(model)));
}
