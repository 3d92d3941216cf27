//! Runs a program for its output: bounded in time and memory, never left running.
//!
//! Must not know: what the program is for.

use std::io::{self, Read};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

/// Maximum bytes of messages that are kept.
const MESSAGE_BYTES_MAX: usize = 4096;
/// CPU seconds a program may use per second: more threads than this are of no use to it.
#[cfg(target_os = "linux")]
const THREADS: u64 = 8;

/// Limits of a program.
#[derive(Debug, Clone, Copy)]
pub struct ProcessLimits {
    /// Time until it is killed.
    pub time: Duration,
    /// Bytes of writable memory.
    pub memory: usize,
}

/// Running programs, to be killed when this process ends.
#[derive(Debug)]
pub struct Groups(Mutex<Started>);

#[derive(Debug)]
struct Started {
    /// Whether no more may start.
    ended: bool,
    /// Group leaders that are not reaped yet.
    groups: Vec<Pid>,
}

impl Groups {
    /// No programs.
    pub const fn new() -> Self {
        Self(Mutex::new(Started { ended: false, groups: Vec::new() }))
    }

    /// Kills all programs and lets no more start.
    pub fn end(&self) {
        let mut started = self.lock();
        started.ended = true;
        started.groups.iter().for_each(|group| kill(*group));
    }

    /// Starts a program as the leader of a process group, under the lock so that [`end`](Self::end)
    /// sees it.
    fn start(&self, command: &mut Command) -> io::Result<(Child, Pid)> {
        let mut started = self.lock();
        if started.ended {
            return Err(io::Error::other("the server stops"));
        }
        let child = command.process_group(0).spawn()?;
        let group = Pid::from_child(&child);
        started.groups.push(group);
        Ok((child, group))
    }

    /// Called before the leader is reaped; from then on its id may be reused.
    fn forget(&self, group: Pid) {
        self.lock().groups.retain(|other| *other != group);
    }

    fn lock(&self) -> MutexGuard<'_, Started> {
        // Every change is a single step, so a panic leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    /// Whether it exited successfully.
    pub success: bool,
    /// Whether it was killed for running out of time.
    pub late: bool,
    /// The beginning of what it wrote to standard error.
    pub messages: String,
}

/// A program that runs in its own process group. Dropping it kills the group.
///
/// The group is killed only while its leader is not reaped, so its id cannot have been reused.
#[derive(Debug)]
pub struct RunningProcess {
    child: Child,
    group: Pid,
    groups: &'static Groups,
    reaped: bool,
    output: Option<ChildStdout>,
    /// Dropped to end the watchdog.
    leash: Option<Sender<()>>,
    watchdog: Option<JoinHandle<bool>>,
    messages: Option<JoinHandle<String>>,
}

impl RunningProcess {
    /// Starts a program with an empty environment, to be killed after `bounds.time`.
    ///
    /// # Errors
    /// A program that cannot be started.
    pub fn start(
        mut command: Command,
        bounds: ProcessLimits,
        groups: &'static Groups,
    ) -> io::Result<Self> {
        command.env_clear().stdout(Stdio::piped()).stderr(Stdio::piped());
        let (mut child, group) = groups.start(&mut command)?;
        bind(group, bounds);
        let (output, errors) = (child.stdout.take(), child.stderr.take());
        let (leash, ended) = mpsc::channel::<()>();
        let (reaped, leash) = (false, Some(leash));
        // Complete before its threads start, so that dropping it ends the program if one cannot be
        // started.
        let mut running =
            Self { child, group, groups, reaped, output, leash, watchdog: None, messages: None };
        running.watchdog = Some(thread::Builder::new().spawn(move || {
            let late = ended.recv_timeout(bounds.time) == Err(RecvTimeoutError::Timeout);
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

    /// Waits until the program ends, at the latest by its time limit.
    ///
    /// # Errors
    /// An error of the system.
    pub fn finish(mut self) -> io::Result<Ended> {
        // Does not reap it: the watchdog may still kill it, and its id cannot be reused.
        waitid(WaitId::Pid(self.group), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)?;
        let late = self.unleash();
        // Also kills processes it started, which could hold a pipe open.
        kill(self.group);
        let messages = self.messages.take().and_then(|thread| thread.join().ok());
        self.groups.forget(self.group);
        self.reaped = true;
        let success = self.child.wait()?.success();
        Ok(Ended { success, late, messages: messages.unwrap_or_default() })
    }

    /// Ends the watchdog and returns whether it killed the group.
    fn unleash(&mut self) -> bool {
        drop(self.leash.take());
        self.watchdog.take().is_some_and(|thread| thread.join().unwrap_or(false))
    }
}

impl Drop for RunningProcess {
    fn drop(&mut self) {
        // Once the child is reaped, its id may be reused.
        if !self.reaped {
            kill(self.group);
            self.unleash();
            self.groups.forget(self.group);
            // A killed child ends at once; if it cannot be waited for, nothing can be done.
            let _ = self.child.wait();
        }
    }
}

/// Sets the system's limits on a program: its memory, and its CPU time, which ends it even if this
/// process no longer can.
#[cfg(target_os = "linux")]
fn bind(program: Pid, bounds: ProcessLimits) {
    use rustix::process::{Resource, Rlimit, prlimit};
    let seconds = bounds.time.as_secs().saturating_add(1).saturating_mul(THREADS);
    for (resource, most) in [(Resource::Data, bounds.memory as u64), (Resource::Cpu, seconds)] {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        // Fails if the program has ended or already has a lower limit.
        let _ = prlimit(Some(program), resource, limit);
    }
}

/// On other systems no process can limit another.
#[cfg(not(target_os = "linux"))]
fn bind(_: Pid, _: ProcessLimits) {}

fn kill(group: Pid) {
    // Fails if the group has already ended, which is the goal.
    let _ = kill_process_group(group, Signal::KILL);
}

/// The beginning of a pipe's contents; the rest is read so that the writer does not block.
fn beginning(mut pipe: impl Read) -> String {
    let mut kept = Vec::new();
    let mut chunk = [0; 1024];
    while let Ok(read @ 1..) = pipe.read(&mut chunk) {
        let room = MESSAGE_BYTES_MAX - kept.len();
        kept.extend_from_slice(&chunk[..read.min(room)]);
    }
    String::from_utf8_lossy(&kept).into_owned()
}
