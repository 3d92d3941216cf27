#!/usr/bin/env python3
"""Loads a server for a minute with requests of all sizes, watches its memory, then stops it under load.

    soak.py --proxima target/release/proxima --model FOLDER [--clients 64] [--seconds 60]

Fails if any request fails that was accepted, or if the server does not end with status 0.
"""

import argparse
import pathlib
import subprocess
import sys
import threading
import time

from serving import Server

parser = argparse.ArgumentParser()
parser.add_argument("--proxima", required=True)
parser.add_argument("--model", required=True)
parser.add_argument("--clients", type=int, default=64)
parser.add_argument("--seconds", type=float, default=60)
arguments = parser.parse_args()

program = pathlib.Path(arguments.proxima).parent / "examples" / "load"
server = Server(arguments.proxima, arguments.model)
print(f"ready after {server.seconds_to_ready:.2f} s, {server.memory()} MB")


def start(seconds):
    flags = ["--address", server.address, "--clients", str(arguments.clients), "--mixed"]
    return subprocess.Popen([program, *flags, "--seconds", str(seconds)], stdout=subprocess.PIPE, text=True)


loading = start(arguments.seconds)
begun = time.monotonic()
while loading.poll() is None:
    try:
        loading.wait(timeout=arguments.seconds / 6)
    except subprocess.TimeoutExpired:
        print(f"after {time.monotonic() - begun:.0f} s: {server.memory()} MB")
print(loading.stdout.read(), end="")
failed = loading.returncode != 0

# Stopping under load: connections that are refused from then on are no loss, malformed responses are.
loading = start(arguments.seconds)
time.sleep(min(3.0, arguments.seconds / 4))
code, seconds = server.stop()
output, _ = loading.communicate()
print(f"SIGTERM under load: status {code} after {seconds:.2f} s; the clients saw")
print(output, end="")
sys.exit(int(failed or code != 0 or "malformed response: no" in output))
