//! A program that is run for its output: bounded in time and memory, never left behind.
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

/// Bytes of messages that are kept.
const MESSAGE_BYTES_MAX: usize = 4096;
/// Processor seconds that a program may take in a second: no more threads are worth their while.
#[cfg(target_os = "linux")]
const THREADS: u64 = 8;

/// How much a program may take.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Time until it is killed.
    pub time: Duration,
    /// Bytes of memory that it writes to.
    pub memory: usize,
}

/// Programs that run, to be ended with this process.
#[derive(Debug)]
pub struct Groups(Mutex<Started>);

#[derive(Debug)]
struct Started {
    /// Whether no other may start.
    ended: bool,
    /// Leaders that are not reaped.
    groups: Vec<Pid>,
}

impl Groups {
    /// None.
    pub const fn new() -> Self {
        Self(Mutex::new(Started { ended: false, groups: Vec::new() }))
    }

    /// Kills all that run, and lets no other start.
    pub fn end(&self) {
        let mut started = self.lock();
        started.ended = true;
        started.groups.iter().for_each(|group| kill(*group));
    }

    /// Starts a program as the leader of a group. Under the lock, so that none starts unseen.
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

    /// From now on the number may be another's.
    fn forget(&self, group: Pid) {
        self.lock().groups.retain(|other| *other != group);
    }

    fn lock(&self) -> MutexGuard<'_, Started> {
        // Every change is a single one, so a panic leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

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
    groups: &'static Groups,
    reaped: bool,
    output: Option<ChildStdout>,
    /// Dropped when the watchdog is to end.
    leash: Option<Sender<()>>,
    watchdog: Option<JoinHandle<bool>>,
    messages: Option<JoinHandle<String>>,
}

impl Running {
    /// Starts a program without environment, to be killed after some time.
    ///
    /// # Errors
    /// A program that cannot be started.
    pub fn start(
        mut command: Command,
        bounds: Bounds,
        groups: &'static Groups,
    ) -> io::Result<Self> {
        command.env_clear().stdout(Stdio::piped()).stderr(Stdio::piped());
        let (mut child, group) = groups.start(&mut command)?;
        bind(group, bounds);
        let (output, errors) = (child.stdout.take(), child.stderr.take());
        let (leash, ended) = mpsc::channel::<()>();
        let (reaped, leash) = (false, Some(leash));
        // Whole before its threads are, so that it is ended if there are none to be had.
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
        self.groups.forget(self.group);
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
            self.groups.forget(self.group);
            // A child that was killed ends at once; that it cannot be waited for has no remedy.
            let _ = self.child.wait();
        }
    }
}

/// Bounds a program by the system: its memory, and its processor time, which ends it even if this
/// process is no longer there to do so.
#[cfg(target_os = "linux")]
fn bind(program: Pid, bounds: Bounds) {
    use rustix::process::{Resource, Rlimit, prlimit};
    let seconds = bounds.time.as_secs().saturating_add(1).saturating_mul(THREADS);
    for (resource, most) in [(Resource::Data, bounds.memory as u64), (Resource::Cpu, seconds)] {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        // It fails for a program that has ended, or where less is allowed already.
        let _ = prlimit(Some(program), resource, limit);
    }
}

/// Other systems let no process bound another.
#[cfg(not(target_os = "linux"))]
fn bind(_: Pid, _: Bounds) {}

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
