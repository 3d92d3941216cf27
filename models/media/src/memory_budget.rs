//! Room in memory for what is decoded and resampled: one budget for the whole process, of which
//! each picture takes its worst case before it is decoded, and waits while that does not fit.
//!
//! Must not know: file formats, what the bytes are for.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The room of the process.
pub(super) static ROOM: Room = Room::new();

/// Bytes that are held, and who waits for some. Whoever holds bytes must never wait for more: two
/// that did would wait for each other.
#[derive(Debug)]
pub(super) struct Room {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    held: usize,
    /// The number that who comes next is given.
    next: u64,
    /// The number whose turn it is: nobody overtakes, so what is large is not left to wait for
    /// ever while small ones come and go.
    turn: u64,
}

impl Room {
    pub(super) const fn new() -> Self {
        let state = State { held: 0, next: 0, turn: 0 };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Numbers are changed whole: there is nothing that a panic leaves half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes some bytes of `bytes_max`; what alone is more has to itself what there is.
    pub(super) fn take(&'static self, bytes: usize, bytes_max: usize) -> Held {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        let full = |state: &State| state.held > 0 && state.held.saturating_add(bytes) > bytes_max;
        while state.turn != number || full(&state) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.turn += 1;
        state.held += bytes;
        drop(state);
        self.changed.notify_all();
        Held { room: self, bytes }
    }

    /// Bytes that are held.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.lock().held
    }

    /// How many wait.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> u64 {
        let state = self.lock();
        state.next - state.turn
    }
}

/// Bytes that are taken, until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    room: &'static Room,
    bytes: usize,
}

impl Held {
    /// How many they are.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.lock().held -= self.bytes;
        self.room.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    /// Comes back when so many wait.
    fn until_waiting(room: &Room, number: u64) {
        while room.waiting() != number {
            thread::yield_now();
        }
    }

    #[test]
    fn what_does_not_fit_waits_for_its_turn() {
        static HERE: Room = Room::new();
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
            // Room for the smaller, which came later.
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
        static HERE: Room = Room::new();
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
        static HERE: Room = Room::new();
        let held = HERE.take(5, 100);
        assert!(thread::spawn(move || drop((held, panic_any()))).join().is_err());
        assert_eq!(HERE.held(), 0);
    }

    fn panic_any() {
        std::panic::resume_unwind(Box::new("on purpose"));
    }
}
