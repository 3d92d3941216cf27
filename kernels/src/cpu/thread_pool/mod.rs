//! The threads that compute a batch together.
//!
//! An operation takes from microseconds to milliseconds and the next one follows at once, so
//! threads that help look for work for a moment before they sleep: waking a thread takes longer
//! than a small operation. The thread that has the work takes part in it and waits for nobody who
//! has not begun. Operations of several models take turns, each on all threads.
//! Must not know: what is computed.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

mod cores;

/// How long a thread looks for work before it sleeps.
const LOOKS_FOR: Duration = Duration::from_micros(100);
/// How often it looks between two glances at the clock.
const LOOKS: usize = 32;
/// How often the thread that has the work looks for the last helper before it lets others run.
const PATIENCE: usize = 2000;

/// In [`ThreadPool::state`]: whether helpers may join.
const OPEN: u64 = 1 << 31;
/// In [`ThreadPool::state`]: how many have joined.
const JOINED: u64 = OPEN - 1;

static POOL: OnceLock<Arc<ThreadPool>> = OnceLock::new();

thread_local! {
    /// Whether this thread is in a task, which then computes alone what it would share.
    static IN_TASK: Cell<bool> = const { Cell::new(false) };
    /// The number of threads that tests want.
    static LIMIT: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Sets the number of threads before the first operation; later calls change nothing.
pub fn set_threads(threads: usize) {
    POOL.get_or_init(|| ThreadPool::start(threads));
}

/// Threads that compute what this one shares, itself among them: in a task only itself.
pub fn threads() -> usize {
    if IN_TASK.get() {
        return 1;
    }
    let limit = LIMIT.get();
    if limit == usize::MAX { pool().helpers.len() + 1 } else { limit }
}

/// Runs `work` as if there were this many threads: for tests that results do not depend on them.
pub fn limited<T>(threads: usize, work: impl FnOnce() -> T) -> T {
    /// Ends the limit, also in a panic.
    struct Before(usize);
    impl Drop for Before {
        fn drop(&mut self) {
            LIMIT.set(self.0);
        }
    }
    let _before = Before(LIMIT.replace(threads.max(1)));
    work()
}

/// Runs `work(0)` to `work(count - 1)`, in any order, on all threads.
///
/// # Panics
/// With what one of them panics with.
pub fn for_each(count: usize, work: impl Fn(usize) + Sync) {
    if count < 2 || threads() == 1 {
        return (0..count).for_each(work);
    }
    pool().run(count, &work);
}

/// Runs `work(index, part)` on parts of `size` elements of a slice, on all threads.
///
/// # Panics
/// With what one of them panics with.
pub fn for_each_part<T: Send>(all: &mut [T], size: usize, work: impl Fn(usize, &mut [T]) + Sync) {
    let (length, shared) = (all.len(), crate::cpu::buffer::shared::SharedMut::new(all));
    for_each(length.div_ceil(size), |part| {
        let first = part * size;
        // SAFETY: parts of different indices do not overlap, and each index is run once.
        work(part, unsafe { shared.part(first, size.min(length - first)) });
    });
}

fn pool() -> &'static ThreadPool {
    POOL.get_or_init(|| ThreadPool::start(cores::usable()))
}

/// What is to be done, of any type.
struct Job {
    run: unsafe fn(*const (), usize),
    work: *const (),
    count: usize,
    helpers: usize,
}

unsafe fn run_one<F: Fn(usize)>(work: *const (), index: usize) {
    // SAFETY: `ThreadPool::run` made the pointer of an `F` that lives until all have left.
    unsafe { (*work.cast::<F>())(index) };
}

struct Helper {
    thread: OnceLock<Thread>,
    asleep: AtomicBool,
}

