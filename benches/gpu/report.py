"""The one table, from the raw figures of the parts."""

import base64

from checkpoints import weights_in_layers
from limits import Failed
from parts import cosine, least

HEAD = "| what | goal | measured | peer | ratio |\n| --- | --- | ---: | ---: | ---: |"


class Table:
    """Rows: what, goal, measured, the peer's, and by what factor Proxima is the better one."""

    def __init__(self, bench):
        self.bench, self.results, self.rows = bench, bench.results["parts"], []

    def add(self, what, goal, measured="", peer="", ratio=None):
        self.rows.append((what, goal, measured, peer, "" if ratio is None else f"{ratio:.2f} x"))

    def failure(self, part):
        """Why a part has no figures; `None` if it has."""
        found = self.results.get(part)
        if found is None:
            return "left out"
        return None if "values" in found else f"failed: {found['error']}"

    def values(self, part):
        return self.results.get(part, {}).get("values", {})

    def peers(self, measure):
        """The peer's figures, and what to write in their place where there are none."""
        failure = self.failure("peer")
        if failure:
            return {}, failure
        found = self.values("peer").get(measure)
        if found is None:
            # What ended the loading, or the whole of it, ended this.
            why = self.values("peer").get("load", {}).get("error") or self.values("peer").get("late", {}).get("error")
            return {}, f"failed: {why}" if why else "left out"
        return ({}, f"failed: {found['error']}") if "error" in found else (found, "")

    def compare(self, what, goal, part, measure, pick, figure, form, less_is_better=False):
        """A row of one figure of both; `pick` finds the figures of a batch size, say, among a part's."""
        ours, theirs = self.values(part), self.peers(measure)
        if self.failure(part) == "left out" and not theirs[0]:
            return
        mine, other = (picked(pick, side, figure) for side in (ours, theirs[0]))
        measured = self.failure(part) or "not done in time" if mine is None else form(mine)
        peer = theirs[1] or "not done in time" if other is None else form(other)
        ratio = None
        if mine and other:
            ratio = other / mine if less_is_better else mine / other
        self.add(what, goal, measured, peer, ratio)

    def text(self):
        cells = [[cell.replace("|", "/").replace("\n", " ") for cell in row] for row in self.rows]
        return "\n".join([HEAD, *("| " + " | ".join(row) + " |" for row in cells)])


def picked(pick, values, figure):
    """A figure, if it has been measured."""
    try:
        return pick(values)[figure]
    except (KeyError, ValueError):
        return None


def fastest(values):
    """The figures of the batch size with the most tokens a second."""
    return max(values["by_batch"].values(), key=lambda found: found["tokens_per_second"])


def whole(unit):
    return lambda number: f"{number:,.0f} {unit}"


def milliseconds(number):
    return f"{number:.2f} ms" if number < 100 else f"{number:.0f} ms"


def tests_row(table):
    failure = table.failure("tests")
    if failure == "left out":
        return None
    if failure:
        return table.add("tests of operations and goldens", "all pass", failure)
    found = table.values("tests")
    count = {how: [test for test in found["tests"] if test["how"] == how] for how in ("passed", "failed")}
    others = [test for test in found["tests"] if test["how"] not in count]
    said = f"{len(count['passed'])} of {len(found['tests'])} passed"
    said += f", {len(others)} skipped or not run" if others else ""
    said += f", {len(found['left_out'])} left out" if found["left_out"] else ""
    table.add("tests of operations and goldens", "all pass", said)
    for test in [*count["failed"], *others][:30]:
        table.add(f"test {test['test']}", "passes", f"{test['how']}: {test['said']}")


def sanitizer_row(table):
    failure = table.failure("sanitizer")
    if failure == "left out":
        return
    found = table.values("sanitizer")
    said = failure or found["summary"] or f"status {found['status']}: {' '.join(found['first'][1:3])[:120]}"
    table.add("compute-sanitizer, attention", "0 errors", said)


def utilisation_row(table):
    """Multiplications of the layers' weights, over what the device does in one large product."""
    rate, missing = table.peers("matrix")
    if missing != "left out":
        measured = f"{rate['tflops']:.1f} TFLOP/s" if rate else missing
        table.add(f"bfloat16 product of {rate.get('size', '?')} cubed", "", "", measured)
    if not rate or table.failure("documents") == "left out":
        return
    weights = weights_in_layers(table.bench.checkpoints.path("embedding"))

    def share(side):
        tokens = picked(fastest, side, "tokens_per_second")
        return tokens * 2 * weights / rate["tflops"] / 1e12 if tokens else None

    ours, theirs = share(table.values("documents")), share(table.peers("documents")[0])
    cells = ["" if number is None else f"{number:.1%}" for number in (ours, theirs)]
    table.add("of that rate, end to end (weights only)", ">= 45 %", *cells, ours / theirs if ours and theirs else None)


def documents_rows(table):
    found = table.values("documents")
    tokens = round(fastest(found)["tokens_per_text"]) if found else 512
    what = f"documents of {tokens} tokens"
    table.compare(what, ">= 2 x", "documents", "documents", fastest, "tokens_per_second", whole("tokens/s"))
    if found.get("measured"):
        rate, size = (int(number) for number in found["measured"])
        table.add("batch that the server chose", "", f"{size:,} tokens, at {rate:,} tokens/s")
    for size in found.get("by_batch", {}):
        both = [side.get("by_batch", {}).get(size) for side in (found, table.peers("documents")[0])]
        cells = ["" if each is None else f"{each['tokens_per_second']:,.0f} tokens/s" for each in both]
        ratio = both[0]["tokens_per_second"] / both[1]["tokens_per_second"] if both[1] else None
        table.add(f"- {size} a request", "", *cells, ratio)
    utilisation_row(table)


