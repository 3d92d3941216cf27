//! The thread pool that computes a batch.
//!
//! An operation takes microseconds to milliseconds and the next one follows at once, so idle
//! helpers spin briefly before they sleep: waking a thread takes longer than a small operation. The
//! calling thread takes part in its own job and waits only for helpers that have joined it.
//! Operations of several models take turns, each on all threads.
//! Must not know: what is computed.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

mod cores;
mod hand_off;
mod sync;

use hand_off::{HandOff, Sleeper};

/// How long an idle helper spins before it sleeps.
const LOOKS_FOR: Duration = Duration::from_micros(100);
/// Spins between two clock reads.
const LOOKS: usize = 32;
/// Spins of the calling thread, waiting for the last helper, before it yields the CPU.
const PATIENCE: usize = 2000;

static POOL: OnceLock<Arc<ThreadPool>> = OnceLock::new();

thread_local! {
    /// Whether this thread is running a task: nested operations then run on this thread alone.
    static IN_TASK: Cell<bool> = const { Cell::new(false) };
    /// The number of threads set by [`limited`].
    static LIMIT: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Sets the number of threads before the first operation; later calls change nothing.
pub fn set_threads(threads: usize) {
    POOL.get_or_init(|| ThreadPool::start(threads));
}

/// Number of threads that an operation of this thread uses, itself included; 1 inside a task.
pub fn threads() -> usize {
    if IN_TASK.get() {
        return 1;
    }
    let limit = LIMIT.get();
    if limit == usize::MAX { pool().helpers.len() + 1 } else { limit }
}

/// Runs `work` as if there were this many threads: for tests that results do not depend on it.
pub fn limited<T>(threads: usize, work: impl FnOnce() -> T) -> T {
    /// Restores the previous limit, also on panic.
    struct PreviousLimit(usize);
    impl Drop for PreviousLimit {
        fn drop(&mut self) {
            LIMIT.set(self.0);
        }
    }
    let _before = PreviousLimit(LIMIT.replace(threads.max(1)));
    work()
}

/// Runs `work(0)` to `work(count - 1)`, in any order, on all threads.
///
/// # Panics
/// If `work` panics: one of the panics is propagated.
pub fn for_each(count: usize, work: impl Fn(usize) + Sync) {
    if count < 2 || threads() == 1 {
        return (0..count).for_each(work);
    }
    pool().run(count, &work);
}

/// Runs `work(index, part)` on parts of `size` elements of a slice, on all threads.
///
/// # Panics
/// If `work` panics: one of the panics is propagated.
pub fn for_each_part<T: Send>(all: &mut [T], size: usize, work: impl Fn(usize, &mut [T]) + Sync) {
    let (length, shared) = (all.len(), crate::cpu::buffer::shared::SharedMut::new(all));
    for_each(length.div_ceil(size), |part| {
        let first = part * size;
        // SAFETY: parts of different indices do not overlap, and each index runs once.
        work(part, unsafe { shared.part(first, size.min(length - first)) });
    });
}

fn pool() -> &'static ThreadPool {
    POOL.get_or_init(|| ThreadPool::start(cores::usable()))
}

/// A type-erased job.
#[derive(Clone, Copy)]
struct Job {
    run: unsafe fn(*const (), usize),
    work: *const (),
    count: usize,
    helpers: usize,
}

// SAFETY: `work` points to an `F: Sync` (see `ThreadPool::run`).
unsafe impl Send for Job {}
// SAFETY: as above.
unsafe impl Sync for Job {}

unsafe fn run_one<F: Fn(usize)>(work: *const (), index: usize) {
    // SAFETY: `ThreadPool::run` made the pointer from an `F` that lives until all have left.
    unsafe { (*work.cast::<F>())(index) };
}

struct Helper {
    thread: OnceLock<Thread>,
    sleeper: Sleeper,
}

struct ThreadPool {
    hand_off: HandOff<Job>,
    helpers: Vec<Helper>,
    leader: Mutex<()>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl ThreadPool {
    fn start(threads: usize) -> Arc<Self> {
        fn nothing(_: *const (), _: usize) {}
        let job = Job { run: nothing, work: std::ptr::null(), count: 0, helpers: 0 };
        let helpers =
            (1..threads).map(|_| Helper { thread: OnceLock::new(), sleeper: Sleeper::new() });
        let pool = Arc::new(Self {
            hand_off: HandOff::new(job),
            helpers: helpers.collect(),
            leader: Mutex::new(()),
            panic: Mutex::new(None),
        });
        for index in 0..pool.helpers.len() {
            let own = pool.clone();
            let started = std::thread::Builder::new()
                .name(format!("kernel-{index}"))
                .spawn(move || own.help(index));
            // If a thread does not start, the others do its share.
            if let Ok(handle) = started {
                let _ = pool.helpers[index].thread.set(handle.thread().clone());
            }
        }
        pool
    }

    fn run<F: Fn(usize) + Sync>(&self, count: usize, work: &F) {
        let leader = self.leader.lock();
        let helpers = threads() - 1;
        let work: *const F = work;
        let job = Job { run: run_one::<F>, work: work.cast(), count, helpers };
        // SAFETY: this thread holds `leader`, and each job ends before `leader` is released.
        unsafe { self.hand_off.publish(job) };
        // Counting one task for this thread, at most `count - 1` helpers are needed.
        for helper in self.helpers.iter().take(helpers.min(count - 1)) {
            helper.sleeper.wake(|| helper.thread.get().into_iter().for_each(Thread::unpark));
        }
        self.take_part(job);
        let mut looked = 0;
        self.hand_off.end(|| {
            looked += 1;
            if looked > PATIENCE { std::thread::yield_now() } else { std::hint::spin_loop() }
        });
        let panic = self.panic.lock().take();
        drop(leader);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// Runs the remaining indices of the job. Only for helpers that have joined and for the thread
    /// that holds `leader`.
    fn take_part(&self, job: Job) {
        IN_TASK.set(true);
        let done = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let index = self.hand_off.take();
                if index >= job.count {
                    break;
                }
                // SAFETY: the work lives until all threads have left: `run` waits for them.
                unsafe { (job.run)(job.work, index) };
            }
        }));
        IN_TASK.set(false);
        if let Err(panic) = done {
            self.hand_off.skip_to(job.count);
            self.panic.lock().get_or_insert(panic);
        }
    }

    /// The main loop of a helper.
    fn help(&self, index: usize) {
        let (mut last, mut since) = (0, Instant::now());
        loop {
            for _ in 0..LOOKS {
                if let Some(joined) = self.hand_off.join(&mut last) {
                    let job = joined.job();
                    if index < job.helpers {
                        self.take_part(job);
                    }
                    drop(joined);
                    since = Instant::now();
                }
                std::hint::spin_loop();
            }
            if since.elapsed() > LOOKS_FOR {
                let sleeper = &self.helpers[index].sleeper;
                sleeper.sleep(|| self.hand_off.is_new(last), std::thread::park);
                since = Instant::now();
            }
        }
    }
}

#[cfg(test)]
mod tests;
