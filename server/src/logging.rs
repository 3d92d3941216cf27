//! The log, on standard error. A dedicated thread writes the lines from a bounded queue, so that
//! logging never blocks or ends anything: with a full disk, a closed pipe or a stalled reader,
//! lines are dropped and counted.
//!
//! Must not know: what is logged. Nothing else in the process writes to standard error, except
//! progress bars and the errors of the argument parser.

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
    /// Lines for humans
    #[default]
    Text,
    /// One JSON object per line
    Json,
}

/// How to log.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// The format.
    pub format: LogFormat,
    /// What is logged, as `tracing` filter directives.
    pub level: String,
}

/// Maximum bytes of queued lines; beyond it, new lines are dropped.
const QUEUE_BYTES_MAX: usize = 1 << 20;
/// Time to write the queued lines when the process ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// Wait before a write to a full, non-blocking standard error is retried.
const FULL_PAUSE: Duration = Duration::from_millis(20);

static QUEUE: Queue = Queue::new();

/// Starts the log of the process; a second call has no effect.
pub fn start(settings: &LogSettings) {
    // Clients can make h2 warn as often as they like.
    let directives = format!("h2=error,{}", settings.level);
    let filter = EnvFilter::try_new(directives).unwrap_or_else(|error| {
        say(&format!("proxima: log-level {:?} is invalid ({error}); using info", settings.level));
        EnvFilter::new("info")
    });
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .log_internal_errors(false)
        .with_writer(|| LineWriter(&QUEUE));
    // Only the first call in a process takes effect; tests rely on it.
    let _ = match settings.format {
        LogFormat::Json => builder.json().try_init(),
        LogFormat::Text => {
            builder.with_target(false).with_ansi(io::stderr().is_terminal()).try_init()
        }
    };
    // The default hook writes to standard error itself, and blocks if nobody reads it.
    std::panic::set_hook(Box::new(log_panic));
}

fn log_panic(info: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let (name, message) = (thread.name().unwrap_or("unnamed"), panic_message(info.payload()));
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    let backtrace = Backtrace::capture();
    match backtrace.status() {
        BacktraceStatus::Captured => {
            tracing::error!("thread {name} panicked at {location}: {message}\n{backtrace}");
        }
        _ => tracing::error!("thread {name} panicked at {location}: {message}"),
    }
}

/// The message of a panic.
pub fn panic_message(payload: &(dyn std::any::Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// Writes a line for the user that is not part of the log, such as the error that ends a command.
pub fn say(text: &str) {
    QUEUE.push(format!("{text}\n").into_bytes());
}

/// Waits until all lines are written, for a second at most; called before the process ends.
pub fn flush() {
    QUEUE.flush(FLUSH_TIMEOUT);
}

/// Lines that were dropped or could not be written to standard error.
pub fn lost() -> u64 {
    QUEUE.lock().lost
}

/// Lines waiting to be written to standard error.
struct Queue {
    lines: Mutex<Lines>,
    /// Notified when a line is queued and when the queue is empty.
    changed: Condvar,
    started: Once,
}

struct Lines {
    waiting: VecDeque<Vec<u8>>,
    /// Bytes of all waiting lines.
    bytes: usize,
    /// Whether a line is being written.
    writing: bool,
    /// Whether there is a writer thread.
    served: bool,
    /// Lines that were dropped or could not be written.
    lost: u64,
    /// Lost lines that the log has not reported yet.
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
        // Every change leaves the counts consistent, so a poisoned lock is safe to use.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a line, or drops it if the queue is full.
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

    /// Writes lines as they arrive, forever.
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

    /// Writes the next line, if there is one, with the lock released.
    fn write_next(&self, mut lines: MutexGuard<'_, Lines>, to: &mut impl Write) {
        let Some(line) = lines.waiting.pop_front() else { return };
        lines.bytes -= line.len();
        lines.writing = true;
        let untold = std::mem::take(&mut lines.untold);
        drop(lines);
        let told = untold == 0 || {
            let note = format!("proxima: log lines lost here: {untold}\n");
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

    /// Waits until every line is written, or until `timeout` has passed.
    fn flush(&self, timeout: Duration) {
        let end = Instant::now() + timeout;
        let mut lines = self.lock();
        while !lines.waiting.is_empty() || lines.writing {
            if !lines.served {
                // The system did not provide a writer thread.
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

/// Writes all bytes, retrying while a non-blocking target is full.
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

/// The writer of one log line, which `tracing_subscriber` passes in a single call.
struct LineWriter(&'static Queue);

impl Write for LineWriter {
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
