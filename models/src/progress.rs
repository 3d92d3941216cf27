//! Progress of a long task, which others may read while it runs.
//!
//! Must not know: what the task is, who reads it.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of a running task: units done, and units in total, 0 while that is unknown. Its creator
/// decides what a unit is (a byte, a tensor).
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicU64,
    total: AtomicU64,
}

impl Progress {
    /// A task of `total` units, none of them done.
    pub fn of(total: u64) -> Self {
        Self { done: AtomicU64::new(0), total: AtomicU64::new(total) }
    }

    /// Adds units that are done.
    pub fn add(&self, units: u64) {
        self.done.fetch_add(units, Ordering::Relaxed);
    }

    /// Subtracts units that have to be done again.
    pub fn take_back(&self, units: u64) {
        self.done.fetch_sub(units, Ordering::Relaxed);
    }

    /// Sets the total number of units and how many of them are done.
    pub fn set(&self, done: u64, total: u64) {
        self.total.store(total, Ordering::Relaxed);
        self.done.store(done, Ordering::Relaxed);
    }

    /// Units done.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Units in total, 0 while that is unknown.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}
