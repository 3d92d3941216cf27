//! The log, on standard error. Lines wait in a bounded queue for a thread of their own, so that no
//! line blocks or ends anything: a full disk, a closed pipe and a reader that stopped cost lines,
//! which are counted, and nothing else.
//!
//! Must not know: what is logged. Nothing else in the process writes to standard error.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::collections::VecDeque;
use std::io::{self, IsTerminal as _, Write};
use std::panic::PanicHookInfo;
use std::sync::{Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde::Deserialize;
use tracing_subscriber::EnvFilter;

/// The log's form.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people
    #[default]
    Text,
    /// A JSON object a line
    Json,
}

/// What the log looks like.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// Its form.
    pub format: LogFormat,
    /// What is logged, as `tracing` filters say it.
    pub level: String,
}

/// Bytes of lines that wait to be written; further lines are dropped.
const QUEUE_BYTES_MAX: usize = 1 << 20;
/// Time that waiting lines have to be written when the process ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// Wait before a write is tried again on a standard error that does not block and is full.
const FULL_PAUSE: Duration = Duration::from_millis(20);

static QUEUE: Queue = Queue::new();

/// Starts the log of the process; a second call changes nothing.
pub fn start(settings: &LogSettings) {
    // A client can have h2 warn as often as it likes.
    let directives = format!("h2=error,{}", settings.level);
    let filter = EnvFilter::try_new(directives).unwrap_or_else(|error| {
        say(&format!(
            "proxima: log-level {:?} is not understood ({error}); using info",
            settings.level
        ));
        EnvFilter::new("info")
    });
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .log_internal_errors(false)
        .with_writer(|| Line(&QUEUE));
    // Only the first log of a process counts, which tests rely on.
    let _ = match settings.format {
        LogFormat::Json => builder.json().try_init(),
        LogFormat::Text => {
            builder.with_target(false).with_ansi(io::stderr().is_terminal()).try_init()
        }
    };
    // The default hook writes to standard error itself, and waits where nobody reads it.
    std::panic::set_hook(Box::new(log_panic));
}

fn log_panic(info: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let (name, message) = (thread.name().unwrap_or("unnamed"), panic_message(info.payload()));
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let backtrace = Backtrace::capture();
    match backtrace.status() {
        BacktraceStatus::Captured => {
            tracing::error!("thread {name} panicked at {place}: {message}\n{backtrace}");
        }
        _ => tracing::error!("thread {name} panicked at {place}: {message}"),
    }
}

/// What a panic says.
pub fn panic_message(payload: &(dyn std::any::Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// Writes a line that is for people, not of the log: an error on which a command ends.
pub fn say(text: &str) {
    QUEUE.push(format!("{text}\n").into_bytes());
}

/// Waits until all lines are written, for a second at most: the process ends.
pub fn flush() {
    QUEUE.flush(FLUSH_TIMEOUT);
}

/// Lines that were lost because standard error did not take them.
pub fn lost() -> u64 {
    QUEUE.lock().lost
}

/// Lines on their way to standard error.
struct Queue {
    lines: Mutex<Lines>,
    /// Notified of every line that comes, and when none is left.
    changed: Condvar,
    started: Once,
}

struct Lines {
    waiting: VecDeque<Vec<u8>>,
    /// Bytes of all that wait.
    bytes: usize,
    /// Whether a line is being written.
    writing: bool,
    /// Whether there is a thread that writes.
    served: bool,
    /// Lines that were dropped or could not be written.
    lost: u64,
    /// Those of them that the log has not told of.
    untold: u64,
}

impl Queue {
    const fn new() -> Self {
        let lines = Lines {
            waiting: VecDeque::new(),
            bytes: 0,
            writing: false,
            served: false,
            lost: 0,
            untold: 0,
        };
        Self { lines: Mutex::new(lines), changed: Condvar::new(), started: Once::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        // Every change leaves the counts right, so a panic leaves nothing half done.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a line wait to be written, or drops it if too many do.
    fn push(&'static self, line: Vec<u8>) {
        self.started.call_once(|| {
            let write = move || self.write_all(&mut io::stderr());
            let thread = thread::Builder::new().name("log".into()).spawn(write);
            self.lock().served = thread.is_ok();
        });
        let mut lines = self.lock();
        lines.push(line);
        drop(lines);
        self.changed.notify_all();
    }

    /// Writes lines as they come, for good.
    fn write_all(&self, to: &mut impl Write) {
        loop {
            let mut lines = self.lock();
            while lines.waiting.is_empty() {
                self.changed.notify_all();
                lines = self.changed.wait(lines).unwrap_or_else(PoisonError::into_inner);
            }
            self.write_next(lines, to);
        }
    }

    /// Writes the next line, if there is one, without the lock.
    fn write_next(&self, mut lines: MutexGuard<'_, Lines>, to: &mut impl Write) {
        let Some(line) = lines.waiting.pop_front() else { return };
        lines.bytes -= line.len();
        lines.writing = true;
        let untold = std::mem::take(&mut lines.untold);
        drop(lines);
        let told = untold == 0 || {
            let note = format!("proxima: {untold} lines of the log were lost here\n");
            write_whole(to, note.as_bytes()).is_ok()
        };
        let written = write_whole(to, &line).is_ok();
        let mut lines = self.lock();
        lines.writing = false;
        lines.untold += if told { 0 } else { untold };
        if !written {
            lines.lose();
        }
    }

    /// Waits until every line is written, or for this long.
    fn flush(&self, timeout: Duration) {
        let end = Instant::now() + timeout;
        let mut lines = self.lock();
        while !lines.waiting.is_empty() || lines.writing {
            if !lines.served {
                // A system that gave no thread.
                self.write_next(lines, &mut io::stderr());
                lines = self.lock();
                continue;
            }
            let Some(left) = end.checked_duration_since(Instant::now()) else { return };
            let waited = self.changed.wait_timeout(lines, left);
            lines = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Lines {
    fn push(&mut self, line: Vec<u8>) {
        if self.bytes + line.len() > QUEUE_BYTES_MAX {
            return self.lose();
        }
        self.bytes += line.len();
        self.waiting.push_back(line);
    }

    fn lose(&mut self) {
        self.lost += 1;
        self.untold += 1;
    }
}

/// Writes all bytes, also to what does not block and is full for a while.
fn write_whole(to: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                thread::park_timeout(FULL_PAUSE)
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// One line, as the log writes it: in a single call.
struct Line(&'static Queue);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.push(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
