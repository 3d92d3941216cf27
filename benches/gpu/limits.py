"""Time limits: of a part of the benchmark, and of each command that it runs."""

import contextlib
import os
import signal
import subprocess
import sys
import time


class Failed(Exception):
    """A part cannot be measured; says why in a line."""


class OutOfTime(Failed):
    """A part's time is over."""


@contextlib.contextmanager
def limit(seconds):
    """Ends what runs within by `OutOfTime`, also where it waits for a socket or a process. Not to be nested."""

    def ring(_signal, _frame):
        raise OutOfTime(f"not done after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.01))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# A group of its own for each child, so that what a child starts ends with it.
GROUP = {"process_group": 0} if sys.version_info >= (3, 11) else {"start_new_session": True}


def end(process, patience=10.0):
    """Asks a process to end, then ends it; gives its status, `None` if even that did not help."""
    for word, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, 10.0)):
        if process.poll() is not None:
            break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, word)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=seconds)
    return process.returncode


def command(words, seconds, **options):
    """Runs a command; gives status (`None`: ended at the limit) and output, errors included."""
    process = subprocess.Popen(
        [str(word) for word in words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        **GROUP,
        **options,
    )
    try:
        output, _ = process.communicate(timeout=max(seconds, 0.1))
        return process.returncode, output
    except subprocess.TimeoutExpired:
        end(process, patience=0.5)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return None, process.communicate(timeout=5)[0]
        return None, ""
    finally:
        end(process, patience=0.5)


def reason(output):
    """The line of an output that tells of an error, for a cell of the table."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if "error" in line.lower() or "panicked" in line] or lines or ["no output"]
    return telling[-1].replace("|", "/")[:160]


class Clock:
    """What is left of the whole run."""

    def __init__(self, seconds):
        self.begun, self.seconds = time.monotonic(), seconds

    def passed(self):
        return time.monotonic() - self.begun

    def left(self):
        return self.seconds - self.passed()
