//! How much of a long task is done, for whoever asks while it runs.
//!
//! Must not know: what the task is, who asks.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of a running task: units done and units in all, 0 while that is unknown. What a unit is
/// (a byte, a tensor) is known to whoever made it.
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

    /// Takes back units that have to be done again.
    pub fn take_back(&self, units: u64) {
        self.done.fetch_sub(units, Ordering::Relaxed);
    }

    /// Sets how many units there are in all, and how many of them are done.
    pub fn set(&self, done: u64, total: u64) {
        self.total.store(total, Ordering::Relaxed);
        self.done.store(done, Ordering::Relaxed);
    }

    /// Units done.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Units in all, 0 while that is unknown.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}
