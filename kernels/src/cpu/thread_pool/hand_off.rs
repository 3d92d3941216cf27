//! The hand-off of a job from one thread to others that wait for it, without locks.
//!
//! `kernels/tests/hand_off.rs` compiles this file with the atomics of loom, which tries every order
//! in which threads may run.
//! Must not know: what a job is, how threads are started.

use super::sync::{AtomicBool, AtomicU64, AtomicUsize, Ordering, UnsafeCell, fence};

/// In [`HandOff::state`]: whether helpers may join.
const OPEN: u64 = 1 << 31;
/// In [`HandOff::state`]: how many helpers have joined.
const JOINED: u64 = OPEN - 1;

/// A job that one thread, its leader, shares with helpers.
#[derive(Debug)]
pub struct HandOff<J> {
    /// The job's number in the upper half, the [`OPEN`] bit, and how many helpers have joined.
    state: AtomicU64,
    /// Written only by the leader, and only while the job is closed and no helper is left in it;
    /// read only by helpers that have joined.
    job: UnsafeCell<J>,
    /// The next index of the job to run.
    next: AtomicUsize,
}

// SAFETY: `job` is used as its comment says; everything else is `Sync`.
unsafe impl<J: Send + Sync> Sync for HandOff<J> {}

impl<J: Copy> HandOff<J> {
    /// A hand-off without a job that could be joined; `job` is never run.
    pub fn new(job: J) -> Self {
        Self { state: AtomicU64::new(0), job: UnsafeCell::new(job), next: AtomicUsize::new(0) }
    }

    /// Lets helpers join a job.
    ///
    /// # Safety
    /// One thread leads at a time, and it has [ended](Self::end) the last job.
    pub unsafe fn publish(&self, job: J) {
        // SAFETY: the last job is closed, no helper is left in it, and no other thread publishes.
        self.job.with_mut(|current| unsafe { *current = job });
        self.next.store(0, Ordering::Relaxed);
        let number = (self.state.load(Ordering::Relaxed) >> 32) + 1;
        self.state.store(number << 32 | OPEN, Ordering::Release);
        // Before `Sleeper::wake` looks for helpers that sleep; pairs with the fence in `sleep`.
        fence(Ordering::SeqCst);
    }

    /// Closes the job and waits until all helpers have left it; calls `relax` while it waits.
    /// Afterwards all writes of helpers are visible to the caller (happens-before).
    pub fn end(&self, mut relax: impl FnMut()) {
        self.state.fetch_and(!OPEN, Ordering::Relaxed);
        while self.state.load(Ordering::Acquire) & JOINED > 0 {
            relax();
        }
    }

    /// An index of the job that no other thread runs; beyond the job's count if none is left. Only
    /// for the leader and for helpers that have joined.
    pub fn take(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Leaves no index from `count` on, so that a failed job ends soon.
    pub fn skip_to(&self, count: usize) {
        self.next.store(count, Ordering::Relaxed);
    }

    /// Whether a job other than the `last` one can be joined.
    pub fn is_new(&self, last: u64) -> bool {
        is_new(self.state.load(Ordering::Relaxed), last)
    }

    /// Joins the job if it is open and not the `last` one, which it then becomes.
    pub fn join(&self, last: &mut u64) -> Option<Joined<'_, J>> {
        let state = self.state.load(Ordering::Relaxed);
        let (success, failure) = (Ordering::Acquire, Ordering::Relaxed);
        if !is_new(state, *last)
            || self.state.compare_exchange(state, state + 1, success, failure).is_err()
        {
            return None;
        }
        *last = state >> 32;
        Some(Joined { hand_off: self })
    }
}

fn is_new(state: u64, last: u64) -> bool {
    state & OPEN > 0 && state >> 32 != last
}

/// A helper's part in a job: the leader waits until it is dropped.
pub struct Joined<'a, J> {
    hand_off: &'a HandOff<J>,
}

impl<J: Copy> Joined<'_, J> {
    /// The job.
    pub fn job(&self) -> J {
        // SAFETY: the job is not written before all helpers that joined it have left.
        self.hand_off.job.with(|job| unsafe { *job })
    }
}

impl<J> Drop for Joined<'_, J> {
    fn drop(&mut self) {
        self.hand_off.state.fetch_sub(1, Ordering::Release);
    }
}

/// How a helper without a job sleeps and is woken.
#[derive(Debug)]
pub struct Sleeper {
    asleep: AtomicBool,
}

impl Sleeper {
    /// A helper that is awake.
    pub fn new() -> Self {
        Self { asleep: AtomicBool::new(false) }
    }

    /// Calls `park` unless there is a new job.
    pub fn sleep(&self, is_new: impl FnOnce() -> bool, park: impl FnOnce()) {
        self.asleep.store(true, Ordering::Relaxed);
        // Either this sees the job, or the leader sees `asleep`; pairs with that in `publish`.
        fence(Ordering::SeqCst);
        if !is_new() {
            park();
        }
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// Calls `unpark` if the helper sleeps or is about to, after a job was published.
    pub fn wake(&self, unpark: impl FnOnce()) {
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            unpark();
        }
    }
}
