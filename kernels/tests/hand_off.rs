//! The thread pool's hand-off of jobs under loom, which runs every order of the threads' steps
//! (with at most [`PREEMPTIONS`] switches from a thread that could go on) and reports data races
//! and threads that sleep for ever.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::AtomicUsize;
use loom::sync::atomic::Ordering::Relaxed;
use loom::thread;

/// What `hand_off.rs` takes from `cpu/thread_pool/sync.rs` elsewhere.
mod sync {
    pub use loom::cell::UnsafeCell;
    pub use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
}

#[path = "../src/cpu/thread_pool/hand_off.rs"]
mod hand_off;

use hand_off::{HandOff, Sleeper};

const PREEMPTIONS: usize = 3;
/// Indices of a job.
const COUNT: usize = 2;

/// A pool of one leader and its helpers, whose jobs count how often each of their indices ran.
struct Pool {
    hand_off: HandOff<usize>,
    sleepers: Vec<Sleeper>,
    counts: Vec<[AtomicUsize; COUNT]>,
    /// By job: read while an index runs, written when the leader believes that all have left.
    data: Vec<UnsafeCell<bool>>,
}

// SAFETY: `data` is written when no helper is left in the job; loom reports if that is not so.
unsafe impl Sync for Pool {}

impl Pool {
    fn new(helpers: usize, jobs: usize) -> Arc<Self> {
        Arc::new(Self {
            hand_off: HandOff::new(usize::MAX),
            sleepers: (0..helpers).map(|_| Sleeper::new()).collect(),
            counts: (0..jobs).map(|_| [const { 0 }; COUNT].map(AtomicUsize::new)).collect(),
            data: (0..jobs).map(|_| UnsafeCell::new(true)).collect(),
        })
    }

    fn run_indices(&self, job: usize, fails: bool) {
        loop {
            let index = self.hand_off.take();
            if index >= COUNT {
                return;
            }
            // SAFETY: written only after all have left; loom reports if that is not so.
            assert!(self.data[job].with(|data| unsafe { *data }), "a job runs after its end");
            self.counts[job][index].fetch_add(1, Relaxed);
            if fails {
                return self.hand_off.skip_to(COUNT);
            }
        }
    }

    /// Leads one job, as `ThreadPool::run` does. Returns how often each index ran.
    fn lead(&self, job: usize) -> Vec<usize> {
        // SAFETY: the main thread alone leads, and ends each job below.
        unsafe { self.hand_off.publish(job) };
        self.run_indices(job, false);
        self.hand_off.end(thread::yield_now);
        // SAFETY: no helper is left in the job; loom reports if one is.
        self.data[job].with_mut(|data| unsafe { *data = false });
        self.counts[job].iter().map(|count| count.load(Relaxed)).collect()
    }
}

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(model);
}

#[test]
fn each_index_runs_once_and_none_after_its_job_has_ended() {
    for (helpers, jobs) in [(1, 2), (2, 1)] {
        check(move || {
            let pool = Pool::new(helpers, jobs);
            let started: Vec<_> = (0..helpers)
                .map(|_| {
                    let pool = pool.clone();
                    thread::spawn(move || {
                        let mut last = 0;
                        // A helper that looks twice may join both jobs, the second only, or none.
                        for _ in 0..2 {
                            if let Some(joined) = pool.hand_off.join(&mut last) {
                                pool.run_indices(joined.job(), false);
                            }
                        }
                    })
                })
                .collect();
            for job in 0..jobs {
                assert_eq!(pool.lead(job), [1; COUNT]);
            }
            started.into_iter().for_each(|helper| helper.join().expect("no assertion fails"));
        });
    }
}

#[test]
fn a_job_that_is_published_while_a_helper_falls_asleep_wakes_it() {
    check(|| {
        let pool = Pool::new(1, 1);
        let helper = {
            let pool = pool.clone();
            thread::spawn(move || {
                // It has seen no job so far. Loom reports a deadlock if it sleeps for ever.
                pool.sleepers[0].sleep(|| pool.hand_off.is_new(0), thread::park);
            })
        };
        // SAFETY: the main thread alone leads, and this is its first job.
        unsafe { pool.hand_off.publish(0) };
        pool.sleepers[0].wake(|| helper.thread().unpark());
        helper.join().expect("no assertion fails");
        pool.hand_off.end(thread::yield_now);
    });
}

#[test]
fn a_job_in_which_a_helper_fails_ends_and_runs_no_index_twice() {
    check(|| {
        let pool = Pool::new(1, 1);
        let helper = {
            let pool = pool.clone();
            thread::spawn(move || {
                if let Some(joined) = pool.hand_off.join(&mut 0) {
                    pool.run_indices(joined.job(), true);
                }
            })
        };
        assert!(pool.lead(0).iter().all(|count| *count <= 1));
        helper.join().expect("no assertion fails");
    });
}
