//! Progress of a command, with rate and time left: a bar in a terminal, a line now and then
//! elsewhere.
//!
//! Must not know: what is being done.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use proxima_models::Progress;

use crate::logging;

/// How often a bar is drawn.
const DRAW_INTERVAL: Duration = Duration::from_millis(100);
/// How often a line is written if there is no terminal.
pub const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// From when on rate and time left are shown.
const RATE_AFTER: Duration = Duration::from_secs(1);

/// The unit of progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Things with this name, in the plural.
    Of(&'static str),
    /// Seconds that something takes by agreement.
    Seconds,
}

/// A task whose progress is shown.
#[derive(Debug, Clone)]
struct Task {
    name: String,
    unit: Unit,
    progress: Arc<Progress>,
}

/// Shows one task after another.
#[derive(Debug, Default)]
pub struct Shown {
    task: Mutex<Option<Task>>,
}

impl Shown {
    /// Shows this task from now on, once its length is known.
    pub fn follow(&self, name: &str, unit: Unit, progress: Arc<Progress>) {
        let task = Task { name: name.to_owned(), unit, progress };
        *self.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }

    /// Starts a new task and shows it.
    pub fn begin(&self, name: &str, unit: Unit) -> Arc<Progress> {
        let progress = Arc::new(Progress::default());
        self.follow(name, unit, progress.clone());
        progress
    }

    fn task(&self) -> Option<Task> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Runs work that reports its progress, and shows that progress to the user.
pub fn shown<T>(work: impl FnOnce(&Shown) -> T) -> T {
    let shown = Shown::default();
    thread::scope(|scope| {
        let (end, ended) = mpsc::channel::<()>();
        let followed = &shown;
        scope.spawn(move || watch(followed, &ended));
        let result = work(&shown);
        drop(end);
        result
    })
}

fn watch(shown: &Shown, ended: &mpsc::Receiver<()>) {
    let mut current: Option<View> = None;
    while ended.recv_timeout(DRAW_INTERVAL) == Err(RecvTimeoutError::Timeout) {
        let Some(task) = shown.task() else { continue };
        if !current.as_ref().is_some_and(|view| Arc::ptr_eq(&view.task.progress, &task.progress)) {
            current.take().into_iter().for_each(View::end);
            current = Some(View::new(task));
        }
        current.as_mut().into_iter().for_each(View::update);
    }
    current.into_iter().for_each(View::end);
}

/// The display of one task.
struct View {
    task: Task,
    bar: ProgressBar,
    /// When its length became known, and how much was done by then: a resumed download did not do
    /// that.
    begun: Option<(Instant, u64)>,
    told: Instant,
}

impl View {
    fn new(task: Task) -> Self {
        let template = "{prefix} [{wide_bar}] {msg}";
        let style = ProgressStyle::with_template(template).expect("the template is valid");
        // Nothing is drawn before the length is known, and without a terminal nothing at all.
        let bar = ProgressBar::hidden().with_style(style).with_prefix(task.name.clone());
        Self { task, bar, begun: None, told: Instant::now() }
    }

    fn update(&mut self) {
        let (done, total) = (self.task.progress.done(), self.task.progress.total());
        if total == 0 {
            return;
        }
        let &mut (begun, before) = self.begun.get_or_insert_with(|| {
            self.bar.set_length(total);
            self.bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
            (Instant::now(), done)
        });
        let amount = Amount { done, total, before, took: begun.elapsed() };
        self.bar.set_length(total);
        self.bar.set_message(amount.line(self.task.unit));
        self.bar.set_position(done);
        if self.bar.is_hidden() && self.told.elapsed() >= LINE_INTERVAL {
            self.told = Instant::now();
            logging::say(&format!("{}: {}", self.task.name, amount.line(self.task.unit)));
        }
    }

    fn end(self) {
        self.bar.finish_and_clear();
    }
}

/// How much of a task is done, and in what time.
struct Amount {
    done: u64,
    total: u64,
    /// What was already done at the start.
    before: u64,
    took: Duration,
}

impl Amount {
    fn line(&self, unit: Unit) -> String {
        let (done, total) = (self.done as f64, self.total as f64);
        let rate = self.done.saturating_sub(self.before) as f64 / self.took.as_secs_f64().max(1e-3);
        let amount = match unit {
            Unit::Bytes => format!("{:.1} of {:.1} MB", done / 1e6, total / 1e6),
            Unit::Of(things) => format!("{done:.0} of {total:.0} {things}"),
            Unit::Seconds => return format!("{done:.0} of {total:.0} s"),
        };
        // The rate of the first moments says nothing.
        if self.took < RATE_AFTER {
            return amount;
        }
        let left = match rate > 0.0 {
            true => time_left(((total - done) / rate).max(0.0)),
            false => "unknown".to_owned(),
        };
        let rate = match unit {
            Unit::Bytes => format!("{:.1} MB/s", rate / 1e6),
            _ => format!("{rate:.1}/s"),
        };
        format!("{amount}, {rate}, time left: {left}")
    }
}

/// A duration in seconds, minutes or hours, rounded up.
pub fn time_left(seconds: f64) -> String {
    let whole = seconds.ceil() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_time_left_count_what_was_done_since_the_beginning() {
        let took = Duration::from_secs(10);
        let amount = Amount { done: 60_000_000, total: 100_000_000, before: 40_000_000, took };
        let line = "60.0 of 100.0 MB, 2.0 MB/s, time left: 20 s";
        assert_eq!(amount.line(Unit::Bytes), line);
        let amount = Amount { done: 0, total: 7, before: 0, took };
        assert_eq!(amount.line(Unit::Of("tensors")), "0 of 7 tensors, 0.0/s, time left: unknown");
        for (seconds, expected) in
            [(0.0, "0 s"), (59.2, "1 min 0 s"), (3_599.0, "59 min 59 s"), (7_260.0, "2 h 1 min")]
        {
            assert_eq!(time_left(seconds), expected);
        }
    }

    #[test]
    fn work_is_done_whether_anything_is_shown_or_not() {
        let total = shown(|show| {
            let progress = show.begin("a", Unit::Bytes);
            progress.set(3, 5);
            show.begin("b", Unit::Of("parts")).add(1);
            progress.total()
        });
        assert_eq!(total, 5);
    }
}
