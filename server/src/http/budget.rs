//! Budgets of bytes for the whole process: for bodies that are being read, and for responses that
//! are not written yet.
//!
//! Must not know: what they contain.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bodies up to this size may use all of the budget, larger ones three quarters of it, so that a
/// few large bodies that arrive slowly do not block small ones.
const SMALL_BODY_BYTES: usize = 64 * 1024;
/// Reserved for a body before its first byte: for its task and its head.
const BODY_BYTES_MIN: usize = 4 * 1024;
/// Responses up to this size are not counted: there are no more of them than concurrent requests.
const UNCOUNTED_ANSWER_BYTES: usize = 64 * 1024;
/// Responses up to this size use one half of the budget, larger ones the other, so that large
/// responses that nobody reads do not block small ones.
const MIDDLE_ANSWER_BYTES: usize = 1024 * 1024;
/// The unit in which responses are counted.
const KIB: usize = 1024;

/// The budget is exhausted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetExhausted;

/// The budget of all bodies that are being read.
#[derive(Debug)]
pub struct Bodies {
    limit: usize,
    held: AtomicUsize,
}

impl Bodies {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, held: AtomicUsize::new(0) })
    }

    /// Makes the reservation of a body that begins.
    ///
    /// # Errors
    /// `BudgetExhausted`.
    pub fn begin(self: &Arc<Self>) -> Result<BodyReservation, BudgetExhausted> {
        let mut room = BodyReservation { bodies: self.clone(), bytes: 0 };
        room.grow(BODY_BYTES_MIN)?;
        Ok(room)
    }
}

/// The reservation of one body, released when dropped.
#[derive(Debug)]
pub struct BodyReservation {
    bodies: Arc<Bodies>,
    bytes: usize,
}

impl BodyReservation {
    /// Grows the reservation to at least `bytes` in total.
    ///
    /// # Errors
    /// `BudgetExhausted`; the reservation stays as it was.
    pub fn grow(&mut self, bytes: usize) -> Result<(), BudgetExhausted> {
        let Some(more) = bytes.checked_sub(self.bytes).filter(|more| *more > 0) else {
            return Ok(());
        };
        let whole = self.bodies.limit;
        let limit = if bytes <= SMALL_BODY_BYTES { whole } else { whole - whole / 4 };
        let grown = |held: usize| held.checked_add(more).filter(|held| *held <= limit);
        let taken = self.bodies.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown);
        taken.map_err(|_| BudgetExhausted)?;
        self.bytes = bytes;
        Ok(())
    }

    /// Shrinks the reservation to that of a body that begins.
    pub fn empty(&mut self) {
        let less = self.bytes - BODY_BYTES_MIN.min(self.bytes);
        self.bodies.held.fetch_sub(less, Ordering::Relaxed);
        self.bytes -= less;
    }
}

