#!/usr/bin/env python3
"""Measures reranking over HTTP on synthetic checkpoints: what shared prefixes and kept vectors save.

    rerank.py --proxima target/release/proxima --cache ~/.cache/proxima [--documents 100] [--runs 3]

Qwen3-Reranker-0.6B ranks documents of about 150 tokens behind a shared prefix of about 60, with sharing
and without, by turns; E2Rank-0.6B ranks them with the documents' vectors sent and without.
"""

import argparse
import json
import pathlib
import random
import statistics
import subprocess
import time
import urllib.request

from serving import Server

parser = argparse.ArgumentParser()
parser.add_argument("--proxima", required=True)
parser.add_argument("--cache", type=pathlib.Path, required=True)
parser.add_argument("--documents", type=int, default=100)
parser.add_argument("--runs", type=int, default=3)
arguments = parser.parse_args()

WORDS = "the a of to in on for with and or but time year people way day man thing woman life child world".split()


def checkpoint(name):
    """A synthetic checkpoint, written once into the cache."""
    folder = arguments.cache / "models" / f"synthetic-{name}"
    if not folder.exists():
        tokenizer = arguments.cache / "tokenizers" / "qwen3"
        subprocess.run([arguments.proxima, "synth", name, "--out", folder, "--tokenizer", tokenizer], check=True)
    return folder


def documents(seed):
    source = random.Random(seed)
    return [" ".join(source.choices(WORDS, k=source.randrange(110, 170))) for _ in range(arguments.documents)]


def ask(server, path, body):
    request = urllib.request.Request(
        f"http://{server.address}{path}", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    begun = time.perf_counter()
    with urllib.request.urlopen(request, timeout=3600) as answer:
        content = json.loads(answer.read())
    return content, time.perf_counter() - begun


def counter(server, name):
    with urllib.request.urlopen(f"http://{server.address}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name + "{"))


def pointwise():
    times, rows, scores = {True: [], False: []}, {}, {}
    servers = {
        True: Server(arguments.proxima, checkpoint("qwen3-reranker-0.6b")),
        False: Server(arguments.proxima, checkpoint("qwen3-reranker-0.6b"), "--prefix-bytes", "0"),
    }
    for run in range(arguments.runs):
        for shares, server in servers.items():
            before = [counter(server, f"proxima_{name}_total") for name in ("tokens", "rows")]
            body = {"query": f"where do {run} people live in the world", "documents": documents(run), "raw_scores": True}
            answer, took = ask(server, "/rerank", body)
            after = [counter(server, f"proxima_{name}_total") for name in ("tokens", "rows")]
            rows[shares] = [int(b - a) for a, b in zip(before, after)]
            scores[shares, run] = [(it["index"], it["relevance_score"]) for it in answer["results"]]
            times[shares].append(took)
    for run in range(arguments.runs):
        assert scores[True, run] == scores[False, run], "sharing changed a score"
    for server in servers.values():
        server.stop()
    for shares, name in [(False, "each alone"), (True, "shared")]:
        tokens, computed = rows[shares]
        print(f"| Qwen3-Reranker-0.6B | {name} | {tokens} tokens, {computed} rows | {statistics.median(times[shares]):.1f} s |")


def listwise():
    server = Server(arguments.proxima, checkpoint("e2rank-0.6b"))
    times = {"documents embedded too": [], "vectors sent": []}
    for run in range(arguments.runs):
        texts = documents(100 + run)
        body = {"query": f"where do {run} people live", "documents": texts}
        without, took = ask(server, "/rerank", body)
        times["documents embedded too"].append(took)
        vectors, _ = ask(server, "/embed", {"inputs": texts, "encoding_format": "base64"})
        sent, took = ask(server, "/rerank", {**body, "document_embeddings": vectors})
        times["vectors sent"].append(took)
        order = [[it["index"] for it in answer["results"]] for answer in (without, sent)]
        assert order[0] == order[1], "vectors sent changed the order"
    server.stop()
    for name, took in times.items():
        print(f"| E2Rank-0.6B | {name} | {arguments.documents} documents | {statistics.median(took):.1f} s |")


print("| model | how | work | median |\n| --- | --- | --- | --- |")
pointwise()
listwise()
