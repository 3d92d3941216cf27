//! Notes on the request that the current task serves, for its line in the access log and for
//! metrics.
//!
//! Must not know: how it is logged. The contents of requests are never noted.

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

/// What is known about a request.
#[derive(Debug, Default)]
pub struct Noted {
    /// The matched route, in axum's syntax.
    pub route: Option<String>,
    /// The dialect of its wire format.
    pub dialect: Option<&'static str>,
    /// The served name of the model that answers.
    pub model: Option<String>,
    /// The number of inputs.
    pub inputs: Option<usize>,
    /// Tokens computed for it.
    pub tokens: Option<usize>,
    /// Inputs truncated to a limit.
    pub truncated: usize,
    /// Time of tokenization.
    pub tokenization: Option<Duration>,
    /// Time in the queue.
    pub queue: Option<Duration>,
    /// Time of its batch.
    pub inference: Option<Duration>,
    /// HTTP status of its response.
    pub status: Option<u16>,
    /// gRPC status of its response.
    pub grpc_status: Option<i64>,
    /// Why it failed, as a label.
    pub error: Option<&'static str>,
    /// Whether the server is at fault, so that the line is a warning.
    pub warns: bool,
    /// Why it failed, as a sentence.
    pub reason: Option<String>,
    /// Bytes of its response that were handed to the connection.
    pub bytes_out: u64,
    /// Whether all of the response was handed to the connection.
    pub whole: bool,
}

impl Notes {
    /// Notes with this initial content.
    pub fn new(noted: Noted) -> Arc<Self> {
        Arc::new(Self(Mutex::new(noted)))
    }

    /// Runs the work of the request that these notes are about.
    pub async fn scope<F: Future>(self: &Arc<Self>, work: F) -> F::Output {
        CURRENT.scope(self.clone(), work).await
    }

    /// As [`scope`](Self::scope), for synchronous work.
    pub fn sync_scope<T>(self: &Arc<Self>, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self.clone(), work)
    }

    /// Changes the notes.
    pub fn note<T>(&self, change: impl FnOnce(&mut Noted) -> T) -> T {
        // The fields are independent of each other, so a poisoned lock is safe to use.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Notes the model that answers the current request, and adds its inputs.
pub fn note_call(model: &str, inputs: usize) {
    note(|noted| {
        noted.model = Some(model.to_owned());
        noted.inputs = Some(noted.inputs.unwrap_or(0) + inputs);
    });
}

/// Notes the model that the current request chose.
pub fn note_model(model: &str) {
    note(|noted| noted.model = Some(model.to_owned()));
}

/// Notes what a call took. For a stream's messages, tokens are summed and the longest times count.
pub fn note_timings(timings: &Timings) {
    note(|noted| {
        noted.tokens = Some(noted.tokens.unwrap_or(0) + timings.n_tokens);
        noted.truncated += timings.n_cut;
        noted.tokenization = noted.tokenization.max(Some(timings.tokenization));
        noted.queue = noted.queue.max(Some(timings.queue));
        noted.inference = noted.inference.max(Some(timings.inference));
    });
}

/// Notes why the current request fails, as a label and a sentence.
pub fn note_failure(failure: &Failure) {
    note(|noted| {
        noted.error = Some(failure.kind());
        noted.warns = failure.is_of_server();
        noted.reason = Some(failure.reason());
    });
}

/// Notes the dialect of the current request.
pub fn note_dialect(name: &'static str) {
    note(|noted| noted.dialect = Some(name));
}

/// Notes the route of the current request.
pub fn note_route(route: &str) {
    note(|noted| noted.route = Some(route.to_owned()));
}

fn note(change: impl FnOnce(&mut Noted)) {
    // Outside of requests there are no notes.
    let _ = CURRENT.try_with(|notes| notes.note(change));
}
