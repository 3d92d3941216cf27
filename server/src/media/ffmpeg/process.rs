//! A program that is run for its output: bounded in time, never left behind.
//!
//! Must not know: what the program is for.

use std::io::{self, Read};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

/// Bytes of messages that are kept.
const MESSAGE_BYTES_MAX: usize = 4096;

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    /// Whether it says that it did its work.
    pub success: bool,
    /// Whether it was killed because its time was over.
    pub late: bool,
    /// The beginning of what it wrote to standard error.
    pub messages: String,
}

/// A program that runs in a process group of its own. Dropping it kills the group.
///
/// The group is killed only while its leader is not reaped, so the number is never another's.
#[derive(Debug)]
pub struct Running {
    child: Child,
    group: Pid,
    reaped: bool,
    output: Option<ChildStdout>,
    /// Dropped when the watchdog is to end.
    leash: Option<Sender<()>>,
    watchdog: Option<JoinHandle<bool>>,
    messages: Option<JoinHandle<String>>,
}

impl Running {
    /// Starts a program without input and environment, to be killed after some time.
    ///
    /// # Errors
    /// A program that cannot be started.
    pub fn start(mut command: Command, limit: Duration) -> io::Result<Self> {
        command.env_clear().process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let group = Pid::from_child(&child);
        let (output, errors) = (child.stdout.take(), child.stderr.take());
        let (leash, ended) = mpsc::channel::<()>();
        let (reaped, leash) = (false, Some(leash));
        // Whole before its threads are, so that it is ended if there are none to be had.
        let mut running =
            Self { child, group, reaped, output, leash, watchdog: None, messages: None };
        running.watchdog = Some(thread::Builder::new().spawn(move || {
            let late = ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
            if late {
                kill(group);
            }
            late
        })?);
        let messages = move || errors.map(beginning).unwrap_or_default();
        running.messages = Some(thread::Builder::new().spawn(messages)?);
        Ok(running)
    }

    /// Its standard output.
    ///
    /// # Panics
    /// If it is taken twice.
    pub fn take_output(&mut self) -> ChildStdout {
        self.output.take().expect("the output is piped and taken once")
    }

    /// Waits for its end, if need be that of its time.
    ///
    /// # Errors
    /// What the system says.
    pub fn finish(mut self) -> io::Result<Ended> {
        // Not reaped yet: the watchdog may still kill it, and nobody else has its number.
        waitid(WaitId::Pid(self.group), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)?;
        let late = self.unleash();
        // What it may have started holds no pipe open any longer.
        kill(self.group);
        let messages = self.messages.take().and_then(|thread| thread.join().ok());
        self.reaped = true;
        let success = self.child.wait()?.success();
        Ok(Ended { success, late, messages: messages.unwrap_or_default() })
    }

    /// Ends the watchdog and tells whether it acted.
    fn unleash(&mut self) -> bool {
        drop(self.leash.take());
        self.watchdog.take().is_some_and(|thread| thread.join().unwrap_or(false))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Once the child is reaped, its number may be another's.
        if !self.reaped {
            kill(self.group);
            self.unleash();
            // A child that was killed ends at once; that it cannot be waited for has no remedy.
            let _ = self.child.wait();
        }
    }
}

fn kill(group: Pid) {
    // It fails where the group has ended already, which is what was wanted.
    let _ = kill_process_group(group, Signal::KILL);
}

/// The beginning of what a pipe carries; the rest is read so that the writer need not wait.
fn beginning(mut pipe: impl Read) -> String {
    let mut kept = Vec::new();
    let mut chunk = [0; 1024];
    while let Ok(read @ 1..) = pipe.read(&mut chunk) {
        let room = MESSAGE_BYTES_MAX - kept.len();
        kept.extend_from_slice(&chunk[..read.min(room)]);
    }
    String::from_utf8_lossy(&kept).into_owned()
}
