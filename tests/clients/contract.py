"""Servers of one model each, behind a key, for tests of what the OpenAPI document says.

Their models: an embedder (the demo model), a cross-encoder, and one of weights of words.
"""

import contextlib
import os
import re
import subprocess
import threading

from conftest import ROOT

KEY = "a-key-of-the-tests"
SCORES = ROOT / "tests/golden/scores"
NAMES = ["embedder", "cross-encoder", "sparse"]


def checkpoint(name):
    checkpoints = {"cross-encoder": SCORES / "xlmr-reranker", "sparse": SCORES / "splade-bert"}
    return checkpoints.get(name) or os.environ["PROXIMA_MODEL"]


@contextlib.contextmanager
def served(name):
    """The address of a server of a model."""
    command = [os.environ["PROXIMA_BINARY"], "serve", "--model", str(checkpoint(name)), "--port", "0", "--api-key", KEY]
    # Variables with this prefix are settings of the server.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PROXIMA_")}
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        lines = []
        for line in server.stderr:
            lines.append(line)
            if found := re.search(r"ready on (http://\S+)", line):
                break
        else:
            raise RuntimeError("".join(lines))
        # Whatever it still logs must not fill the pipe.
        threading.Thread(target=lambda: [None for _ in server.stderr], daemon=True).start()
        yield found[1]
        assert server.poll() is None, "the server ended"
    finally:
        server.terminate()
        server.wait(timeout=60)
