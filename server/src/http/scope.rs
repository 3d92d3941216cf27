//! What one request holds until its response is written: its permit to compute and the reservation
//! of its response; and which client sent it.
//!
//! Handlers do not pass it on: it is local to the task that answers a request. Whatever carries a
//! response to the client holds the scope; when the last holder is dropped, everything is released.
//! Must not know: any dialect's bodies.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use proxima_engine::ClientKey;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::budget::{BudgetExhausted, ResponseReservation};
use super::outgoing::{Outgoing, PermitSlot};
use super::progress::SendProgress;
use super::streams::StreamSlot;
use super::{App, Failure};

tokio::task_local! {
    static CURRENT: Arc<Scope>;
}

/// What one request, or one message of a stream, holds until its response is written.
#[derive(Debug)]
pub struct Scope {
    /// Who sent it.
    pub client: ClientKey,
    /// When its response must be written.
    pub deadline: Instant,
    permit: Arc<PermitSlot>,
    /// Of a message of a stream.
    slot: OnceLock<StreamSlot>,
    /// A part of its client's share.
    share: Mutex<Option<OwnedSemaphorePermit>>,
    outgoing: OnceLock<Arc<Outgoing>>,
    room: Mutex<Option<ResponseReservation>>,
}

impl Scope {
    /// The scope of a request that holds nothing yet.
    pub fn new(client: ClientKey, deadline: Instant) -> Arc<Self> {
        let (permit, slot, share, outgoing, room) = Default::default();
        Arc::new(Self { client, deadline, permit, slot, share, outgoing, room })
    }

    /// The scope of the request whose handler runs; none outside of requests.
    pub fn current() -> Option<Arc<Self>> {
        CURRENT.try_with(Arc::clone).ok()
    }

    /// Runs the handler of a request in its scope.
    pub async fn run<F: Future>(self: &Arc<Self>, work: F) -> F::Output {
        CURRENT.scope(self.clone(), work).await
    }

    /// Holds a permit to compute. Another request may take it once the response waits in `outgoing`
    /// for a client that does not read it.
    pub fn hold(&self, permit: OwnedSemaphorePermit, outgoing: &Arc<Outgoing>) {
        self.permit.put(permit);
        self.outgoing.get_or_init(|| outgoing.clone());
    }

    /// Holds the slot of a message of a stream.
    pub fn keep(&self, slot: StreamSlot) {
        self.slot.get_or_init(|| slot);
    }

    /// Holds a part of its client's share until its response is being sent: from then on, other
    /// requests may take its permit if nobody reads the response.
    pub fn keep_share(&self, share: OwnedSemaphorePermit) {
        *lock(&self.share) = Some(share);
    }

    /// Notes that its response is being sent.
    pub fn answered(&self, progress: &Arc<SendProgress>) {
        drop(lock(&self.share).take());
        if let Some(outgoing) = self.outgoing.get() {
            outgoing.add(&self.permit, progress);
        }
    }

    /// Reserves about `bytes` for a response, waiting for other responses to be read.
    ///
    /// # Errors
    /// A response that is larger than any may be, or too many responses that nobody reads.
    pub async fn reserve(&self, app: &App, bytes: usize) -> Result<(), Failure> {
        let limit = app.answers().limit;
        let so_far = lock(&self.room).as_ref().map_or(0, ResponseReservation::bytes);
        if bytes.saturating_add(so_far) > limit {
            return Err(Failure::AnswerTooLarge { bytes, limit });
        }
        let room = app.answers().reserve(bytes, app.config().write_timeout).await;
        let room = room.map_err(|BudgetExhausted| unread())?;
        let mut held = lock(&self.room);
        match &mut *held {
            Some(held) => held.join(room),
            None => *held = Some(room),
        }
        Ok(())
    }

    /// Grows the reservation to `bytes` if less was reserved, without waiting.
    ///
    /// # Errors
    /// A response that is larger than any may be, or too many responses that nobody reads.
    pub fn grow(&self, bytes: usize) -> Result<(), Failure> {
        let mut room = lock(&self.room);
        let Some(room) = room.as_mut() else { return Ok(()) };
        let limit = room.limit();
        room.grow(bytes).map_err(|BudgetExhausted| match bytes > limit {
            true => Failure::AnswerTooLarge { bytes, limit },
            false => unread(),
        })
    }

    /// Bytes reserved for its response.
    pub fn room_bytes(&self) -> usize {
        lock(&self.room).as_ref().map_or(0, ResponseReservation::bytes)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No change panics halfway, so a poisoned lock is safe to use.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unread() -> Failure {
    let message = "too many responses are waiting to be read by clients; try again in a second";
    Failure::Busy { message: message.into() }
}
