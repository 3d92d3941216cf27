#!/usr/bin/env python3
"""Checks and measures Proxima on a GPU beside PyTorch, in one call of under nine minutes, and prints one table.

    run.py [--pack FILE] [--out FOLDER]                      with what pack.sh packed, by default beside this file
    run.py --proxima FILE [--tests FOLDER] [--cache FOLDER]  with programs that are there
    run.py --proxima FILE --device cpu --dry                 tiny models, to try the script itself

Needs no package; the peer needs torch and sentence-transformers. Every part has a time limit, and one that fails is a
row of the table. Nothing is asserted: the status is 0 whatever was measured. README.md says what the rows mean.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback

import checks
import parts
from checkpoints import Checkpoints
from limits import GROUP, Clock, Failed, OutOfTime, end, limit, reason
from report import table_of
from server import Fleet, environment_of, terminate_as_interrupt
from texts import Source

HERE = pathlib.Path(__file__).resolve().parent


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much is measured. Words of texts are fewest and most; Qwen3 adds a token to each text."""

    runs: int = 3
    # About how long a run takes.
    seconds: float = 2.0
    batches: tuple[int, ...] = (32, 64, 128, 256)
    # Of the peer, whose rate hangs less on it.
    peer_batches: tuple[int, ...] = (32, 128)
    clients: int = 8
    # Documents that wait at a time; the server refuses what exceeds 1,048,576 tokens.
    waiting: int = 1024
    document: tuple[int, int] = (511, 511)
    long: tuple[int, int] = (8191, 8191)
    query: tuple[int, int] = (15, 15)
    queries: int = 200
    reranked: int = 100
    passage: tuple[int, int] = (110, 170)
    minilm: tuple[int, int] = (52, 200)
    minilm_batches: tuple[int, ...] = (32, 256)
    probes: tuple[int, ...] = (5, 63, 200, 511)
    compared: int = 16
    matrix: int = 8192


DRY = Sizes(
    runs=2,
    seconds=0.3,
    batches=(4, 8),
    peer_batches=(4,),
    clients=2,
    waiting=16,
    document=(63, 63),
    long=(400, 400),
    queries=20,
    reranked=10,
    passage=(11, 17),
    minilm=(5, 20),
    minilm_batches=(4,),
    probes=(5, 20, 40, 63),
    compared=4,
    matrix=512,
)

# Seconds of each part at most; what the whole run has left bounds them, too.
LIMITS = {
    "machine": 30,
    "tests": 110,
    "checkpoints": 75,
    "documents": 80,
    "query": 20,
    "long": 35,
    "invariance": 20,
    "memory": 30,
    "peer": 150,
    "precision": 70,
    "rerank": 40,
    "minilm": 45,
    "sanitizer": 90,
}
# What each part needs.
MODELS = {
    "documents": ("embedding",),
    "query": ("embedding",),
    "long": ("embedding",),
    "invariance": ("embedding",),
    "memory": ("embedding",),
    "precision": ("embedding", "minilm"),
    "rerank": ("reranker",),
    "minilm": ("minilm",),
    "peer": ("embedding", "reranker", "minilm"),
}
ALWAYS = ("machine", "checkpoints")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pack", type=pathlib.Path, help="what pack.sh wrote (default: pack.tar.xz beside this file)")
    parser.add_argument("--proxima", type=pathlib.Path, help="the program (default: the packed one)")
    parser.add_argument("--tests", type=pathlib.Path, help="a folder of test executables (default: the packed ones)")
    parser.add_argument("--cache", type=pathlib.Path, help="tokenizers and models as scripts/fetch.py keeps them")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu (default: cuda)")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has torch (default: this one)")
    parser.add_argument("--out", type=pathlib.Path, help="where table and raw figures go (default: $OUT, or nowhere)")
    chosen = [name for name in LIMITS if name not in ALWAYS]
    parser.add_argument("--only", nargs="+", metavar="PART", choices=chosen, help=", ".join(chosen))
    parser.add_argument("--sanitize", action="store_true", help="run compute-sanitizer over the attention test, last")
    parser.add_argument("--dry", action="store_true", help="tiny models and sizes")
    parser.add_argument("--minutes", type=float, default=8.7, help="of the whole run (default: 8.7)")
    parser.add_argument("--serve", default="", help="more flags of proxima serve, in one word: --serve='--a b'")
    return parser.parse_args()


