#!/usr/bin/env python3
"""Measures images a second over HTTP on a synthetic Qwen3-VL-Embedding-2B.

    vision.py --proxima target/release/proxima --cache ~/.cache/proxima [--repeat 3] [--peer PYTHON]

Pictures are JPEG files made from a seed, no two alike, so nothing comes from a cache. Needs Pillow and numpy, for
the pictures alone. With --peer, a Python that has tests/reference/requirements.txt, PyTorch sees the same pictures
behind Proxima (vision_peer.py).
"""

import argparse
import base64
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

from serving import Server
from vision_peer import pictures_of

NAME = "qwen3-vl-embedding-2b"


def ask(server, inputs):
    body = json.dumps({"inputs": inputs}).encode()
    request = urllib.request.Request(f"http://{server.address}/embed", body, {"content-type": "application/json"})
    begun = time.perf_counter()
    with urllib.request.urlopen(request, timeout=3600) as answer:
        vectors = json.load(answer)
    assert len(vectors) == len(inputs)
    return time.perf_counter() - begun


def measure(server, options):
    """Prints a line for each size and batch."""
    print("| picture | at a time | s a batch | images/s |\n| --- | --- | --- | --- |", flush=True)
    ask(server, ["warm"])
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        for size in options.sizes:
            names = pictures_of(folder, size, sum(options.batches) * options.repeat)
            files = ((folder / name).read_bytes() for name in names)
            images = ({"image": base64.b64encode(file).decode()} for file in files)
            for batch in options.batches:
                times = [ask(server, [next(images) for _ in range(batch)]) for _ in range(options.repeat)]
                took = statistics.median(times)
                print(f"| {size} | {batch} | {took:.2f} | {batch / took:.3f} |", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--proxima", required=True)
    parser.add_argument("--cache", type=pathlib.Path, required=True)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--sizes", nargs="+", default=["640x480", "1280x720"])
    parser.add_argument("--peer")
    options = parser.parse_args()
    folder = options.cache / "models" / f"synthetic-{NAME}"
    if not folder.exists():
        tokenizer = options.cache / "tokenizers" / "qwen3"
        subprocess.run([options.proxima, "synth", NAME, "--out", folder, "--tokenizer", tokenizer], check=True)
    server = Server(options.proxima, folder)
    try:
        measure(server, options)
        print(f"\nready after {server.seconds_to_ready:.1f} s, {server.memory('VmHWM')} MB at most")
    finally:
        server.stop()
    if options.peer:
        script = pathlib.Path(__file__).with_name("vision_peer.py")
        lists = ["--batches", *map(str, options.batches), "--sizes", *options.sizes]
        sys.exit(subprocess.run([options.peer, script, folder, "--repeat", str(options.repeat), *lists]).returncode)


if __name__ == "__main__":
    main()
