//! Answers of a request's inputs, and what they took.
//!
//! Must not know: queues, batches, wire formats.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::EngineError;
use crate::job::{Answer, Computed, JobError};
use crate::request::Timings;
use crate::ticket::Ticket;

/// What the worker says of the input of this place.
pub async fn received<T>(index: usize, answer: Answer<T>) -> Result<Computed<T>, EngineError> {
    match answer.await {
        Ok(Ok(computed)) => Ok(computed),
        Ok(Err(JobError::NotFinite)) => Err(EngineError::NotFinite { index }),
        Ok(Err(JobError::Failed(reason))) => Err(EngineError::Failed { reason }),
        Err(_) => Err(EngineError::Failed { reason: "the worker has ended".into() }),
    }
}

/// What the inputs of a request took, summed.
#[derive(Default)]
pub struct Tally {
    /// Of all inputs.
    pub prepared: Timings,
    /// How many.
    pub inputs: u32,
    /// Whether some of it is computed.
    pub ticket: Arc<Ticket>,
    /// How long it waited for threads that tokenise.
    pub waited: Duration,
    queue: Duration,
    inference: Duration,
}

impl Tally {
    /// Adds what one took; gives its result.
    pub fn add<T>(&mut self, computed: Computed<T>) -> T {
        self.queue += computed.queue;
        self.inference += computed.inference;
        computed.value
    }

    /// Adds the time that a request waited until a thread began to tokenise its inputs, so many: it
    /// is a part of what tokenising took each of them.
    pub fn waited_for_tokenizer(&mut self, waited: Duration, inputs: usize) {
        self.waited += waited;
        let all = waited.saturating_mul(inputs as u32);
        self.prepared.tokenizer_wait += all;
        self.prepared.tokenization += all;
    }

    /// The means over the inputs of a request that came at `started`.
    pub fn timings(self, started: Instant) -> Timings {
        let inputs = self.inputs.max(1);
        Timings {
            total: started.elapsed(),
            tokenization: self.prepared.tokenization / inputs,
            tokenizer_wait: self.prepared.tokenizer_wait / inputs,
            queue: self.queue / inputs,
            inference: self.inference / inputs,
            ..self.prepared
        }
    }
}
