"""The parts that are measured over HTTP. Each takes a `Bench` (see `run.py`) and gives raw figures."""

import array
import contextlib
import math
import random
import sys
import time

from checks import gpu_memory, smi
from limits import Failed, OutOfTime
from load import Connection, Load, at, checked, embed_message, medians, vectors
from texts import Source

# Memory for a model of 1.2 GB whose largest batches would take as much again.
LIMIT_MB = 1700


@contextlib.contextmanager
def what_there_is(found):
    """What has been measured by the end of a part's time counts."""
    try:
        yield
    except (OutOfTime, Failed) as failure:
        if not found:
            raise
        print(f"ended early: {failure}", file=sys.stderr)


def documents(bench):
    """Tokens a second of documents of one length, for each number of documents a request."""
    sizes, found = bench.sizes, {}
    server = bench.fleet.server(bench.checkpoints.path("embedding"))
    with what_there_is(found):
        for batch in sizes.batches:
            # Enough clients that the server always has documents waiting, few enough that it refuses none.
            clients = max(2, min(sizes.clients, sizes.waiting // batch))
            with Load(server.address, clients, batch=batch, words=sizes.document, seed=f"documents {batch}") as load:
                found[str(batch)] = {"clients": clients, **load.measure(sizes.seconds, sizes.seconds, sizes.runs)}
    used, before = gpu_memory(), bench.machine.get("gpu_memory_before_mb")
    memory = None if used is None or before is None else used - before
    ready, chosen = server.seconds_to_ready, server.search(r"([0-9]+) tokens/s in batches of ([0-9]+) tokens")
    said = {"ready_seconds": ready, "gpu_memory_mb": memory, "measured": chosen, "log": server.log[-8:]}
    return {"by_batch": found, **said}


def one_by_one(connection, requests, seconds):
    """Latencies of requests, one after another, for so long at most."""
    latencies, tokens = [], 0
    until = time.perf_counter() + seconds
    for request in requests:
        begun = time.perf_counter()
        head, content = connection.send(request)
        latencies.append(time.perf_counter() - begun)
        tokens += checked(head, content)
        if time.perf_counter() > until:
            break
    latencies.sort()
    return {
        "requests": len(latencies),
        "tokens_per_text": tokens / len(latencies),
        "p50_ms": at(latencies, 0.5) * 1e3,
        "p99_ms": at(latencies, 0.99) * 1e3,
    }


def queries(server, sizes, seconds):
    """Runs of short queries, the first of them to warm up."""
    connection, source, runs = Connection(server.address), Source("query"), []
    for _ in range(sizes.runs + 1):
        requests = [embed_message(source, {"batch": 1, "words": sizes.query}) for _ in range(sizes.queries)]
        runs.append(one_by_one(connection, requests, seconds))
    connection.close()
    return medians(runs[1:])


def query(bench):
    """Latency of one short query at a time."""
    server = bench.fleet.server(bench.checkpoints.path("embedding"))
    return queries(server, bench.sizes, bench.sizes.seconds)


def long_documents(bench):
    """Documents of thousands of tokens: one at a time, and several waiting."""
    sizes, found = bench.sizes, {}
    server = bench.fleet.server(bench.checkpoints.path("embedding"))
    with what_there_is(found):
        for clients in (1, 4):
            with Load(server.address, clients, batch=1, words=sizes.long, seed=f"long {clients}") as load:
                found[str(clients)] = load.measure(sizes.seconds, sizes.seconds, sizes.runs)
    return {"by_clients": found}


def invariance(bench):
    """Whether the same text has the same bits alone and among others, at any place."""
    sizes = bench.sizes
    server = bench.fleet.server(bench.checkpoints.path("embedding"))
    connection, source, places = Connection(server.address), Source("invariance"), random.Random(0)
    compared, different = 0, []
    for words in sizes.probes:
        probe = source.text(words, words)
        (alone,) = vectors(connection, [probe])
        for batch in (1, 2, 17, 64):
            among = source.texts(batch - 1, (1, sizes.probes[-2]))
            place = places.randrange(batch)
            found = vectors(connection, [*among[:place], probe, *among[place:]])[place]
            compared += 1
            if found != alone:
                numbers = [array.array("f", vector) for vector in (alone, found)]
                worst = max(abs(a - b) for a, b in zip(*numbers))
                different.append({"words": words, "batch": batch, "place": place, "largest_difference": worst})
    connection.close()
    return {"compared": compared, "different": different}


def cosine(one, other):
    """Of two vectors, as bytes of float32 numbers."""
    a, b = array.array("f", one), array.array("f", other)
    if len(a) != len(b):
        raise Failed(f"vectors of {len(a)} and {len(b)} numbers")
    return math.fsum(x * y for x, y in zip(a, b)) / math.hypot(*a) / math.hypot(*b)


def precision(bench):
    """Cosines with the same program's vectors in float32 on the processor, for each precision and device.

    Random weights spread roundings further than trained ones, so bfloat16 on the processor is measured, too: what the
    device adds is the difference to that.
    """
    texts = bench.compared_texts()
    found = {}

    def embedded(name, device, dtype, purpose):
        server = bench.fleet.server(bench.checkpoints.path(purpose), "--dtype", dtype, device=device)
        connection = Connection(server.address)
        try:
            found[purpose][name] = vectors(connection, texts)
        finally:
            connection.close()

    answer = {}
    for purpose in ("embedding", "minilm"):
        found[purpose] = {}
        try:
            embedded("reference", "cpu", "float32", purpose)
            for name, device, dtype in [
                ("bfloat16", bench.device, "bfloat16"),
                ("float32", bench.device, "float32"),
                ("processor bfloat16", "cpu", "bfloat16"),
            ]:
                embedded(name, device, dtype, purpose)
        except Failed as failure:
            # What there is by now is worth telling.
            answer[f"{purpose} error"] = str(failure)
        reference = found[purpose].pop("reference", [])
        bench.reference[purpose] = reference
        answer[purpose] = {
            name: least([cosine(one, other) for one, other in zip(each, reference)])
            for name, each in found[purpose].items()
        }
    if not answer["embedding"]:
        raise Failed(answer.get("embedding error", "no vectors"))
    return {"texts": len(texts), "worst_cosines": answer}


def least(numbers):
    """The least, where a number that is none is the least of all."""
    return min(numbers, key=lambda number: -math.inf if math.isnan(number) else number)


def memory(bench):
    """Documents with less memory than the program would take: whether all are answered as without a limit."""
    sizes, lines = bench.sizes, smi("memory.total")
    source = Source("memory")
    requests = [source.texts(32, sizes.document) for _ in range(4)]
    total = int(lines[0]) if lines else None
    # Of a processor no limit is kept; the rest can be tried.
    flags = ["--gpu-memory-fraction", f"{LIMIT_MB / total:.5f}"] if total else []

    def answered(*flags):
        server = bench.fleet.server(bench.checkpoints.path("embedding"), *flags)
        connection = Connection(server.address)
        try:
            return server, [vector for texts in requests for vector in vectors(connection, texts)]
        finally:
            connection.close()

    # A server of its own also on a processor.
    _, free = answered()
    bench.fleet.stop()
    before = gpu_memory()
    server, limited = answered(*flags)
    used = None if before is None else gpu_memory() - before
    halved = sum("does not fit" in line for line in server.log)
    same = sum(one == other for one, other in zip(limited, free))
    return {"limit_mb": LIMIT_MB, "documents": len(free), "same": same, "used_mb": used, "halved": halved}


def rerank(bench):
    """Documents of one query at a time, with what they begin with shared."""
    sizes = bench.sizes
    server = bench.fleet.server(bench.checkpoints.path("reranker"))
    spec = {"kind": "rerank", "batch": sizes.reranked, "words": sizes.passage, "query_words": (8, 12)}
    with Load(server.address, 1, **spec, seed="rerank") as load:
        found = load.measure(sizes.seconds, sizes.seconds, sizes.runs)
    return {**found, "ready_seconds": server.seconds_to_ready}


def minilm(bench):
    """Texts a second of a small BERT, in bfloat16."""
    sizes, found = bench.sizes, {}
    server = bench.fleet.server(bench.checkpoints.path("minilm"), "--dtype", "bfloat16")
    answer = {"ready_seconds": server.seconds_to_ready, "query": queries(server, sizes, sizes.seconds / 2)}
    with what_there_is(answer):
        for batch in sizes.minilm_batches:
            with Load(server.address, sizes.clients, batch=batch, words=sizes.minilm, seed=f"minilm {batch}") as load:
                found[str(batch)] = load.measure(sizes.seconds, sizes.seconds, sizes.runs)
    return {**answer, "by_batch": found}
