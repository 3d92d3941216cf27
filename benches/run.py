#!/usr/bin/env python3
"""Measures a server over HTTP: start, memory, tokens a second, latency. `make bench` calls it.

    run.py --proxima target/release/proxima --cache ~/.cache/proxima [--peer] [--runs 3]

Prints a table of medians. `--peer` measures sentence-transformers on the same checkpoints and texts of
the same lengths in the same run, in the process, so without HTTP (needs torch and sentence-transformers).
"""

import argparse
import pathlib
import statistics
import subprocess
import sys
import time

from serving import Server, load, machine, percentile, rate, synthetic

parser = argparse.ArgumentParser()
parser.add_argument("--proxima", required=True)
parser.add_argument("--cache", type=pathlib.Path, required=True)
parser.add_argument("--runs", type=int, default=3)
parser.add_argument("--seconds", type=float, default=8)
parser.add_argument("--peer", action="store_true")
arguments = parser.parse_args()

# Name, texts of a request, clients, words of a text (each, half and half more): see load.rs.
MINILM = [("documents", 32, 4, 110), ("one query", 1, 1, 12)]
QWEN3 = [("documents", 8, 2, 110), ("one query", 1, 1, 14), ("long document", 1, 1, 1800)]


def served(model, works):
    """Rows of one server: what, figure."""
    program = pathlib.Path(arguments.proxima).parent / "examples" / "load"
    server = Server(arguments.proxima, model)
    yield "ready after", f"{server.seconds_to_ready:.2f} s"
    yield "resident when idle", f"{server.memory()} MB"
    for name, batch, clients, words in works:
        flags = ["--batch", batch, "--clients", clients, "--words", words]
        load(program, server.address, *flags, "--seconds", 2)
        runs = [
            load(program, server.address, *flags, "--seconds", arguments.seconds)
            for _ in range(arguments.runs)
        ]
        tokens = statistics.median(rate(lines) for lines in runs)
        latency = statistics.median(percentile(lines) for lines in runs)
        yield f"{name} ({clients} x {batch} of ~{words} words)", f"{tokens:.0f} tokens/s, p50 {latency:.1f} ms"
    yield "resident at its highest", f"{server.memory('VmHWM')} MB"
    code, seconds = server.stop()
    yield "stopped after", f"{seconds:.2f} s, status {code}"


def peer(model, works):
    """The same works in sentence-transformers, texts sorted by length as it does."""
    import random

    import torch
    from sentence_transformers import SentenceTransformer

    for dtype in (torch.float32, torch.bfloat16):
        reference = SentenceTransformer(str(model), device="cpu", model_kwargs={"torch_dtype": dtype})
        source = random.Random(0)
        words = "the a of to in on for with and or but time year people way day man thing".split()
        for name, batch, clients, count in works:
            texts = [
                " ".join(source.choices(words, k=count // 2 + source.randrange(count + 1)))
                for _ in range(batch * (8 if batch > 1 else 1))
            ]
            tokens = sum(len(row) for row in reference.tokenizer(texts)["input_ids"])
            times = []
            for _ in range(arguments.runs + 1):
                begun = time.perf_counter()
                reference.encode(texts, batch_size=batch)
                times.append(time.perf_counter() - begun)
            median = statistics.median(times[1:])
            label = f"{name}, sentence-transformers {str(dtype).split('.')[1]}"
            yield label, f"{tokens / median:.0f} tokens/s, {median * 1e3:.1f} ms for {len(texts)} texts"


version = subprocess.run([arguments.proxima, "--version"], capture_output=True, text=True, check=True)
print(f"{version.stdout.strip()}; {machine()}; medians of {arguments.runs} runs\n")
print("| model | what | measured |\n| --- | --- | --- |")
for label, folder, works in [
    ("all-MiniLM-L6-v2", arguments.cache / "models" / "all-MiniLM-L6-v2", MINILM),
    ("Qwen3-Embedding-0.6B, random weights", synthetic(arguments.proxima, arguments.cache), QWEN3),
]:
    for what, figure in served(folder, works):
        print(f"| {label} | {what} | {figure} |", flush=True)
    for what, figure in peer(folder, works) if arguments.peer else ():
        print(f"| {label} | {what} | {figure} |", flush=True)
sys.exit(0)
