#!/usr/bin/env python3
"""Measures Proxima and its peers on the same texts in one run, and prints one table. `make bench-peers` calls it.

    peers.py --proxima target/release/proxima --cache ~/.cache/proxima [--models minilm,qwen3] [--out FILE]
    peers.py --proxima target/release/proxima --cache ~/.cache/proxima --gemm

Servers are measured over HTTP, engines in a process of their own. Peers are installed into a virtual
environment in the cache (of PyPI's packages; pip's own settings choose another index). The vectors of
every row are compared with sentence-transformers in float32. `--gemm` measures PyTorch's matrix products,
to be put beside `cargo bench -p proxima-kernels`.
"""

import argparse
import dataclasses
import os
import pathlib
import signal
import subprocess
import sys

from engines.bench import Bench, cells, left_out
from engines.environment import HERE, PACKAGES, Environment, Failed, checked
from engines.results import HEAD
from engines.variants import VARIANTS
from engines.workload import WORKS
from serving import machine, synthetic


def several(*known: str) -> dict[str, object]:
    """An option of names between commas; any are good where none are known."""

    def parsed(value: str) -> list[str]:
        chosen = [name for name in value.split(",") if name]
        if known and (unknown := [name for name in chosen if name not in known]):
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not among {', '.join(known)}")
        return chosen

    return {"type": parsed, "default": list(known), "metavar": "A,B"}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--proxima", type=pathlib.Path, required=True, help="the program")
    parser.add_argument("--cache", type=pathlib.Path, required=True, help="the folder that models are kept in")
    parser.add_argument("--models", **several(*WORKS), help=", ".join(WORKS))
    parser.add_argument("--peers", **several(*PACKAGES), help=", ".join(PACKAGES))
    parser.add_argument(
        "--proxima-dtypes", **{**several(), "default": ["default"]}, help="values of --dtype, or default for none"
    )
    parser.add_argument("--runs", type=int, default=3, help="runs of which medians are shown")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of each engine")
    parser.add_argument("--passages", type=int, help="passages of a run, instead of a model's usual number")
    parser.add_argument("--out", type=pathlib.Path, help="a file to write the table to, too")
    parser.add_argument("--gemm", action="store_true", help="measure PyTorch's matrix products, nothing else")
    return parser.parse_args()


class Report:
    """Lines that are printed as they come, and kept."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, *lines: str) -> None:
        self.lines.extend(lines)
        print(*lines, sep="\n", flush=True)


def installed(environment: Environment, peers: list[str]) -> dict[str, str | None]:
    """Peers, and why one cannot be had."""
    failures: dict[str, str | None] = {}
    for peer in peers:
        try:
            environment.install(peer)
            failures[peer] = None
        except Failed as failure:
            failures[peer] = str(failure)
    return failures


def compare(told: argparse.Namespace, environment: Environment, report: Report) -> None:
    """Every engine on every model."""
    failures = installed(environment, told.peers)
    ours = subprocess.run([told.proxima, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    versions = [ours, *(f"{name} {number}" for name, number in environment.versions().items())]
    report.add(f"{machine()}; {told.threads} threads for each engine; medians of {told.runs} runs.")
    report.add(f"{', '.join(versions)}.", "", HEAD)
    notes = []
    for name in told.models:
        work = WORKS[name] if told.passages is None else dataclasses.replace(WORKS[name], passages=told.passages)
        folder = synthetic(told.proxima, told.cache) if name == "qwen3" else told.cache / "models" / work.model
        bench = Bench(environment, work, folder, told.runs, "sentence-transformers" in failures)
        for dtype in told.proxima_dtypes:
            found = cells(lambda: bench.proxima(told.proxima, dtype))
            report.add(f"| {work.model} | Proxima, {dtype} | {found} |")
        for peer, failure in failures.items():
            for variant in VARIANTS[peer]:
                found = left_out(failure) if failure else cells(lambda: bench.peer(variant))
                report.add(f"| {work.model} | {variant.name}, {variant.dtype} | {found} |")
        notes.append(bench.note())
    settings = [f"- {it.name}, {it.dtype}: {it.how}" for peer in failures for it in VARIANTS[peer]]
    served = f"- Proxima: `proxima serve --model MODEL --threads {told.threads}`, `--dtype` where one is named"
    report.add("", *notes, "", served, *settings)


def products(told: argparse.Namespace, environment: Environment, report: Report) -> None:
    """Rates of PyTorch's matrix products with one thread and with all."""
    environment.install()
    counts = sorted({1, told.threads})
    rates: dict[str, list[str]] = {}
    for count in counts:
        one = dataclasses.replace(environment, threads=count)
        command = [one.python, "-m", "engines.products", str(count)]
        for line in checked(command, "measuring products", HERE, one.variables()).splitlines():
            *shape, plain, packed = line.split()
            rates.setdefault(" | ".join(shape), []).extend((plain, packed))
    ways = " | ".join(f"{way}, threads: {count}" for count in counts for way in ("linear", "prepacked"))
    report.add(f"{machine()}; torch {environment.versions()['torch']}; GFLOP/s.", "")
    report.add(f"| rows | columns | depth | dtype | {ways} |", "| --- " * (4 + 2 * len(counts)) + "|")
    report.add(*(f"| {shape} | {' | '.join(found)} |" for shape, found in rates.items()))


def main() -> None:
    told = arguments()
    # Ends like Ctrl-C, so that no server or worker is left behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Workers run in a folder of their own, so paths must not depend on it; links in them are kept.
    told.proxima, told.cache = told.proxima.absolute(), told.cache.absolute()
    environment, report = Environment(told.cache, told.threads), Report()
    try:
        (products if told.gemm else compare)(told, environment, report)
    except Failed as failure:
        sys.exit(f"no measuring without PyTorch and sentence-transformers: {failure}")
    if told.out:
        told.out.write_text("\n".join(report.lines) + "\n")


if __name__ == "__main__":
    main()
