//! Which waiting jobs form the next batch: a pure function of the queue and a budget.
//!
//! Must not know: clocks, threads, what a job computes.

use std::time::Duration;

/// Tokens at which attention, whose work grows with the square of the length, costs as much as the
/// rest.
const QUADRATIC_SCALE: usize = 4096;

/// The part of a batch that bulk jobs may fill when interactive ones are in it, which would wait
/// for them.
const BULK_PART_BESIDE_INTERACTIVE: usize = 4;

/// What the choice needs to know of a waiting job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Tokens of its sequence.
    pub tokens: usize,
    /// How long it has waited.
    pub waited: Duration,
}

/// What a batch may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Cost of all jobs together, in tokens of short sequences.
    pub cost_max: usize,
    /// A bulk job that has waited this long goes before interactive ones.
    pub bulk_wait_max: Duration,
}

/// How many jobs from the front of each queue form the next batch, and which queue comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Choice {
    /// Jobs of small requests.
    pub interactive: usize,
    /// Jobs of large requests.
    pub bulk: usize,
}

/// The work of a sequence, in tokens of short sequences: linear layers and attention.
pub fn cost(tokens: usize) -> usize {
    tokens + tokens * tokens / QUADRATIC_SCALE
}

/// Chooses from two queues, each oldest first.
///
/// Interactive jobs go before bulk ones, unless the oldest bulk job has waited too long: then it
/// goes first, so that nobody starves. Within a queue the order is kept: a job that does not fit
/// ends the choice instead of being passed by smaller ones. A job above the budget runs alone. A
/// batch with interactive jobs is kept short: bulk fills a quarter of it.
pub fn choose(
    interactive: impl Iterator<Item = Candidate>,
    bulk: impl Iterator<Item = Candidate>,
    budget: &Budget,
) -> Choice {
    let (mut interactive, mut bulk) = (interactive.peekable(), bulk.peekable());
    let mut choice = Choice::default();
    let mut left = budget.cost_max;
    let starving = bulk.peek().is_some_and(|oldest| oldest.waited >= budget.bulk_wait_max);
    if starving && let Some(oldest) = bulk.next() {
        choice.bulk = 1;
        left = left.saturating_sub(cost(oldest.tokens));
    }
    choice.interactive = take(&mut interactive, &mut left, choice.bulk == 0);
    if choice.interactive > 0 {
        left = left.min(budget.cost_max / BULK_PART_BESIDE_INTERACTIVE);
    }
    // A small request that did not fit waits for the next batch, not behind more bulk.
    if interactive.peek().is_none() {
        choice.bulk += take(&mut bulk, &mut left, choice == Choice::default());
    }
    choice
}

/// Takes jobs in order while they fit into what is `left`, the first one in any case if the batch
/// is `empty`; gives how many.
fn take(
    jobs: &mut std::iter::Peekable<impl Iterator<Item = Candidate>>,
    left: &mut usize,
    empty: bool,
) -> usize {
    let mut taken = 0;
    while let Some(job) = jobs.next_if(|job| cost(job.tokens) <= *left || (empty && taken == 0)) {
        *left = left.saturating_sub(cost(job.tokens));
        taken += 1;
    }
    taken
}

#[cfg(test)]
mod tests;
