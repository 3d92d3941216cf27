//! Receives the answers to a request's inputs and sums their timings.
//!
//! Must not know: queues, batches, wire formats.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::EngineError;
use crate::job::{Computed, JobError, ResultReceiver};
use crate::request::Timings;
use crate::ticket::{Caller, Ticket};

/// Waits for the worker's answer to the input with this index.
pub async fn received<T>(
    index: usize,
    answer: ResultReceiver<T>,
) -> Result<Computed<T>, EngineError> {
    match answer.await {
        Ok(Ok(computed)) => Ok(computed),
        Ok(Err(JobError::NotFinite)) => Err(EngineError::NotFinite { index }),
        Ok(Err(JobError::Failed(reason))) => Err(EngineError::Failed { reason }),
        Err(_) => Err(EngineError::Failed { reason: "the worker has ended".into() }),
    }
}

/// Timings of a request, summed over its inputs.
#[derive(Default)]
pub struct Tally {
    /// Counts and tokenisation times, summed over all inputs.
    pub prepared: Timings,
    /// Number of inputs.
    pub inputs: u32,
    /// Whether a worker has started computing any input of the request.
    pub ticket: Arc<Ticket>,
    /// Time the request waited for tokenisation threads.
    pub waited: Duration,
    queue: Duration,
    inference: Duration,
}

impl Tally {
    /// The tally of a request that has just arrived.
    pub fn of(caller: &Caller) -> Self {
        Self { ticket: Ticket::of(caller), ..Self::default() }
    }

    /// Adds the timings of one result and returns its value.
    pub fn add<T>(&mut self, computed: Computed<T>) -> T {
        self.queue += computed.queue;
        self.inference += computed.inference;
        computed.value
    }

    /// Adds the time a request waited until a thread began to tokenise its `inputs` inputs. It
    /// counts towards the tokenisation time of each of them.
    pub fn waited_for_tokenizer(&mut self, waited: Duration, inputs: usize) {
        self.waited += waited;
        let all = waited.saturating_mul(inputs as u32);
        self.prepared.tokenizer_wait += all;
        self.prepared.tokenization += all;
    }

    /// The timings of a request that arrived at `started`. All times but the total are means over
    /// its inputs.
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