impl Drop for BodyReservation {
    fn drop(&mut self) {
        self.bodies.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The budget of all responses that are being computed or are not written yet.
#[derive(Debug)]
pub struct ResponseBudget {
    /// Maximum bytes of one response.
    pub limit: usize,
    middle: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

impl ResponseBudget {
    /// A budget of `limit` bytes, besides the responses that are not counted.
    pub fn new(limit: usize) -> Arc<Self> {
        let half = (limit / 2 / KIB).clamp(1, Semaphore::MAX_PERMITS);
        let semaphore = || Arc::new(Semaphore::new(half));
        Arc::new(Self { limit: half * KIB, middle: semaphore(), large: semaphore() })
    }

    fn half(&self, bytes: usize) -> &Arc<Semaphore> {
        if bytes <= MIDDLE_ANSWER_BYTES { &self.middle } else { &self.large }
    }

    /// Reserves about `bytes` for a response, waiting no longer than `wait`.
    ///
    /// # Errors
    /// `BudgetExhausted`.
    pub async fn reserve(
        self: &Arc<Self>,
        bytes: usize,
        wait: Duration,
    ) -> Result<ResponseReservation, BudgetExhausted> {
        let mut room = ResponseReservation { answers: self.clone(), bytes: 0, permits: Vec::new() };
        if bytes <= UNCOUNTED_ANSWER_BYTES {
            return Ok(room);
        }
        let permits = u32::try_from(bytes.div_ceil(KIB)).map_err(|_| BudgetExhausted)?;
        let permit = self.half(bytes).clone().acquire_many_owned(permits);
        // The semaphore is never closed, so a failure is the timeout.
        let permit = tokio::time::timeout(wait, permit).await.ok().and_then(Result::ok);
        room.permits.push(permit.ok_or(BudgetExhausted)?);
        room.bytes = bytes;
        Ok(room)
    }
}

/// The reservation of one response, released when dropped.
#[derive(Debug)]
pub struct ResponseReservation {
    answers: Arc<ResponseBudget>,
    bytes: usize,
    permits: Vec<OwnedSemaphorePermit>,
}

impl ResponseReservation {
    /// Maximum bytes of one response.
    pub fn limit(&self) -> usize {
        self.answers.limit
    }

    /// Grows the reservation to at least `bytes` in total, without waiting.
    ///
    /// # Errors
    /// `BudgetExhausted`; the reservation stays as it was.
    pub fn grow(&mut self, bytes: usize) -> Result<(), BudgetExhausted> {
        if bytes <= self.bytes.max(UNCOUNTED_ANSWER_BYTES) {
            return Ok(());
        }
        let more = (bytes - self.bytes).div_ceil(KIB);
        let permits = u32::try_from(more).map_err(|_| BudgetExhausted)?;
        let taken = self.answers.half(bytes).clone().try_acquire_many_owned(permits);
        self.permits.push(taken.map_err(|_| BudgetExhausted)?);
        self.bytes += more * KIB;
        Ok(())
    }

    /// Adds the reservation of another part of the same response.
    pub fn join(&mut self, mut other: Self) {
        self.permits.append(&mut other.permits);
        self.bytes += other.bytes;
    }

    /// Bytes that the reservation allows.
    pub fn bytes(&self) -> usize {
        self.bytes.max(UNCOUNTED_ANSWER_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    #[test]
    fn large_bodies_leave_room_for_small_ones() {
        let bodies = Bodies::new(8 * MIB);
        let mut large = bodies.begin().expect("room");
        large.grow(6 * MIB).expect("three quarters");
        let mut other = bodies.begin().expect("room");
        assert_eq!(other.grow(SMALL_BODY_BYTES + 1), Err(BudgetExhausted));
        other.grow(SMALL_BODY_BYTES).expect("small");
        let small: Vec<BodyReservation> = std::iter::from_fn(|| bodies.begin().ok()).collect();
        assert!(small.len() > 400 && small.len() * BODY_BYTES_MIN <= 2 * MIB);
        assert!(bodies.begin().is_err());
        drop((large, other, small));
        assert_eq!(bodies.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_body_room_that_is_emptied_can_be_filled_again() {
        let bodies = Bodies::new(MIB);
        let mut room = bodies.begin().expect("room");
        for _ in 0..10 {
            room.grow(700 * 1024).expect("room");
            room.empty();
        }
        assert_eq!(bodies.held.load(Ordering::Relaxed), BODY_BYTES_MIN);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_waits_for_room_and_for_no_longer_than_it_may() {
        let answers = ResponseBudget::new(16 * MIB);
        let wait = Duration::from_secs(30);
        let first = answers.reserve(6 * MIB, wait).await.expect("room");
        assert_eq!(answers.reserve(6 * MIB, wait).await.err(), Some(BudgetExhausted));
        answers.reserve(MIB, wait).await.expect("the other half");
        let second = tokio::spawn({
            let answers = answers.clone();
            async move { answers.reserve(6 * MIB, wait).await }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(first);
        let mut second = second.await.expect("no panic").expect("room");
        second.grow(8 * MIB).expect("room");
        assert_eq!(second.grow(9 * MIB), Err(BudgetExhausted));
        assert_eq!(answers.reserve(100 * MIB, wait).await.err(), Some(BudgetExhausted));
    }
}
