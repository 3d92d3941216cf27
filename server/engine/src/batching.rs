//! Which waiting jobs form the next batch: a pure function of the queue and a budget.
//!
//! Must not know: clocks, threads, what a job computes.

use std::time::Duration;

/// Sequence length at which attention, whose work grows with the square of the length, costs as
/// much as the rest.
const QUADRATIC_SCALE: usize = 4096;

/// Bulk jobs may fill one part in this many of a batch with interactive jobs, which wait for them.
const BULK_PART_BESIDE_INTERACTIVE: usize = 4;

/// What choosing a batch needs to know about a waiting job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Work of its sequence, in text tokens.
    pub tokens: usize,
    /// Of these, the prefix it shares with the job before it in its queue, which is computed once
    /// if both are in a batch.
    pub shared: usize,
    /// How long it has waited.
    pub waited: Duration,
}

/// The limits of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Maximum cost of all jobs together, in tokens of short sequences.
    pub cost_max: usize,
    /// A bulk job that has waited this long goes before interactive ones.
    pub bulk_wait_max: Duration,
}

/// How many jobs from the front of each queue form the next batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Choice {
    /// Jobs of small requests.
    pub interactive: usize,
    /// Jobs of large requests.
    pub bulk: usize,
}

impl Candidate {
    /// Its cost in a batch; `follows` if the batch has the job before it in its queue, too.
    fn cost(&self, follows: bool) -> usize {
        cost(self.tokens) - if follows { cost(self.shared) } else { 0 }
    }
}

/// Cost of a sequence, in tokens of short sequences: linear layers plus attention.
pub fn cost(tokens: usize) -> usize {
    tokens + tokens * tokens / QUADRATIC_SCALE
}

/// Chooses the next batch from two queues, each in its order of service.
///
/// Interactive jobs go before bulk jobs, unless the first bulk job has waited too long: then it
/// goes first, so that bulk jobs do not starve. The order within a queue is kept: a job that does
/// not fit ends the choice rather than being overtaken by smaller ones. A job above the budget runs
/// alone, except that following jobs that share most of their tokens (candidates for a long query)
/// join it, up to a second budget. A batch with interactive jobs is kept short: bulk jobs fill at
/// most a quarter of it.
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
    // If an interactive job did not fit, it waits for the next batch, so no bulk is added to this
    // one.
    if interactive.peek().is_none() {
        let first = match choice {
            Choice { interactive: 0, bulk: 0 } => First::Always,
            Choice { bulk: 0, .. } => First::IfItFits,
            _ => First::Follows,
        };
        choice.bulk += take(&mut bulk, &mut left, first);
    }
    choice
}

/// What is known of the first job that [`take`] considers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    /// It starts a batch, whose budget it may exceed.
    Always,
    /// The batch already has jobs, from the other queue.
    IfItFits,
    /// The job before it in its queue is in the batch.
    Follows,
}

type Jobs<I> = std::iter::Peekable<I>;

/// Takes jobs in order while they fit into what is `left`; returns how many.
fn take(jobs: &mut Jobs<impl Iterator<Item = Candidate>>, left: &mut usize, first: First) -> usize {
    let mut taken = if first == First::Always { take_first(jobs, left) } else { 0 };
    let follows = |taken: usize| taken > 0 || first == First::Follows;
    while let Some(job) = jobs.next_if(|job| job.cost(follows(taken)) <= *left) {
        *left -= job.cost(follows(taken));
        taken += 1;
    }
    taken
}

/// Takes the first job, with a whole budget `left`. If it exceeds that, also takes the following
/// jobs that share most of their tokens, as many as fit into the same budget again. Returns how
/// many.
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
