"""Servers that are measured over HTTP, besides Proxima's own."""

import http.client
import pathlib
import socket
import subprocess
import tempfile
import time

from serving import Server

from .environment import Environment, Failed, reason

READY_SECONDS = 300


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class LlamaServer(Server):
    """llama.cpp's server of llama-cpp-python, of one GGUF file."""

    def __init__(self, environment: Environment, file: pathlib.Path, longest: int) -> None:
        begun = time.perf_counter()
        port, threads = free_port(), environment.threads
        # Attention is computed over a whole batch with a mask, so the smallest batch is the fastest.
        sizes = dict.fromkeys(("n_ctx", "n_batch", "n_ubatch"), longest)
        flags = {"model": file, "port": port, "embedding": True, "verbose": False}
        flags |= {**sizes, "n_threads": threads, "n_threads_batch": threads}
        words = [str(word) for name, value in flags.items() for word in (f"--{name}", value)]
        self.output = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [environment.python, "-m", "llama_cpp.server", *words],
            stdout=self.output,
            stderr=subprocess.STDOUT,
            env=environment.variables(),
        )
        self.address = f"127.0.0.1:{port}"
        try:
            while not self.answers():
                if self.process.poll() is not None or time.perf_counter() - begun > READY_SECONDS:
                    raise Failed(f"the server did not start: {self.said()}")
                time.sleep(0.05)
        except BaseException:
            self.process.kill()
            raise
        self.seconds_to_ready = time.perf_counter() - begun

    def said(self) -> str:
        """The line of its log that tells of an error."""
        self.output.seek(0)
        return reason(self.output.read())

    def answers(self) -> bool:
        connection = http.client.HTTPConnection(self.address, timeout=5)
        try:
            connection.request("GET", "/v1/models")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()
