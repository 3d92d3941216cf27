"""Starts a server on a free port, runs the client tests against it, stops it and looks at how it ends.

It serves the embedder first, then two checkpoints with published answers, an E2Rank model, and one that
embeds images and videos.

    run.py --proxima target/release/proxima --model FOLDER
"""

import argparse
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

parser = argparse.ArgumentParser()
parser.add_argument("--proxima", required=True)
parser.add_argument("--model", required=True)
parser.add_argument("--tests", default="", help="a file of tests; all if absent")
arguments = parser.parse_args()
here = pathlib.Path(__file__).parent
scores = here.parent / "golden/scores"
folder = tempfile.TemporaryDirectory()
e2rank, vision = f"{folder.name}/e2rank", f"{folder.name}/vision"
subprocess.run([arguments.proxima, "synth", "tiny-e2rank", "--out", e2rank], check=True)
subprocess.run([arguments.proxima, "synth", "tiny-qwen3-vl", "--out", vision], check=True)
models = {
    "all-MiniLM-L6-v2": arguments.model,
    "reranker": scores / "xlmr-reranker",
    "classifier": scores / "bert-classifier",
    "e2rank": e2rank,
    "vision": vision,
}
flags = [flag for name, path in models.items() for flag in ("--model", f"{name}={path}")]

server = subprocess.Popen(
    [arguments.proxima, "serve", *flags, "--port", "0", "--grpc-port", "0"], stderr=subprocess.PIPE, text=True
)
address = grpc_address = None
for line in server.stderr:
    print(line, end="", file=sys.stderr)
    address = (re.findall(r"ready on (http://\S+)", line) or [address])[0]
    grpc_address = (re.findall(r"gRPC on (\S+)", line) or [grpc_address])[0]
    if address and grpc_address:
        break
if address is None:
    sys.exit(f"the server ended with {server.wait()} before it was ready")
# Whatever it still logs must not fill the pipe.
threading.Thread(target=lambda: [print(line, end="", file=sys.stderr) for line in server.stderr], daemon=True).start()
with urllib.request.urlopen(f"{address}/readyz", timeout=30) as answer:
    assert answer.status == 200

environment = dict(os.environ, PROXIMA_ADDRESS=address, PROXIMA_GRPC_ADDRESS=grpc_address)
# For tests that start servers of their own.
environment["PROXIMA_BINARY"] = os.path.abspath(arguments.proxima)
environment["PROXIMA_MODEL"] = os.path.abspath(arguments.model)
# Clients must reach this machine, whatever proxy is set.
environment["no_proxy"] = environment["NO_PROXY"] = "127.0.0.1,localhost"
# Nor may they call home: for a list of prices, or to tell that they are used.
environment["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
environment["HAYSTACK_TELEMETRY_ENABLED"] = "False"
tests = subprocess.run(
    [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(here / arguments.tests)], env=environment
)
started = time.monotonic()
server.send_signal(signal.SIGTERM)
code = server.wait(timeout=60)
print(f"the server ended with {code} after {time.monotonic() - started:.1f} s")
sys.exit(tests.returncode or code)