def latency_rows(table):
    def same(side):
        return side

    tokens = round(table.values("query").get("tokens_per_text", 16))
    for figure, goal in (("p50_ms", "<= 2 ms, >= 5 x"), ("p99_ms", "")):
        what = f"query of {tokens} tokens, {figure[:3]}"
        table.compare(what, goal, "query", "query", same, figure, milliseconds, less_is_better=True)
    for size, how in (("1", "one at a time"), ("4", "four at a time")):
        both = table.values("long").get("by_clients", {}), table.peers("long")[0].get("by_batch", {})
        tokens = round(next(iter(both[0].values()))["tokens_per_text"]) if both[0] else 8192

        def among(side, size=size):
            return (side.get("by_clients") or side.get("by_batch") or {})[size]

        what = f"documents of {tokens} tokens, {how}"
        table.compare(what, ">= 2 x", "long", "long", among, "tokens_per_second", whole("tokens/s"))


def rerank_row(table):
    def quickest(side):
        return min(side["by_batch"].values(), key=lambda found: found["p50_ms"]) if "by_batch" in side else side

    count = table.bench.sizes.reranked
    what = f"{count} documents reranked"
    table.compare(what, "", "rerank", "rerank", quickest, "p50_ms", milliseconds, less_is_better=True)


def minilm_rows(table):
    table.compare("MiniLM's sizes, texts", "", "minilm", "minilm", fastest, "texts_per_second", whole("texts/s"))

    def asked(side):
        return side["query"]

    what = "MiniLM's sizes, query, p50"
    table.compare(what, "", "minilm", "minilm", asked, "p50_ms", milliseconds, less_is_better=True)


def memory_row(table):
    both = table.values("documents").get("gpu_memory_mb"), table.peers("documents")[0].get("gpu_memory_mb")
    if any(number is not None for number in both):
        cells = ["" if number is None else f"{number:,} MB" for number in both]
        table.add("GPU memory in use after the documents", "", *cells)
    for part, what in (("documents", "embedder"), ("rerank", "reranker"), ("minilm", "MiniLM's sizes")):
        seconds = table.values(part).get("ready_seconds")
        if seconds is not None:
            theirs = table.peers("load")[0].get("seconds") if part == "documents" else None
            table.add(f"ready after, {what}", "", f"{seconds:.1f} s", f"{theirs:.1f} s" if theirs else "")


def invariance_row(table):
    failure = table.failure("invariance")
    theirs, missing = table.peers("invariance")
    if failure == "left out" and not theirs:
        return
    cells = []
    for found, why in ((table.values("invariance"), failure), (theirs, missing)):
        different = found.get("different")
        count = len(different) if isinstance(different, list) else different
        cells.append(why if not found else f"{found['compared'] - count} of {found['compared']}")
    table.add("same bits alone and among 2, 17, 64 texts", "all", *cells)


def limit_row(table):
    failure = table.failure("memory")
    if failure == "left out":
        return
    found = table.values("memory")
    said = failure
    if not failure:
        used = "" if found["used_mb"] is None else f", {found['used_mb']:,} MB in use"
        said = f"{found['same']} of {found['documents']}{used}, {found['halved']} batches halved"
    table.add("same bits with a limit of 1,700 MB (and what CUDA takes)", "all", said)


def precision_rows(table):
    failure = table.failure("precision")
    if failure:
        if failure != "left out":
            table.add("cosines with float32 on the processor", ">= 0.999", failure)
        return
    found = table.values("precision")["worst_cosines"]
    goals = {"bfloat16": ">= 0.999", "float32": ">= 0.99999", "processor bfloat16": ""}
    for purpose, what in (("embedding", "Qwen3"), ("minilm", "MiniLM's sizes")):
        for name, goal in goals.items():
            measured = found.get(purpose, {}).get(name)
            error = found.get(f"{purpose} error")
            if measured is None and error is None:
                continue
            theirs = peer_cosine(table, purpose) if name == "bfloat16" else ""
            cell = f"{measured:.6f}" if measured is not None else f"failed: {error}"
            table.add(f"worst cosine with float32 on the processor, {what}, {name}", goal, cell, theirs)


def peer_cosine(table, purpose):
    """The peer's worst cosine with the same reference."""
    found, missing = table.peers("vectors" if purpose == "embedding" else "minilm_vectors")
    reference = table.bench.reference.get(purpose)
    if not found or not reference:
        return missing
    theirs = [base64.b64decode(vector) for vector in found["vectors"]]
    try:
        return f"{least([cosine(one, other) for one, other in zip(theirs, reference)]):.6f}"
    except Failed as failure:
        return f"failed: {failure}"


def table_of(bench):
    """The table, as Markdown."""
    table = Table(bench)
    for part in ("machine", "checkpoints"):  # of which nothing else is told
        if table.failure(part) not in (None, "left out"):
            table.add(part, "", table.failure(part))
    for rows in ROWS:
        try:
            rows(table)
        except (LookupError, TypeError, ValueError, ArithmeticError, OSError) as error:
            # A figure that is not as expected must not cost the others.
            table.add(rows.__name__, "", f"failed: {type(error).__name__}: {error}")
    return table.text()


ROWS = (
    tests_row,
    sanitizer_row,
    documents_rows,
    latency_rows,
    rerank_row,
    minilm_rows,
    memory_row,
    invariance_row,
    limit_row,
    precision_rows,
)