struct ThreadPool {
    /// The number of the job in the upper half, [`OPEN`], and how many have joined it.
    state: AtomicU64,
    /// Written only by the thread that holds `leader`, and only while the job is closed and
    /// everybody has left; read only by that thread and by those who have joined.
    job: UnsafeCell<Job>,
    /// The next index of the job.
    next: AtomicUsize,
    helpers: Vec<Helper>,
    leader: Mutex<()>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `job` is used as its comment says; all else is made for sharing.
unsafe impl Sync for ThreadPool {}
// SAFETY: as above; the pointers in `job` are used only by those who may read it.
unsafe impl Send for ThreadPool {}

impl ThreadPool {
    fn start(threads: usize) -> Arc<Self> {
        fn nothing(_: *const (), _: usize) {}
        let helper = |_| Helper { thread: OnceLock::new(), asleep: AtomicBool::new(false) };
        let job = Job { run: nothing, work: std::ptr::null(), count: 0, helpers: 0 };
        let team = Arc::new(Self {
            state: AtomicU64::new(0),
            job: UnsafeCell::new(job),
            next: AtomicUsize::new(0),
            helpers: (1..threads).map(helper).collect(),
            leader: Mutex::new(()),
            panic: Mutex::new(None),
        });
        for place in 0..team.helpers.len() {
            let own = team.clone();
            let started = std::thread::Builder::new()
                .name(format!("kernel-{place}"))
                .spawn(move || own.help(place));
            // Without it the others do its part.
            if let Ok(handle) = started {
                let _ = team.helpers[place].thread.set(handle.thread().clone());
            }
        }
        team
    }

    fn run<F: Fn(usize) + Sync>(&self, count: usize, work: &F) {
        let leader = self.leader.lock();
        let helpers = threads() - 1;
        let work: *const F = work;
        // SAFETY: this thread holds `leader`, and the last job was closed and left by all.
        unsafe { *self.job.get() = Job { run: run_one::<F>, work: work.cast(), count, helpers } };
        self.next.store(0, Ordering::Relaxed);
        let number = (self.state.load(Ordering::Relaxed) >> 32) + 1;
        self.state.store(number << 32 | OPEN, Ordering::SeqCst);
        // One task is this thread's: no more are woken than there are others.
        for helper in self.helpers.iter().take(helpers.min(count - 1)) {
            if helper.asleep.swap(false, Ordering::SeqCst) {
                helper.thread.get().into_iter().for_each(Thread::unpark);
            }
        }
        self.take_part();
        self.state.fetch_and(!OPEN, Ordering::SeqCst);
        let mut looked = 0;
        while self.state.load(Ordering::Acquire) & JOINED > 0 {
            looked += 1;
            if looked > PATIENCE { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
        let panic = self.panic.lock().take();
        drop(leader);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// Does what is left of the job, index by index. Only for those who have joined, and the
    /// thread that holds `leader`.
    fn take_part(&self) {
        // SAFETY: nobody writes the job before those who have joined it have left.
        let job = unsafe { &*self.job.get() };
        IN_TASK.set(true);
        let done = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let index = self.next.fetch_add(1, Ordering::Relaxed);
                if index >= job.count {
                    break;
                }
                // SAFETY: the work lives until all have left: `run` waits for that.
                unsafe { (job.run)(job.work, index) };
            }
        }));
        IN_TASK.set(false);
        if let Err(panic) = done {
            self.next.store(job.count, Ordering::Relaxed);
            self.panic.lock().get_or_insert(panic);
        }
    }

    /// What a helper does all its life.
    fn help(&self, place: usize) {
        let (mut last, mut since) = (0, Instant::now());
        loop {
            for _ in 0..LOOKS {
                if self.join(place, &mut last) {
                    since = Instant::now();
                }
                std::hint::spin_loop();
            }
            if since.elapsed() > LOOKS_FOR {
                let asleep = &self.helpers[place].asleep;
                asleep.store(true, Ordering::SeqCst);
                // Work that came before the line above woke nobody.
                if !self.is_new(self.state.load(Ordering::SeqCst), last) {
                    std::thread::park();
                }
                asleep.store(false, Ordering::SeqCst);
                since = Instant::now();
            }
        }
    }

    fn is_new(&self, state: u64, last: u64) -> bool {
        state & OPEN > 0 && state >> 32 != last
    }

    /// Takes part in a job that is open and not the `last` one; gives whether there was one.
    fn join(&self, place: usize, last: &mut u64) -> bool {
        let state = self.state.load(Ordering::Relaxed);
        let (seen, joined) = (Ordering::SeqCst, state + 1);
        if !self.is_new(state, *last)
            || self.state.compare_exchange(state, joined, seen, Ordering::Relaxed).is_err()
        {
            return false;
        }
        *last = state >> 32;
        // SAFETY: as in `take_part`.
        if place < unsafe { (*self.job.get()).helpers } {
            self.take_part();
        }
        self.state.fetch_sub(1, Ordering::Release);
        true
    }
}

#[cfg(test)]
mod tests;
