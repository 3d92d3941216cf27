//! The memory budget of decoding and resampling: one for the whole process. Each image reserves its
//! worst case before it is decoded, and waits until that fits.
//!
//! Must not know: file formats, what the bytes are for.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The budget of the process.
pub(super) static BUDGET: MemoryBudget = MemoryBudget::new();

/// The bytes reserved, and the queue of those that wait for some. Whoever holds a reservation must
/// never wait for another: two that did would deadlock.
#[derive(Debug)]
pub(super) struct MemoryBudget {
    reserved: Mutex<Reserved>,
    changed: Condvar,
}

#[derive(Debug)]
struct Reserved {
    held: usize,
    /// The next ticket to hand out.
    next: u64,
    /// The ticket to serve next. Requests are served in order, so that small ones do not starve a
    /// large one.
    turn: u64,
}

impl MemoryBudget {
    pub(super) const fn new() -> Self {
        let reserved = Reserved { held: 0, next: 0, turn: 0 };
        Self { reserved: Mutex::new(reserved), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Reserved> {
        // Each field changes in a single step, so a panic leaves nothing half done.
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves `bytes` of `bytes_max`, blocking. A request larger than the budget runs alone.
    pub(super) fn take(&'static self, bytes: usize, bytes_max: usize) -> Reservation {
        let mut reserved = self.lock();
        let number = reserved.next;
        reserved.next += 1;
        while reserved.turn != number
            || reserved.held > 0 && reserved.held.saturating_add(bytes) > bytes_max
        {
            reserved = self.changed.wait(reserved).unwrap_or_else(PoisonError::into_inner);
        }
        reserved.turn += 1;
        reserved.held += bytes;
        drop(reserved);
        self.changed.notify_all();
        Reservation { budget: self, bytes }
    }

    /// Bytes reserved.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.lock().held
    }

    /// Number of requests that wait.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> u64 {
        let reserved = self.lock();
        reserved.next - reserved.turn
    }
}

/// Reserved bytes, released on drop.
#[derive(Debug)]
pub(super) struct Reservation {
    budget: &'static MemoryBudget,
    bytes: usize,
}

impl Reservation {
    /// Number of bytes.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.lock().held -= self.bytes;
        self.budget.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    /// Returns once `number` requests wait.
    fn until_waiting(budget: &MemoryBudget, number: u64) {
        while budget.waiting() != number {
            thread::yield_now();
        }
    }

    #[test]
    fn what_does_not_fit_waits_for_its_turn() {
        static HERE: MemoryBudget = MemoryBudget::new();
        let (say, hear) = mpsc::channel();
        let first = HERE.take(60, 100);
        let second = HERE.take(40, 100);
        thread::scope(|scope| {
            for (number, bytes) in [(1, 50), (2, 10)] {
                let say = say.clone();
                scope.spawn(move || {
                    let held = HERE.take(bytes, 100);
                    say.send(bytes).expect("a listener");
                    drop(held);
                });
                until_waiting(&HERE, number);
            }
            // The smaller request would fit now, but came later.
            drop(second);
            assert_eq!((HERE.waiting(), hear.try_recv().ok()), (2, None));
            drop(first);
            let mut came = [hear.recv().expect("one"), hear.recv().expect("the other")];
            came.sort_unstable();
            assert_eq!(came, [10, 50]);
        });
        assert_eq!((HERE.held(), HERE.waiting()), (0, 0));
    }

    #[test]
    fn what_is_larger_than_all_room_has_it_alone() {
        static HERE: MemoryBudget = MemoryBudget::new();
        let small = HERE.take(1, 100);
        thread::scope(|scope| {
            let large = scope.spawn(|| HERE.take(usize::MAX, 100));
            until_waiting(&HERE, 1);
            drop(small);
            let large = large.join().expect("the large one");
            assert_eq!((HERE.held(), large.bytes()), (usize::MAX, usize::MAX));
            let other = scope.spawn(|| HERE.take(1, 100));
            until_waiting(&HERE, 1);
            drop(large);
            other.join().expect("the other");
        });
        assert_eq!(HERE.held(), 0);
    }

    #[test]
    fn a_panic_gives_back_what_it_held() {
        static HERE: MemoryBudget = MemoryBudget::new();
        let held = HERE.take(5, 100);
        assert!(thread::spawn(move || drop((held, panic_any()))).join().is_err());
        assert_eq!(HERE.held(), 0);
    }

    fn panic_any() {
        std::panic::resume_unwind(Box::new("on purpose"));
    }
}
