use proptest::prelude::*;

use super::*;

const WAIT_MAX: Duration = Duration::from_millis(500);

fn candidates(jobs: &[(usize, u64)]) -> Vec<Candidate> {
    let job = |(tokens, waited): &(usize, u64)| Candidate {
        tokens: *tokens,
        shared: 0,
        waited: Duration::from_millis(*waited),
    };
    jobs.iter().map(job).collect()
}

fn chosen(interactive: &[Candidate], bulk: &[Candidate], cost_max: usize) -> Choice {
    let budget = Budget { cost_max, bulk_wait_max: WAIT_MAX };
    choose(interactive.iter().copied(), bulk.iter().copied(), &budget)
}

#[test]
fn small_requests_go_first_and_bulk_fills_a_quarter_beside_them() {
    let (small, bulk) = (candidates(&[(10, 0), (10, 0)]), candidates(&[(30, 0), (30, 0), (30, 0)]));
    assert_eq!(chosen(&small, &bulk, 160), Choice { interactive: 2, bulk: 1 });
    assert_eq!(chosen(&small, &bulk, 80), Choice { interactive: 2, bulk: 0 });
    assert_eq!(chosen(&[], &bulk, 80), Choice { interactive: 0, bulk: 2 });
    assert_eq!(chosen(&small, &bulk, 15), Choice { interactive: 1, bulk: 0 });
}

#[test]
fn a_bulk_job_that_waited_too_long_goes_first() {
    let (small, bulk) = (candidates(&[(50, 0), (50, 0)]), candidates(&[(60, 500), (60, 400)]));
    assert_eq!(chosen(&small, &bulk, 110), Choice { interactive: 1, bulk: 1 });
    assert_eq!(chosen(&small, &bulk, 60), Choice { interactive: 0, bulk: 1 });
}

#[test]
fn a_job_above_the_budget_runs_alone() {
    let small = candidates(&[(5000, 0), (1, 0)]);
    assert_eq!(chosen(&small, &[], 100), Choice { interactive: 1, bulk: 0 });
    assert_eq!(chosen(&[], &small, 100), Choice { interactive: 0, bulk: 1 });
}

#[test]
fn what_jobs_share_is_counted_once() {
    let shared =
        |(tokens, shared): (usize, usize)| Candidate { tokens, shared, waited: Duration::ZERO };
    let small = candidates(&[(10, 0)]);
    let candidates = [(60, 0), (60, 40), (60, 40), (60, 40)].map(shared);
    assert_eq!(chosen(&[], &candidates, 100), Choice { interactive: 0, bulk: 3 });
    // A long query and its candidates: the first exceeds the budget, and the others join it.
    let long = [(1000, 0), (1010, 990), (1010, 990), (1010, 990), (70, 10)].map(shared);
    assert_eq!(chosen(&[], &long, 60), Choice { interactive: 0, bulk: 3 });
    assert_eq!(chosen(&[], &long, 600), Choice { interactive: 0, bulk: 4 });
    // A starving job goes first, followed by the jobs that share its prefix.
    let waited = candidates.map(|job| Candidate { waited: WAIT_MAX, ..job });
    assert_eq!(chosen(&[], &waited, 100), Choice { interactive: 0, bulk: 3 });
    let waited = long.map(|job| Candidate { waited: WAIT_MAX, ..job });
    assert_eq!(chosen(&[], &waited, 60), Choice { interactive: 0, bulk: 3 });
    assert_eq!(chosen(&small, &waited, 600), Choice { interactive: 0, bulk: 4 });
}

#[test]
fn long_sequences_cost_more_than_their_tokens() {
    assert_eq!(cost(64), 65);
    assert_eq!(cost(4096), 8192);
}

proptest! {
    #[test]
    fn a_batch_is_never_empty_and_never_over_budget_unless_it_is_one_job(
        small in prop::collection::vec((1usize..3000, 0u64..1000), 0..40),
        bulk in prop::collection::vec((1usize..3000, 0u64..1000), 0..40),
        cost_max in 1usize..6000,
    ) {
        let (small, bulk) = (candidates(&small), candidates(&bulk));
        let choice = chosen(&small, &bulk, cost_max);
        let jobs = choice.interactive + choice.bulk;
        prop_assert!(choice.interactive <= small.len() && choice.bulk <= bulk.len());
        prop_assert_eq!(jobs == 0, small.is_empty() && bulk.is_empty());
        let parts = small[..choice.interactive].iter().chain(&bulk[..choice.bulk]);
        let total: usize = parts.map(|job| cost(job.tokens)).sum();
        prop_assert!(total <= cost_max || jobs == 1, "{jobs} jobs cost {total} of {cost_max}");
    }

    #[test]
    fn every_job_is_chosen_in_the_end(
        small in prop::collection::vec(1usize..3000, 0..40),
        bulk in prop::collection::vec(1usize..3000, 1..40),
        cost_max in 1usize..6000,
    ) {
        // New small requests keep coming; each batch takes 100 ms.
        let mut bulk: Vec<(usize, u64)> = bulk.into_iter().map(|tokens| (tokens, 0)).collect();
        let batches = bulk.len() + 6;
        for _ in 0..batches {
            let arriving: Vec<(usize, u64)> = small.iter().map(|tokens| (*tokens, 0)).collect();
            let choice = chosen(&candidates(&arriving), &candidates(&bulk), cost_max);
            bulk.drain(..choice.bulk);
            bulk.iter_mut().for_each(|(_, waited)| *waited += 100);
        }
        prop_assert!(bulk.is_empty(), "{} bulk jobs starve", bulk.len());
    }
}
