//! Tokenising, and reading images, on CPU threads of the engine's own.
//!
//! A request's inputs are done in small pieces and clients take turns. Small requests have a thread
//! to themselves, so they never wait for a piece of a large one. A request whose client is gone is
//! not gone on with, which inputs that take long ask between their parts.
//! Must not know: queues, batches.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use proxima_models::InputError;
use proxima_models::recipes::{Cancelled, Recipe};
use tokio::sync::oneshot;

use crate::admission::Class;
use crate::fair::{ClientKey, FairQueue, QUANTUM};
use crate::threads::{self, NoThread};
use crate::ticket::{Limit, in_time};

/// Work on the items of one request, some at a time.
trait Piecework: Send + Sync {
    /// Whether items are left that nobody has taken.
    fn has_more(&self) -> bool;
    /// Whether a thread has taken some.
    fn has_begun(&self) -> bool;
    /// Takes and does some items.
    fn step(&self, recipe: &dyn Recipe);
}

/// Result and time of every item.
type Results<R> = Vec<(Result<R, InputError>, Duration)>;

/// What came of the items of a request.
pub struct Done<R> {
    /// Result and time of every item, in order.
    pub results: Results<R>,
    /// How long the request waited for a thread.
    pub waited: Duration,
}

/// Why the items of a request were not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotDone {
    /// No thread began with them in time.
    TooLate,
    /// The pool is closed.
    Closed,
}

/// When it is a request's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// Which requests go first.
    pub class: Class,
    /// Whose it is.
    pub client: ClientKey,
}

struct Work<T, R, F> {
    items: Vec<T>,
    each: F,
    next: AtomicUsize,
    /// The first item that is known to be wrong: those behind it are not looked at, as no answer
    /// can come of the request.
    wrong: AtomicUsize,
    /// Items done before another request has its turn.
    piece: usize,
    arrived: Instant,
    /// When a thread began with it.
    begun: OnceLock<Instant>,
    results: Mutex<Collected<R>>,
}

struct Collected<R> {
    slots: Vec<Option<(Result<R, InputError>, Duration)>>,
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
            let started = Instant::now();
            let result = if index > self.wrong.load(Ordering::Relaxed) {
                Err(InputError::Kind("did not look at it: another input is wrong"))
            } else {
                let each = AssertUnwindSafe(|| (self.each)(recipe, &self.items[index], &cancelled));
                let panicked = || InputError::Tokenizer("the tokenizer panicked".into());
                catch_unwind(each).unwrap_or_else(|_| Err(panicked()))
            };
            if result.is_err() {
                self.wrong.fetch_min(index, Ordering::Relaxed);
            }
            let mut collected = lock(&self.results);
            collected.slots[index] = Some((result, started.elapsed()));
            collected.left -= 1;
            if collected.left == 0
                && let Some(reply) = collected.reply.take()
            {
                let results = collected.slots.drain(..).flatten().collect();
                let waited = begun.saturating_duration_since(self.arrived);
                // A client that is gone by now is no loss.
                let _ = reply.send(Done { results, waited });
            }
        }
    }
}

/// A lock whose data stay valid if a holder panicked: every change is a single assignment.
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
    /// The last piece was of a small request, though a large one waited.
    bulk_is_next: bool,
    closed: bool,
}

impl Waiting {
    fn push(&mut self, turn: Turn, task: Arc<dyn Piecework>) {
        let tasks = match turn.class {
            Class::Interactive => &mut self.interactive,
            Class::Bulk => &mut self.bulk,
        };
        // A turn is a piece, whatever is in it.
        tasks.push(turn.client, (turn, task), QUANTUM);
    }

    /// The task that is next for a thread; both classes in turn where both wait.
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

/// The threads that tokenise.
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
    /// Starts threads that work with a recipe, `piece` items of a request at a time: so many, and
    /// one for small requests alone.
    ///
    /// # Errors
    /// If the system gives no threads.
    pub fn start(
        name: &str,
        threads: usize,
        piece: usize,
        recipe: &Arc<dyn Recipe>,
    ) -> Result<Self, NoThread> {
        // Dropped, it ends the threads that were started.
        let pool = Self { turns: Arc::default(), piece };
        for index in 0..=threads.max(1) {
            let (turns, recipe) = (pool.turns.clone(), recipe.clone());
            let may_take = if index == 0 { MayTake::Interactive } else { MayTake::All };
            let work = move || work(&turns, &*recipe, may_take);
            threads::spawn(format!("{name}-{index}"), work)?;
        }
        Ok(pool)
    }

    /// Does `each` with every item, which may ask whether its caller is gone; the results come in
    /// order.
    ///
    /// # Errors
    /// If no thread began with it within the limit, or the pool is closed.
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
        // All, as one that is told may be one that does not take it.
        self.turns.changed.notify_all();
        let done = in_time(limit, || work.has_begun(), answer).await;
        done.map_err(|_| NotDone::TooLate)?.map_err(|_| NotDone::Closed)
    }

    /// Ends the threads; what they have not begun is not done.
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
                    // Back in line at once, so that other threads can help with it.
                    waiting.push(turn, task.clone());
                    turns.changed.notify_all();
                    break task;
                }
            }
        };
        task.step(recipe);
    }
}
