//! Whether a client still reads what is written to it: one record for each HTTP/1 connection and
//! each HTTP/2 stream, and the end of those on which nothing moves.
//!
//! HTTP/2 has a window for each stream, so a connection whose other streams move can have one that
//! does not. hyper asks a body for its next bytes only while the window is open; what watches is
//! therefore outside of the body.
//! Must not know: what is written.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use hyper::rt::Executor;
use tokio::sync::Notify;
use tokio::time::Instant;

tokio::task_local! {
    static CURRENT: Arc<Progress>;
}

/// What is on its way to a client on one HTTP/1 connection or one HTTP/2 stream.
#[derive(Debug)]
pub struct Progress {
    state: Mutex<State>,
    /// Told when something is on its way and nothing was, and when it is given up.
    begun: Notify,
}

#[derive(Debug)]
struct State {
    /// Chunks that were handed to the connection and are not written.
    chunks: usize,
    /// Whether an answer has more to hand over, and was not asked for it since the last chunk.
    unasked: bool,
    /// When a chunk was last asked for, handed over or written.
    moved: Instant,
    /// When the answer must be written.
    deadline: Option<Instant>,
    /// Told when the last chunk is written.
    drained: Option<Waker>,
    /// Whether what is on its way is to be cut off.
    given_up: bool,
}

impl Progress {
    /// Nothing is on its way.
    pub fn new() -> Arc<Self> {
        let state = State {
            chunks: 0,
            unasked: false,
            moved: Instant::now(),
            deadline: None,
            drained: None,
            given_up: false,
        };
        Arc::new(Self { state: Mutex::new(state), begun: Notify::new() })
    }

    /// That of the connection or stream whose request is at work; a new one that nobody watches
    /// outside of these.
    pub fn current() -> Arc<Self> {
        CURRENT.try_with(Arc::clone).unwrap_or_else(|_| Self::new())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        let was_outstanding = state.is_outstanding();
        change(&mut state);
        state.moved = Instant::now();
        if !was_outstanding && state.is_outstanding() {
            self.begun.notify_one();
        }
    }

    /// An answer waits to be asked for its first chunk; it must be written by `deadline`.
    pub fn answer_begins(&self, deadline: Option<Instant>) {
        self.change(|state| {
            state.unasked = true;
            state.deadline = deadline;
        });
    }

    /// The connection asks for a chunk.
    pub fn asked(&self) {
        self.change(|state| state.unasked = false);
    }

    /// A chunk was handed to the connection; there may be another.
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

    /// The answer has nothing more to hand over.
    pub fn answer_ends(&self) {
        self.change(|state| state.unasked = false);
    }

    /// Whether everything that was handed over is written; if not, `waker` is told when it is.
    pub fn is_drained(&self, waker: &Waker) -> bool {
        let mut state = self.lock();
        if state.chunks > 0 {
            state.drained = Some(waker.clone());
        }
        state.chunks == 0
    }

    /// Since when nothing has moved, if something is on its way.
    pub fn waits_since(&self) -> Option<Instant> {
        let state = self.lock();
        state.is_outstanding().then_some(state.moved)
    }

    /// Cuts off what is on its way.
    pub fn give_up(&self) {
        self.lock().given_up = true;
        self.begun.notify_one();
    }

    /// Returns when it is given up, when nothing has moved for `limit` though something is on its
    /// way, or when an answer's deadline has passed before it was written.
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

impl State {
    fn is_outstanding(&self) -> bool {
        self.chunks > 0 || self.unasked
    }

    /// When it counts as stalled, if nothing moves until then.
    fn due(&self, limit: Duration) -> Option<Instant> {
        if self.given_up {
            return Some(self.moved);
        }
        let due = self.moved + limit;
        self.is_outstanding().then(|| self.deadline.map_or(due, |deadline| due.min(deadline)))
    }
}

/// Runs a connection or a stream until its end, or until it is stalled for `limit`: then it is
/// dropped, which closes the connection or resets the stream.
pub async fn watched(limit: Duration, work: impl Future) {
    let progress = Progress::new();
    tokio::select! {
        _ = CURRENT.scope(progress.clone(), work) => {}
        () = progress.stalled(limit) => {
            tracing::debug!("a client does not read its answer; it was cut off");
        }
    }
}

/// Runs HTTP/2 streams as tasks, each watched by itself.
#[derive(Debug, Clone, Copy)]
pub struct Streams {
    /// How long a stream may be stalled.
    pub write_timeout: Duration,
}

impl<F> Executor<F> for Streams
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
