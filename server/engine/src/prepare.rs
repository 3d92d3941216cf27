//! Tokenising, and reading images, on CPU threads of the engine's own.
//!
//! A request's inputs are done in small pieces and requests take turns, so a large one does not
//! hold up a small one; a request whose client is gone is not gone on with, which inputs that take
//! long ask between their parts.
//! Must not know: queues, batches.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use proxima_models::InputError;
use proxima_models::recipes::{Gone, Recipe};
use tokio::sync::oneshot;

/// Work on the items of one request, some at a time.
trait Piecework: Send + Sync {
    /// Whether items are left that nobody has taken.
    fn has_more(&self) -> bool;
    /// Takes and does some items.
    fn step(&self, recipe: &dyn Recipe);
}

/// Result and time of every item.
type Results<R> = Vec<(Result<R, InputError>, Duration)>;

struct Work<T, R, F> {
    items: Vec<T>,
    each: F,
    next: AtomicUsize,
    /// The first item that is known to be wrong: those behind it are not looked at, as no answer
    /// can come of the request.
    wrong: AtomicUsize,
    /// Items done before another request has its turn.
    piece: usize,
    results: Mutex<Collected<R>>,
}

struct Collected<R> {
    slots: Vec<Option<(Result<R, InputError>, Duration)>>,
    left: usize,
    reply: Option<oneshot::Sender<Results<R>>>,
}

impl<T, R, F> Piecework for Work<T, R, F>
where
    T: Send + Sync,
    R: Send,
    F: Fn(&dyn Recipe, &T, Gone<'_>) -> Result<R, InputError> + Send + Sync,
{
    fn has_more(&self) -> bool {
        self.next.load(Ordering::Relaxed) < self.items.len()
    }

    fn step(&self, recipe: &dyn Recipe) {
        let gone = || lock(&self.results).reply.as_ref().is_none_or(oneshot::Sender::is_closed);
        let first = self.next.fetch_add(self.piece, Ordering::Relaxed);
        for index in first..self.items.len().min(first + self.piece) {
            if gone() {
                self.next.store(self.items.len(), Ordering::Relaxed);
                return;
            }
            let started = Instant::now();
            let result = if index > self.wrong.load(Ordering::Relaxed) {
                Err(InputError::Kind("did not look at it: another input is wrong"))
            } else {
                let each = AssertUnwindSafe(|| (self.each)(recipe, &self.items[index], &gone));
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
                // A client that is gone by now is no loss.
                let _ = reply.send(collected.slots.drain(..).flatten().collect());
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
    waiting: Mutex<(VecDeque<Arc<dyn Piecework>>, bool)>,
    changed: Condvar,
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
    /// Starts threads that work with a recipe, `piece` items of a request at a time.
    ///
    /// # Panics
    /// If the system gives no threads.
    pub fn start(name: &str, threads: usize, piece: usize, recipe: &Arc<dyn Recipe>) -> Self {
        let turns = Arc::new(Turns::default());
        for index in 0..threads.max(1) {
            let (turns, recipe) = (turns.clone(), recipe.clone());
            let builder = thread::Builder::new().name(format!("{name}-{index}"));
            builder.spawn(move || work(&turns, &*recipe)).expect("the system gives threads");
        }
        Self { turns, piece }
    }

    /// Does `each` with every item, which may ask whether its caller is gone; the results come in
    /// order. `None` if the pool is closed.
    pub async fn run<T, R>(
        &self,
        items: Vec<T>,
        each: impl Fn(&dyn Recipe, &T, Gone<'_>) -> Result<R, InputError> + Send + Sync + 'static,
    ) -> Option<Results<R>>
    where
        T: Send + Sync + 'static,
        R: Send + 'static,
    {
        if items.is_empty() {
            return Some(Vec::new());
        }
        let (reply, answer) = oneshot::channel();
        let slots = items.iter().map(|_| None).collect();
        let results = Mutex::new(Collected { slots, left: items.len(), reply: Some(reply) });
        let (next, wrong) = (AtomicUsize::new(0), AtomicUsize::new(usize::MAX));
        let work = Work { items, each, next, wrong, piece: self.piece, results };
        {
            let mut waiting = lock(&self.turns.waiting);
            if waiting.1 {
                return None;
            }
            waiting.0.push_back(Arc::new(work));
        }
        self.turns.changed.notify_one();
        answer.await.ok()
    }

    /// Ends the threads; what they have not begun is not done.
    pub fn close(&self) {
        let mut waiting = lock(&self.turns.waiting);
        waiting.1 = true;
        waiting.0.clear();
        self.turns.changed.notify_all();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.close();
    }
}

fn work(turns: &Turns, recipe: &dyn Recipe) {
    loop {
        let task = {
            let mut waiting = lock(&turns.waiting);
            loop {
                if waiting.1 {
                    return;
                }
                let Some(task) = waiting.0.pop_front() else {
                    let woken = turns.changed.wait(waiting);
                    waiting = woken.unwrap_or_else(PoisonError::into_inner);
                    continue;
                };
                if task.has_more() {
                    // Back in line at once, so that other threads can help with it.
                    waiting.0.push_back(task.clone());
                    turns.changed.notify_one();
                    break task;
                }
            }
        };
        task.step(recipe);
    }
}
