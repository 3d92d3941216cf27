//! What is noted of the request that a task is at work on, for its line in the log and for metrics.
//!
//! Must not know: how it is logged. Nothing that is asked is noted.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proxima_engine::Timings;

use crate::failure::Failure;

tokio::task_local! {
    static CURRENT: Arc<Notes>;
}

/// The notes of one request.
#[derive(Debug, Default)]
pub struct Notes(Mutex<Noted>);

/// What is known of a request.
#[derive(Debug, Default)]
pub struct Noted {
    /// The route it took, as axum writes it.
    pub route: Option<String>,
    /// Whose wire format it has.
    pub dialect: Option<&'static str>,
    /// The served name of the model that answers.
    pub model: Option<String>,
    /// Inputs.
    pub inputs: Option<usize>,
    /// Tokens computed for it.
    pub tokens: Option<usize>,
    /// Inputs that were cut to a limit.
    pub truncated: usize,
    /// Time of tokenising.
    pub tokenization: Option<Duration>,
    /// Time in the queue.
    pub queue: Option<Duration>,
    /// Time of its batch.
    pub inference: Option<Duration>,
    /// HTTP status of its answer.
    pub status: Option<u16>,
    /// gRPC status of its answer.
    pub grpc_status: Option<i64>,
    /// Why it failed, in a word.
    pub error: Option<&'static str>,
    /// Why it failed, in a sentence.
    pub reason: Option<String>,
    /// Bytes of its answer that were handed to the connection.
    pub bytes_out: u64,
    /// Whether all of the answer was handed to the connection.
    pub whole: bool,
}

impl Notes {
    /// Notes that begin like this.
    pub fn new(noted: Noted) -> Arc<Self> {
        Arc::new(Self(Mutex::new(noted)))
    }

    /// Those of the request at work; none outside of requests.
    pub fn current() -> Option<Arc<Self>> {
        CURRENT.try_with(Arc::clone).ok()
    }

    /// Runs the work of a request, whose notes these are.
    pub async fn scope<F: Future>(self: &Arc<Self>, work: F) -> F::Output {
        CURRENT.scope(self.clone(), work).await
    }

    /// As [`scope`](Self::scope), of work that does not wait.
    pub fn sync_scope<T>(self: &Arc<Self>, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self.clone(), work)
    }

    /// Changes what is noted.
    pub fn note<T>(&self, change: impl FnOnce(&mut Noted) -> T) -> T {
        // Nothing that is noted depends on anything else that is.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Notes the model that answers the request at work, and how many inputs it has.
pub fn note_call(model: &str, inputs: usize) {
    note(|noted| {
        noted.model = Some(model.to_owned());
        noted.inputs = Some(noted.inputs.unwrap_or(0) + inputs);
    });
}

/// Notes what a call took: of a stream's messages tokens are added up, and the longest times count.
pub fn note_timings(timings: &Timings) {
    note(|noted| {
        noted.tokens = Some(noted.tokens.unwrap_or(0) + timings.n_tokens);
        noted.truncated += timings.n_cut;
        noted.tokenization = noted.tokenization.max(Some(timings.tokenization));
        noted.queue = noted.queue.max(Some(timings.queue));
        noted.inference = noted.inference.max(Some(timings.inference));
    });
}

/// Notes why the request at work fails, by a word and a sentence.
pub fn note_failure(failure: &Failure) {
    note(|noted| {
        noted.error = Some(failure.kind());
        noted.reason = Some(failure.reason());
    });
}

/// Notes whose wire format the request at work has.
pub fn note_dialect(name: &'static str) {
    note(|noted| noted.dialect = Some(name));
}

/// Notes the route that the request at work took.
pub fn note_route(route: &str) {
    note(|noted| noted.route = Some(route.to_owned()));
}

fn note(change: impl FnOnce(&mut Noted)) {
    if let Some(notes) = Notes::current() {
        notes.note(change);
    }
}
