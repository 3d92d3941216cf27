//! Deduplication: identical inputs in flight are computed once. Tracks the waiters of each
//! sequence's vector.
//!
//! Must not know: which jobs run next, caches.

use std::collections::HashMap;
use std::sync::Arc;

use proxima_models::Sequence;

use crate::job::{Job, Reply, Vector, Waiter};
use crate::ticket::Ticket;

/// Sequences whose vector is queued or being computed.
#[derive(Debug, Default)]
pub struct InFlight(HashMap<Arc<Sequence>, SharedComputation>);

/// One computation and all its waiters.
#[derive(Debug, Default)]
struct SharedComputation {
    running: bool,
    waiters: Vec<(Waiter<Vector>, Arc<Ticket>)>,
}

impl InFlight {
    /// Whether a sequence is queued or being computed.
    pub fn contains(&self, sequence: &Arc<Sequence>) -> bool {
        self.0.contains_key(sequence)
    }

    /// Adds a waiter for a sequence. Returns whether it was in flight already; if not, the caller
    /// must add a job.
    pub fn join(
        &mut self,
        sequence: &Arc<Sequence>,
        waiter: Waiter<Vector>,
        ticket: &Arc<Ticket>,
    ) -> bool {
        let mut joined = true;
        let computation = self.0.entry(sequence.clone()).or_insert_with(|| {
            joined = false;
            SharedComputation::default()
        });
        if computation.running {
            ticket.begin();
        }
        computation.waiters.push((waiter, ticket.clone()));
        joined
    }

    /// Whether any waiter of a job is still connected.
    pub fn is_wanted(&self, job: &Job) -> bool {
        match &job.reply {
            Reply::Tokens(waiter) | Reply::Multi(waiter) | Reply::List(waiter) => {
                !waiter.is_closed()
            }
            Reply::Sparse(waiter) => !waiter.is_closed(),
            Reply::Score(waiter) => !waiter.is_closed(),
            Reply::Embedding => self.0.get(&job.sequence).is_some_and(|computation| {
                computation.waiters.iter().any(|(waiter, _)| !waiter.is_closed())
            }),
        }
    }

    /// Marks a job as being computed.
    pub fn begin(&mut self, job: &Job) {
        job.ticket.begin();
        if matches!(job.reply, Reply::Embedding)
            && let Some(computation) = self.0.get_mut(&job.sequence)
        {
            computation.running = true;
            computation.waiters.iter().for_each(|(_, ticket)| ticket.begin());
        }
    }

    /// Removes a sequence whose vector was computed, or failed; returns its waiters.
    pub fn take(&mut self, sequence: &Arc<Sequence>) -> Vec<Waiter<Vector>> {
        let computation = self.0.remove(sequence).unwrap_or_default();
        computation.waiters.into_iter().map(|(waiter, _)| waiter).collect()
    }

    /// Removes the sequence of a job that has no connected waiters.
    pub fn forget(&mut self, job: &Job) {
        if matches!(job.reply, Reply::Embedding) {
            self.0.remove(&job.sequence);
        }
    }

    /// Removes everything: no worker is left to compute it.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}
