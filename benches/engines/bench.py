"""Measures one engine after another on one model, beside the reference."""

import array
import contextlib
import dataclasses
import http.client
import json
import pathlib
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable

from serving import Server

from . import client
from .environment import Environment, Failed, reason
from .results import Reference, Row
from .servers import LlamaServer
from .variants import REFERENCE, Variant
from .workload import Work, texts

# What ends the measuring of one engine, and is told in its row.
FAILURES = (Failed, SystemExit, RuntimeError, OSError, ValueError, http.client.HTTPException)


class Bench:
    """One model: its texts, the reference, and the ways to measure."""

    def __init__(self, environment: Environment, work: Work, model: pathlib.Path, runs: int, timed: bool) -> None:
        """Embeds with the reference; `timed` says whether it is a peer, too."""
        self.environment, self.work, self.model, self.runs = environment, work, model, runs
        self.texts = [texts(work, run) for run in range(runs + 1)]
        self.measured = self.worker(REFERENCE, timed)
        found, _, vectors = self.measured
        self.reference = Reference(
            vectors, found["passage_tokens"], found["query_tokens"], found["document_tokens"]
        )

    def worker(self, variant: Variant, timed: bool = True) -> tuple[dict, float, array.array]:
        """Runs an in-process engine; gives its measures, seconds until it was ready, and vectors."""
        network = self.environment.export(variant.export, self.model) if variant.export else ""
        with tempfile.TemporaryDirectory() as name, open(f"{name}/log", "w+") as log:
            folder = pathlib.Path(name)
            task = {
                "engine": variant.name,
                "dtype": variant.dtype,
                "model": str(self.model),
                "network": str(network),
                "threads": self.environment.threads,
                "runs": self.runs,
                "timed": timed,
                "work": dataclasses.asdict(self.work),
                "vectors": str(folder / "vectors"),
            }
            (folder / "task.json").write_text(json.dumps(task))
            begun = time.perf_counter()
            process = self.environment.start("engines.worker", folder / "task.json", stderr=log)
            with stopped(process):
                ready = None
                for line in process.stdout:
                    if line == "ready\n":
                        ready = time.perf_counter() - begun
                        break
                lines = process.stdout.readlines()
                process.wait()
            if process.returncode or ready is None:
                log.seek(0)
                raise Failed(f"ended with {process.returncode}: {reason(log.read())}")
            return json.loads(lines[-1]), ready, array.array("f", (folder / "vectors").read_bytes())

    def row(self, passages: list[float], query: list[float], document: list[float], **rest: object) -> Row:
        """A row of seconds of runs."""
        return Row(
            given=self.reference.rate(passages),
            query=statistics.median(query),
            document=statistics.median(document) if document else None,
            **rest,
        )

    def in_process(self, variant: Variant) -> Row:
        found, ready, vectors = self.measured if variant is REFERENCE else self.worker(variant)
        return self.row(
            found["given"],
            found["query"],
            found["document"],
            ordered=self.reference.rate(found["ordered"]),
            ready=ready,
            memory=found["memory"],
            cosine=self.reference.worst(vectors, len(self.texts[0].checked())),
        )

    def served(self, server: Server, path: str) -> Row:
        """Measures a server that has been started, and stops it."""
        first, *runs = self.texts
        try:
            api = client.Api(server.address, path)
            vectors = client.vectors(api, self.work, first)
            cosine = self.reference.worst(vectors, len(first.checked()))
            passages, query, document = client.measure(api, self.work, runs)
            memory = server.memory("VmHWM")
        finally:
            server.stop()
        ready = server.seconds_to_ready
        return self.row(passages, query, document, ordered=None, ready=ready, memory=memory, cosine=cosine)

    def proxima(self, program: pathlib.Path, dtype: str) -> Row:
        flags = ["--threads", str(self.environment.threads)]
        flags += [] if dtype == "default" else ["--dtype", dtype]
        return self.served(Server(program, self.model, *flags), "/embed")

    def peer(self, variant: Variant) -> Row:
        if variant.name == "llama.cpp":
            file = self.environment.export(variant.export, self.model)
            return self.served(LlamaServer(self.environment, file, self.work.longest), "/v1/embeddings")
        return self.in_process(variant)

    def note(self) -> str:
        """What the columns of the table are for this model."""
        work, reference = self.work, self.reference
        tokens = statistics.median(reference.passage_tokens[1:])
        document = f", a document of {reference.document_tokens} tokens" if work.document_words else ""
        return (
            f"- {self.model.name}: {work.passages} passages of {tokens / work.passages:.0f} tokens on average in "
            f"batches of {work.batch} ({work.clients} clients where there is a server), queries of about "
            f"{reference.query_tokens} tokens one at a time{document}."
        )


@contextlib.contextmanager
def stopped(process: subprocess.Popen):
    """Sees to it that a process does not outlive the work with it."""
    try:
        yield
    finally:
        process.kill()
        process.wait()


def cells(measure: Callable[[], Row]) -> str:
    """A row's cells, or why there are none."""
    try:
        return measure().cells()
    except FAILURES as failure:
        return left_out(str(failure))


def left_out(failure: str) -> str:
    return f"left out: {reason(failure)} | | | | | | "
