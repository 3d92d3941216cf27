//! Detects clients that stop reading: tracks what each HTTP/1 connection and each HTTP/2 stream has
//! to write, and ends those on which nothing moves.
//!
//! HTTP/2 has a flow-control window per stream, so one stream can stall on a connection whose other
//! streams move. hyper polls a body for its next bytes only while the window is open; therefore the
//! watch is outside of the body.
//! Must not know: what is written.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use hyper::rt::Executor;
use tokio::sync::Notify;
use tokio::time::Instant;

tokio::task_local! {
    static CURRENT: Arc<SendProgress>;
}

/// What is being sent to a client on one HTTP/1 connection or one HTTP/2 stream.
#[derive(Debug)]
pub struct SendProgress {
    state: Mutex<SendState>,
    /// Notified when something becomes outstanding, and when it is given up.
    begun: Notify,
}

#[derive(Debug)]
struct SendState {
    /// Chunks that were handed to the connection but are not written.
    chunks: usize,
    /// Whether a response has more to hand over, and was not polled for it since the last chunk.
    unasked: bool,
    /// When a chunk was last polled for, handed over or written.
    moved: Instant,
    /// When the response must be written.
    deadline: Option<Instant>,
    /// Woken when the last chunk is written.
    drained: Option<Waker>,
    /// Whether what is outstanding is to be cut off.
    given_up: bool,
}

impl SendProgress {
    /// A record with nothing outstanding.
    pub fn new() -> Arc<Self> {
        let state = SendState {
            chunks: 0,
            unasked: false,
            moved: Instant::now(),
            deadline: None,
            drained: None,
            given_up: false,
        };
        Arc::new(Self { state: Mutex::new(state), begun: Notify::new() })
    }

    /// The record of the current request's connection or stream; outside of requests, a new one
    /// that nobody watches.
    pub fn current() -> Arc<Self> {
        CURRENT.try_with(Arc::clone).unwrap_or_else(|_| Self::new())
    }

    fn lock(&self) -> MutexGuard<'_, SendState> {
        // No code panics between changes that belong together, so a poisoned lock is safe to use.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut SendState)) {
        let mut state = self.lock();
        let was_outstanding = state.is_outstanding();
        change(&mut state);
        state.moved = Instant::now();
        if !was_outstanding && state.is_outstanding() {
            self.begun.notify_one();
        }
    }

    /// A response waits to be polled for its first chunk; it must be written by `deadline`.
    pub fn answer_begins(&self, deadline: Option<Instant>) {
        self.change(|state| {
            state.unasked = true;
            state.deadline = deadline;
        });
    }

    /// The connection polls for a chunk.
    pub fn asked(&self) {
        self.change(|state| state.unasked = false);
    }

    /// A chunk was handed to the connection; another may follow.
    pub fn handed(&self) {
        self.change(|state| {
            state.chunks += 1;
            state.unasked = true;
        });
    }

    /// A chunk was written, or given up.
    pub fn written(&self) {
        let mut drained = None;
        self.change(|state| {
            state.chunks -= 1;
            if state.chunks == 0 {
                drained = state.drained.take();
            }
        });
        drained.into_iter().for_each(Waker::wake);
    }

    /// The response has nothing more to hand over.
    pub fn answer_ends(&self) {
        self.change(|state| state.unasked = false);
    }

    /// Whether everything handed over is written; if not, `waker` is woken when it is.
    pub fn is_drained(&self, waker: &Waker) -> bool {
        let mut state = self.lock();
        if state.chunks > 0 {
            state.drained = Some(waker.clone());
        }
        state.chunks == 0
    }

    /// Since when nothing has moved, if something is outstanding.
    pub fn waits_since(&self) -> Option<Instant> {
        let state = self.lock();
        state.is_outstanding().then_some(state.moved)
    }

    /// Cuts off what is outstanding.
    pub fn give_up(&self) {
        self.lock().given_up = true;
        self.begun.notify_one();
    }

    /// Returns when it is given up, when nothing has moved for `limit` while something is
    /// outstanding, or when a response's deadline passes before it is written.
    pub async fn stalled(&self, limit: Duration) {
        loop {
            let due = self.lock().due(limit);
            match due {
                None => self.begun.notified().await,
                Some(due) if due <= Instant::now() => return,
                Some(due) => tokio::select! {
                    () = tokio::time::sleep_until(due) => {}
                    () = self.begun.notified() => {}
                },
            }
        }
    }
}

impl SendState {
    fn is_outstanding(&self) -> bool {
        self.chunks > 0 || self.unasked
    }

    /// When it counts as stalled, unless something moves before.
    fn due(&self, limit: Duration) -> Option<Instant> {
        if self.given_up {
            return Some(self.moved);
        }
        let due = self.moved + limit;
        self.is_outstanding().then(|| self.deadline.map_or(due, |deadline| due.min(deadline)))
    }
}

/// Runs a connection or a stream until its end, or until it stalls for `limit`: then it is dropped,
/// which closes the connection or resets the stream.
pub async fn watched(limit: Duration, work: impl Future) {
    let progress = SendProgress::new();
    tokio::select! {
        _ = CURRENT.scope(progress.clone(), work) => {}
        () = progress.stalled(limit) => {
            tracing::debug!("a client that does not read its response was cut off");
        }
    }
}

/// Runs HTTP/2 streams as tasks, each watched separately.
#[derive(Debug, Clone, Copy)]
pub struct StreamExecutor {
    /// How long a stream may stall.
    pub write_timeout: Duration,
}

impl<F> Executor<F> for StreamExecutor
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        tokio::spawn(watched(self.write_timeout, stream));
    }
}

#[cfg(test)]
mod tests;
