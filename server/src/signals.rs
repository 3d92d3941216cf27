//! Signals that tell the process to end.
//!
//! Must not know: what ends, or how.

#[cfg(unix)]
use std::future::poll_fn;
use std::io;
#[cfg(unix)]
use std::task::Poll;

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The number of SIGHUP, which is sent when a terminal closes.
const HANGUP: i32 = 1;

/// A signal that tells the process to end, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaughtSignal(pub i32);

impl CaughtSignal {
    /// Whether it is SIGHUP. systemd and shells send SIGHUP along with SIGTERM, so a SIGHUP as the
    /// second signal does not end the process at once.
    pub fn is_hangup(self) -> bool {
        self.0 == HANGUP
    }

    /// The exit code of a process ended by this signal, by shell convention.
    pub fn exit_code(self) -> i32 {
        128 + self.0
    }
}

/// Handlers of SIGTERM, SIGINT and SIGHUP. Once they are installed, these signals no longer end the
/// process, and none is lost.
#[cfg(unix)]
#[derive(Debug)]
pub struct Signals {
    handlers: Vec<(CaughtSignal, Signal)>,
}

#[cfg(unix)]
impl Signals {
    /// Installs the handlers; must be called within a runtime. SIGHUP stays ignored if it was
    /// ignored when the process started, as `nohup` requires.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn install() -> io::Result<Self> {
        let hangup = (!is_ignored(HANGUP)).then(SignalKind::hangup);
        let kinds = [SignalKind::terminate(), SignalKind::interrupt()].into_iter().chain(hangup);
        let handlers = kinds.map(|kind| Ok((CaughtSignal(kind.as_raw_value()), signal(kind)?)));
        Ok(Self { handlers: handlers.collect::<io::Result<_>>()? })
    }

    /// The next signal.
    pub async fn next(&mut self) -> CaughtSignal {
        poll_fn(|context| {
            for (told, handler) in &mut self.handlers {
                if handler.poll_recv(context).is_ready() {
                    return Poll::Ready(*told);
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// Whether a signal was ignored when the process started; false if the system does not say.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.unwrap_or(0) >> (signal - 1) & 1 == 1
}

/// Handlers of what ends a console program (Ctrl+C).
#[cfg(not(unix))]
#[derive(Debug)]
pub struct Signals;

#[cfg(not(unix))]
impl Signals {
    /// Installs the handlers.
    ///
    /// # Errors
    /// None.
    pub fn install() -> io::Result<Self> {
        Ok(Self)
    }

    /// The next signal.
    pub async fn next(&mut self) -> CaughtSignal {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        CaughtSignal(2)
    }
}
