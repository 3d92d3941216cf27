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
    /// Work of its sequence, in tokens of texts.
    pub tokens: usize,
    /// Of these, what the job before it in its queue begins with too, and is computed once if both
    /// are in a batch.
    pub shared: usize,
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

impl Candidate {
    /// What it adds to a batch, behind the job before it in its queue or not.
    fn cost(&self, behind: bool) -> usize {
        cost(self.tokens) - if behind { cost(self.shared) } else { 0 }
    }
}

/// The work of a sequence, in tokens of short sequences: linear layers and attention.
pub fn cost(tokens: usize) -> usize {
    tokens + tokens * tokens / QUADRATIC_SCALE
}

/// Chooses from two queues, each oldest first.
///
/// Interactive jobs go before bulk ones, unless the oldest bulk job has waited too long: then it
/// goes first, so that nobody starves. Within a queue the order is kept: a job that does not fit
/// ends the choice instead of being passed by smaller ones. A job above the budget runs alone, but
/// for jobs most of which is computed with it (candidates for a long query), as many as a budget
/// holds. A batch with interactive jobs is kept short: bulk fills a quarter of it.
pub fn choose(
    interactive: impl Iterator<Item = Candidate>,
    bulk: impl Iterator<Item = Candidate>,
    budget: &Budget,
) -> Choice {
    let (mut interactive, mut bulk) = (interactive.peekable(), bulk.peekable());
    let mut choice = Choice::default();
    let mut left = budget.cost_max;
    let starving = bulk.peek().is_some_and(|oldest| oldest.waited >= budget.bulk_wait_max);
    if starving {
        choice.bulk = take_first(&mut bulk, &mut left);
    }
    let first = if choice.bulk == 0 { First::Always } else { First::IfItFits };
    choice.interactive = take(&mut interactive, &mut left, first);
    if choice.interactive > 0 {
        left = left.min(budget.cost_max / BULK_PART_BESIDE_INTERACTIVE);
    }
    // A small request that did not fit waits for the next batch, not behind more bulk.
    if interactive.peek().is_none() {
        let first = match choice {
            Choice { interactive: 0, bulk: 0 } => First::Always,
            Choice { bulk: 0, .. } => First::IfItFits,
            _ => First::Behind,
        };
        choice.bulk += take(&mut bulk, &mut left, first);
    }
    choice
}

/// What is known of the first job that [`take`] looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    /// It begins a batch, which it may overdraw.
    Always,
    /// Others are in the batch already, of another queue.
    IfItFits,
    /// The job before it is in the batch.
    Behind,
}

type Jobs<I> = std::iter::Peekable<I>;

/// Takes jobs in order while they fit into what is `left`; gives how many.
fn take(jobs: &mut Jobs<impl Iterator<Item = Candidate>>, left: &mut usize, first: First) -> usize {
    let mut taken = if first == First::Always { take_first(jobs, left) } else { 0 };
    let behind = |taken: usize| taken > 0 || first == First::Behind;
    while let Some(job) = jobs.next_if(|job| job.cost(behind(taken)) <= *left) {
        *left -= job.cost(behind(taken));
        taken += 1;
    }
    taken
}

/// Takes the first job, for which `left` is a whole budget; if it overdraws that, those as well
/// that share most of it, as many as the budget holds besides it. Gives how many.
fn take_first(jobs: &mut Jobs<impl Iterator<Item = Candidate>>, left: &mut usize) -> usize {
    let Some(first) = jobs.next() else { return 0 };
    let cost = first.cost(false);
    if cost <= *left {
        *left -= cost;
        return 1;
    }
    let mut with_it = std::mem::take(left);
    let mut taken = 1;
    let shares = |job: &Candidate| job.shared > job.tokens / 2;
    while let Some(job) = jobs.next_if(|job| shares(job) && job.cost(true) <= with_it) {
        with_it -= job.cost(true);
        taken += 1;
    }
    taken
}

#[cfg(test)]
mod tests;