class Bench:
    """What all parts use, and what they found."""

    def __init__(self, given, temporary):
        self.temporary, self.device, self.python = temporary, given.device, given.python
        self.sizes = DRY if given.dry else Sizes()
        self.test_seconds = 60
        self.machine, self.reference, self.background = {}, {}, []
        self.results = {"parts": {}}
        pack = unpacked(given, temporary)
        self.proxima = given.proxima or pack / "bin" / "proxima"
        self.proxima = pathlib.Path(shutil.which(self.proxima) or self.proxima).resolve()
        if not self.proxima.exists():
            sys.exit(f"run.py: no program {self.proxima}")
        self.tests = given.tests or (pack / "tests" if pack else None)
        self.tests = self.tests.resolve() if self.tests else None
        self.cache = given.cache or (pack / "cache" if pack else home_cache())
        folders, self.libraries = checks.library_folders(given.python) if given.device != "cpu" else ([], {})
        self.environment = environment_of(folders)
        self.checkpoints = Checkpoints(self.proxima, temporary, self.cache.resolve(), self.environment, given.dry)
        self.fleet = Fleet(self.proxima, given.device, given.serve.split(), self.environment)
        self.chosen = given.only or [name for name in LIMITS if name not in ALWAYS]
        if not given.sanitize and not given.only:
            self.chosen.remove("sanitizer")
        self.purposes = sorted({model for name in self.chosen for model in MODELS.get(name, ())})

    def read_ahead(self):
        """Has the peer's packages read from disk: the first import of PyTorch can take longer than its measures."""
        if "peer" in self.chosen:
            words = [self.python, "-c", "import torch, transformers, sentence_transformers"]
            quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
            self.background.append(subprocess.Popen(words, **quiet, **GROUP))

    def stop(self):
        """Ends every process that was started."""
        self.fleet.stop(patience=1.0)
        self.checkpoints.stop()
        for process in self.background:
            end(process, patience=0.5)

    def compared_texts(self):
        """Texts of many lengths, for cosines."""
        source, most = Source("compared"), 120
        return [source.text(2 + place * most // self.sizes.compared, most) for place in range(self.sizes.compared)]


def home_cache():
    """Where scripts/fetch.py keeps what it fetches."""
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(os.environ.get("PROXIMA_CACHE") or pathlib.Path(base) / "proxima")


def unpacked(given, temporary):
    """The folder of what pack.sh packed, if there is any."""
    file = given.pack or HERE / "pack.tar.xz"
    if given.proxima and not given.pack:
        return None
    if not file.exists():
        sys.exit(f"run.py: no {file}: name a pack (--pack) or a program (--proxima)")
    folder = temporary / "pack"
    with tarfile.open(file) as archive:
        safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(folder, **safe)
    about = json.loads((folder / "pack.json").read_text())
    print(f"packed: {about}", file=sys.stderr)
    checks.lay_out_goldens(about["root"], folder / "golden")
    return folder


def machine(bench, _seconds):
    bench.machine = checks.machine(bench)
    return bench.machine


def checkpoints(bench, _seconds):
    bench.checkpoints.finish()
    return {"notes": bench.checkpoints.notes}


def peer(bench, seconds):
    """Runs peer.py; what it has measured when its time is over counts."""
    bench.fleet.stop()
    models = {purpose: str(bench.checkpoints.path(purpose)) for purpose in bench.purposes}
    task = {
        "device": bench.device,
        "models": models,
        "sizes": dataclasses.asdict(bench.sizes),
        "texts": bench.compared_texts(),
        "gpu_memory_before_mb": checks.gpu_memory(),
    }
    (bench.temporary / "task.json").write_text(json.dumps(task))
    # PyTorch brings its own libraries.
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
    found, log = {}, bench.temporary / "peer.log"
    with open(log, "w") as errors:
        process = subprocess.Popen(
            [bench.python, str(HERE / "peer.py"), str(bench.temporary / "task.json")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
            **GROUP,
        )
        try:
            for line in process.stdout:
                if line.startswith('{"name"'):
                    measure = json.loads(line)
                    found[measure["name"]] = measure["values"]
                    note(f"peer: {measure['name']}")
            process.wait()
        except OutOfTime as late:
            found["late"] = {"error": str(late)}
        finally:
            end(process, patience=0.5)
    said = log.read_text(errors="replace")
    found["log"] = {"stderr": said[-4000:], "status": process.returncode}
    if len(found) == 1:
        raise Failed(f"status {process.returncode}: {reason(said)}")
    return found


def plain(work):
    """A part that bounds its own time by the limit alone."""
    return lambda bench, _seconds: work(bench)


WORKS = {
    "machine": machine,
    "tests": checks.tests,
    "checkpoints": checkpoints,
    "documents": plain(parts.documents),
    "query": plain(parts.query),
    "long": plain(parts.long_documents),
    "invariance": plain(parts.invariance),
    "memory": plain(parts.memory),
    "peer": peer,
    "precision": plain(parts.precision),
    "rerank": plain(parts.rerank),
    "minilm": plain(parts.minilm),
    "sanitizer": checks.sanitizer,
}
CLOCK = Clock(0)


LOG = []


def note(text):
    """A line of progress, also for run.log."""
    LOG.append(f"{CLOCK.passed():6.1f} s  {text}")
    print(LOG[-1], file=sys.stderr, flush=True)


def run_part(bench, name):
    """Runs a part within its time; what went wrong is its result."""
    seconds = min(LIMITS[name], CLOCK.left())
    begun = time.monotonic()
    found = {}
    try:
        if seconds < 5:
            raise OutOfTime("no time left")
        with limit(seconds):
            # Parts that stop by themselves tell more than those that are stopped.
            found["values"] = WORKS[name](bench, seconds - 4)
    except (Exception, SystemExit) as error:  # noqa: BLE001: the next part may work
        said = str(error) or type(error).__name__
        known = isinstance(error, (Failed, OSError))
        found = {"error": said if known else f"{type(error).__name__}: {said}"}
        found["trace"] = traceback.format_exc()[-2000:]
        # The next part begins with a server that is not in the middle of something.
        bench.fleet.stop(patience=1.0)
    found["seconds"] = time.monotonic() - begun
    bench.results["parts"][name] = found
    note(f"{name}: {found.get('error', 'done')} ({found['seconds']:.1f} s)")


def write(bench, out):
    """Writes what there is, after every part: a run that is ended from outside has told what it knew."""
    text = f"{head(bench)}\n\n{table_of(bench)}"
    if out:
        found = {"proxima": bench.machine.get("proxima"), "device": bench.device, **bench.results}
        (out / "table.md").write_text(text + "\n")
        (out / "run.log").write_text("\n".join(LOG) + "\n")
        (out / "results.json").write_text(json.dumps({**found, "logs": bench.fleet.logs}, indent=1) + "\n")
    return text


def head(bench):
    """The line above the table."""
    about = bench.machine
    loaded = bench.results["parts"].get("peer", {}).get("values", {}).get("load", {})
    names = {"sentence_transformers": "sentence-transformers", "transformers": "transformers", "torch": "torch"}
    peers = [f"{name} {loaded[key]}" for key, name in names.items() if key in loaded]
    peers += [f"attention {loaded['attention']}"] if "attention" in loaded else []
    notes = [*bench.checkpoints.notes]
    if bench.device == "cpu":
        notes.append("A dry run says nothing of a GPU.")
    gpu = about.get("gpu") or "no GPU that nvidia-smi names"
    line = "; ".join(str(word) for word in (about.get("proxima"), gpu, about.get("processor")) if word)
    return "\n".join([line, f"Peer: {', '.join(peers) or 'none'}.", *notes])


def main():
    given = arguments()
    CLOCK.seconds = given.minutes * 60
    out = given.out or (pathlib.Path(os.environ["OUT"]) if os.environ.get("OUT") else None)
    if out:
        out.mkdir(parents=True, exist_ok=True)
    terminate_as_interrupt()
    with tempfile.TemporaryDirectory(prefix="proxima-bench-", ignore_cleanup_errors=True) as folder:
        bench = Bench(given, pathlib.Path(folder))
        try:
            # Both go on while tests run, which are not timed.
            bench.checkpoints.start(bench.purposes)
            bench.read_ahead()
            for name in LIMITS:
                if name in (*ALWAYS, *bench.chosen):
                    run_part(bench, name)
                    write(bench, out)
        except KeyboardInterrupt:
            note("ended from outside")
        finally:
            bench.stop()
        text = write(bench, out)
    note("done")
    print(text, flush=True)


if __name__ == "__main__":
    main()
