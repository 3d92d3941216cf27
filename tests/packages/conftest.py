"""What the tests of packages share: where the build and the demo model are, and servers to ask."""

import contextlib
import dataclasses
import json
import pathlib
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
# A server says that it is ready, and ends, well within these.
START_SECONDS = 60
END_SECONDS = 30


def pytest_addoption(parser):
    parser.addoption("--proxima", required=True, help="the executable of a release build")
    parser.addoption("--model", required=True, help="the folder of all-MiniLM-L6-v2")


@pytest.fixture(scope="session")
def proxima(pytestconfig):
    return pathlib.Path(pytestconfig.getoption("proxima")).resolve()


@pytest.fixture(scope="session")
def model(pytestconfig):
    return pathlib.Path(pytestconfig.getoption("model")).resolve()


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a server said."""

    status: int
    body: str


@dataclasses.dataclass(frozen=True)
class Server:
    """One that is ready."""

    address: str

    def ask(self, path, body=None, key=None):
        """GET, or POST of a body as JSON."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        if key is not None:
            headers["authorization"] = f"Bearer {key}"
        request = urllib.request.Request(self.address + path, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=END_SECONDS) as response:
                return Answer(response.status, response.read().decode())
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.read().decode())


@contextlib.contextmanager
def serving(command, **options):
    """Starts a server, waits until it is ready, and stops it as systemd and Docker do."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)
    # One that never says that it is ready is ended, which ends the loop below.
    overdue = threading.Timer(START_SECONDS, process.kill)
    overdue.start()
    try:
        said = []
        for line in process.stderr:
            said.append(line)
            ready = re.search(r"ready on (http://\S+)", line)
            if ready:
                break
        else:
            pytest.fail(f"the server did not start:\n{''.join(said)}")
        overdue.cancel()
        # The log must not fill the pipe.
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield Server(ready[1])
        process.send_signal(signal.SIGTERM)
        assert process.wait(END_SECONDS) == 0
    finally:
        overdue.cancel()
        process.kill()
        process.wait()


def run(*command, **options):
    """What a program prints; fails with what it says where it fails."""
    command = [str(part) for part in command]
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


def without(name, package):
    """Skips a test for a program that is not here, and says so."""
    print(f"{name} is not here (package {package})", file=sys.stderr)
    pytest.skip(f"{name} is not here: install {package}")
