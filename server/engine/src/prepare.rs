//! Tokenises texts and decodes images, on CPU threads of the engine's own.
//!
//! A request's inputs are processed in small pieces, and clients take turns. One thread is reserved
//! for small requests, so they never wait for a piece of a large one. A request whose client has
//! disconnected is abandoned; inputs that take long check for that between their parts.
//!
//! Must not know: queues, batches.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use proxima_models::InputError;
use proxima_models::recipes::{Cancelled, Recipe};
use tokio::sync::oneshot;

use crate::admission::PriorityClass;
use crate::fair::{ClientKey, FairQueue, QUANTUM};
use crate::threads::{self, NoThread};
use crate::ticket::{Limit, in_time};

/// The work on the items of one request, some at a time.
trait Piecework: Send + Sync {
    /// Whether any items have not been taken by a thread.
    fn has_more(&self) -> bool;
    /// Whether a thread has taken any items.
    fn has_begun(&self) -> bool;
    /// Takes some items and processes them.
    fn step(&self, recipe: &dyn Recipe);
}

/// Why an item was not processed.
#[derive(Debug, Clone, PartialEq)]
pub enum ItemError {
    /// It is invalid.
    Invalid(InputError),
    /// The code that processed it panicked, which is a fault of ours.
    Panicked,
}

/// Result and time of an item.
pub type ItemResult<R> = (Result<R, ItemError>, Duration);

/// The processed items of a request.
pub struct Done<R> {
    /// Results in order: of every item, or up to the first error and of some items after it.
    pub results: Vec<ItemResult<R>>,
    /// How long the request waited for a thread.
    pub waited: Duration,
}

/// Why the items of a request were not processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotDone {
    /// No thread started on them in time.
    TooLate,
    /// The pool is closed.
    Closed,
}

/// What decides when a request has its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// The request's class.
    pub class: PriorityClass,
    /// The request's client.
    pub client: ClientKey,
}

struct Work<T, R, F> {
    items: Vec<T>,
    each: F,
    next: AtomicUsize,
    /// Index of the first item known to have failed. Later items are skipped, as the request fails
    /// anyway.
    wrong: AtomicUsize,
    /// Items processed before another request has its turn.
    piece: usize,
    arrived: Instant,
    /// When a thread started on it.
    begun: OnceLock<Instant>,
    results: Mutex<Collected<R>>,
}

struct Collected<R> {
    /// `None` for items that are not processed yet, or were skipped.
    slots: Vec<Option<ItemResult<R>>>,
    left: usize,
    reply: Option<oneshot::Sender<Done<R>>>,
}

impl<T, R, F> Piecework for Work<T, R, F>
where
    T: Send + Sync,
    R: Send,
    F: Fn(&dyn Recipe, &T, Cancelled<'_>) -> Result<R, InputError> + Send + Sync,
{
    fn has_more(&self) -> bool {
        self.next.load(Ordering::Relaxed) < self.items.len()
    }

    fn has_begun(&self) -> bool {
        self.begun.get().is_some()
    }

    fn step(&self, recipe: &dyn Recipe) {
        let cancelled =
            || lock(&self.results).reply.as_ref().is_none_or(oneshot::Sender::is_closed);
        let begun = *self.begun.get_or_init(Instant::now);
        let first = self.next.fetch_add(self.piece, Ordering::Relaxed);
        for index in first..self.items.len().min(first + self.piece) {
            if cancelled() {
                self.next.store(self.items.len(), Ordering::Relaxed);
                return;
            }
            let result = (index <= self.wrong.load(Ordering::Relaxed)).then(|| {
                let started = Instant::now();
                let each = AssertUnwindSafe(|| (self.each)(recipe, &self.items[index], &cancelled));
                let result = match catch_unwind(each) {
                    Ok(result) => result.map_err(ItemError::Invalid),
                    Err(_) => Err(ItemError::Panicked),
                };
                (result, started.elapsed())
            });
            if let Some((Err(_), _)) = &result {
                self.wrong.fetch_min(index, Ordering::Relaxed);
            }
            let mut collected = lock(&self.results);
            collected.slots[index] = result;
            collected.left -= 1;
            if collected.left == 0
                && let Some(reply) = collected.reply.take()
            {
                let results = collected.slots.drain(..).flatten().collect();
                let waited = begun.saturating_duration_since(self.arrived);
                // A client that has disconnected is ignored.
                let _ = reply.send(Done { results, waited });
            }
        }
    }
}

/// Locks, ignoring poison: no holder panics halfway through a change, so the data stay valid.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct Turns {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

type Tasks = FairQueue<(Turn, Arc<dyn Piecework>)>;

#[derive(Default)]
struct Waiting {
    interactive: Tasks,
    bulk: Tasks,
    /// Whether the last piece was of a small request while a large one waited.
    bulk_is_next: bool,
    closed: bool,
}

impl Waiting {
    fn push(&mut self, turn: Turn, task: Arc<dyn Piecework>) {
        let tasks = match turn.class {
            PriorityClass::Interactive => &mut self.interactive,
            PriorityClass::Bulk => &mut self.bulk,
        };
        // Each piece is one turn, whatever its size.
        tasks.push(turn.client, (turn, task), QUANTUM);
    }

    /// Takes the next task for a thread. If both classes wait, they alternate.
    fn pop(&mut self, may_take: MayTake) -> Option<(Turn, Arc<dyn Piecework>)> {
        if may_take == MayTake::Interactive {
            return self.interactive.pop();
        }
        let bulk_first = std::mem::take(&mut self.bulk_is_next);
        if bulk_first && let Some(task) = self.bulk.pop() {
            return Some(task);
        }
        let task = self.interactive.pop();
        self.bulk_is_next = task.is_some() && !self.bulk.is_empty();
        task.or_else(|| self.bulk.pop())
    }
}

/// Which requests a thread works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MayTake {
    Interactive,
    All,
}

