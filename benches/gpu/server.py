"""The server under measurement: one at a time, so that models do not share the device."""

import contextlib
import os
import re
import signal
import subprocess
import threading
import time

from limits import GROUP, Failed, end, reason

READY_SECONDS = 60
LOG_LINES_KEPT = 200


class Server:
    """`proxima serve` of one model on a free port. (That of `benches/serving.py` waits without a limit.)"""

    def __init__(self, proxima, model, flags, environment):
        self.log, self.address, self.ready = [], None, threading.Event()
        words = [proxima, "serve", "--model", model, "--port", "0", "--offline", *flags]
        begun = time.perf_counter()
        self.process = subprocess.Popen(
            [str(word) for word in words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=environment,
            **GROUP,
        )
        threading.Thread(target=self.read, daemon=True).start()
        try:
            self.ready.wait(READY_SECONDS)
            if self.address is None:
                end(self.process, patience=1)
                raise Failed(f"the server was not ready (status {self.process.returncode}): {self.said()}")
        except BaseException:
            end(self.process, patience=1)
            raise
        self.seconds_to_ready = time.perf_counter() - begun

    def read(self):
        """Keeps the last lines of the log; whatever is logged must not fill the pipe."""
        for line in self.process.stderr:
            self.log.append(line.rstrip())
            del self.log[:-LOG_LINES_KEPT]
            found = re.search(r"ready on http://(\S+)", line)
            if found:
                self.address = found.group(1)
                self.ready.set()
        self.ready.set()

    def search(self, pattern):
        """What the groups of a pattern are in the first line of the log that has it."""
        found = next(filter(None, (re.search(pattern, line) for line in self.log)), None)
        return list(found.groups()) if found else None

    def said(self):
        return reason("\n".join(self.log))

    def running(self):
        return self.process.poll() is None

    def stop(self, patience):
        return end(self.process, patience)


class Fleet:
    """Starts the server that a part wants, and stops the one before."""

    def __init__(self, proxima, device, flags, environment):
        self.proxima, self.device, self.flags, self.environment = proxima, device, flags, environment
        self.wanted, self.current, self.logs = None, None, {}

    def server(self, model, *flags, device=None):
        """A running server of a model."""
        wanted = (str(model), flags, device or self.device)
        if self.current is not None and wanted == self.wanted and self.current.running():
            return self.current
        self.stop()
        on = [] if wanted[2] != self.device else self.flags
        words = ["--device", wanted[2], *flags, *on]
        self.wanted = wanted
        self.current = Server(self.proxima, model, words, self.environment)
        return self.current

    def stop(self, patience=10.0):
        """Stops the server, if there is one; it has so many seconds to answer what it has accepted."""
        if self.current is not None:
            status = self.current.stop(patience)
            name = " ".join(str(word) for word in (self.wanted[0], *self.wanted[1], self.wanted[2]))
            self.logs.setdefault(name, []).extend([*self.current.log, f"ended with {status}"])
            self.current = None


def environment_of(libraries):
    """The environment of children: where libraries are, and no network."""
    found = dict(os.environ)
    path = [str(folder) for folder in libraries]
    path += [found["LD_LIBRARY_PATH"]] if found.get("LD_LIBRARY_PATH") else []
    if path:
        found["LD_LIBRARY_PATH"] = ":".join(path)
    return {**found, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}


def terminate_as_interrupt():
    """SIGTERM ends the run as Ctrl-C does: children are stopped, and the table says what there is."""

    def ring(_signal, _frame):
        raise KeyboardInterrupt

    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGTERM, ring)