/// A pool of tokenisation threads.
pub struct Pool {
    turns: Arc<Turns>,
    piece: usize,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pool")
    }
}

impl Pool {
    /// Starts `threads` threads that prepare inputs with a recipe, and one more for small requests
    /// only. They process `piece` items of a request at a time.
    ///
    /// # Errors
    /// If the system cannot start the threads.
    pub fn start(
        name: &str,
        threads: usize,
        piece: usize,
        recipe: &Arc<dyn Recipe>,
    ) -> Result<Self, NoThread> {
        // On an error it is dropped, which ends the threads started so far.
        let pool = Self { turns: Arc::default(), piece };
        for index in 0..=threads.max(1) {
            let (turns, recipe) = (pool.turns.clone(), recipe.clone());
            let may_take = if index == 0 { MayTake::Interactive } else { MayTake::All };
            threads::spawn(format!("{name}-{index}"), move || work(&turns, &*recipe, may_take))?;
        }
        Ok(pool)
    }

    /// Runs `each` on every item and returns the results in order. `each` may check whether its
    /// caller has disconnected.
    ///
    /// # Errors
    /// If no thread started on it within the limit, or the pool is closed.
    pub async fn run<T, R, F>(
        &self,
        turn: Turn,
        limit: Limit,
        items: Vec<T>,
        each: F,
    ) -> Result<Done<R>, NotDone>
    where
        T: Send + Sync + 'static,
        R: Send + 'static,
        F: Fn(&dyn Recipe, &T, Cancelled<'_>) -> Result<R, InputError> + Send + Sync + 'static,
    {
        if items.is_empty() {
            return Ok(Done { results: Vec::new(), waited: Duration::ZERO });
        }
        let (reply, answer) = oneshot::channel();
        let slots = items.iter().map(|_| None).collect();
        let results = Mutex::new(Collected { slots, left: items.len(), reply: Some(reply) });
        let (next, wrong) = (AtomicUsize::new(0), AtomicUsize::new(usize::MAX));
        let (piece, arrived, begun) = (self.piece, Instant::now(), OnceLock::new());
        let work = Work { items, each, next, wrong, piece, arrived, begun, results };
        let work: Arc<dyn Piecework> = Arc::new(work);
        {
            let mut waiting = lock(&self.turns.waiting);
            if waiting.closed {
                return Err(NotDone::Closed);
            }
            waiting.push(turn, work.clone());
        }
        // Wakes all, as a single thread might be one that does not take this class.
        self.turns.changed.notify_all();
        let done = in_time(limit, || work.has_begun(), answer).await;
        done.map_err(|_| NotDone::TooLate)?.map_err(|_| NotDone::Closed)
    }

    /// Ends the threads; pieces not yet started are dropped.
    pub fn close(&self) {
        let mut waiting = lock(&self.turns.waiting);
        waiting.closed = true;
        waiting.interactive.clear();
        waiting.bulk.clear();
        self.turns.changed.notify_all();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.close();
    }
}

fn work(turns: &Turns, recipe: &dyn Recipe, may_take: MayTake) {
    loop {
        let task = {
            let mut waiting = lock(&turns.waiting);
            loop {
                if waiting.closed {
                    return;
                }
                let Some((turn, task)) = waiting.pop(may_take) else {
                    let woken = turns.changed.wait(waiting);
                    waiting = woken.unwrap_or_else(PoisonError::into_inner);
                    continue;
                };
                if task.has_more() {
                    // Requeued at once, so that other threads can help with it.
                    waiting.push(turn, task.clone());
                    turns.changed.notify_all();
                    break task;
                }
            }
        };
        task.step(recipe);
    }
}
