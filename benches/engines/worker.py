"""One in-process engine, measured in a process of its own: `worker.py TASK.json` (see `Task`).

Says `ready` on a line once the model is loaded, then prints its measures as one JSON object. Vectors of
run 0 go to a file of float32. Runs in the peers' environment.
"""

import dataclasses
import json
import pathlib
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

from serving import resident

from .workload import Texts, Work, batches, longest_tokens, texts

Encode = Callable[[list[str]], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Task:
    """What a worker is told."""

    engine: str
    dtype: str
    model: str
    # The exported network, for those that need one.
    network: str
    threads: int
    # Runs besides run 0, and whether they are measured or their tokens only counted.
    runs: int
    timed: bool
    work: Work
    vectors: str


@dataclasses.dataclass(frozen=True)
class Measures:
    """What a worker found: seconds of each run from the first on, tokens of each run from run 0 on."""

    given: list[float]
    ordered: list[float]
    query: list[float]
    document: list[float]
    passage_tokens: list[int]
    query_tokens: int
    document_tokens: int
    memory: int


def tokenizer_of(task: Task) -> Callable[[list[str]], dict[str, np.ndarray]]:
    """Texts to ids and mask, padded on the right so that a causal network needs no mask."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(f"{task.model}/tokenizer.json")
    tokenizer.enable_padding()
    longest = longest_tokens(pathlib.Path(task.model))
    if longest is None:
        tokenizer.no_truncation()
    else:
        tokenizer.enable_truncation(longest)

    def tokenize(batch: list[str]) -> dict[str, np.ndarray]:
        rows = tokenizer.encode_batch(batch)
        return {
            "input_ids": np.array([row.ids for row in rows], np.int64),
            "attention_mask": np.array([row.attention_mask for row in rows], np.int64),
        }

    return tokenize


def pooled(hidden: np.ndarray, mask: np.ndarray, last: bool) -> np.ndarray:
    """Mean or last token, normalised."""
    if last:
        vectors = hidden[np.arange(len(hidden)), mask.sum(1) - 1]
    else:
        vectors = np.einsum("blw,bl->bw", hidden, mask.astype(hidden.dtype)) / mask.sum(1, keepdims=True)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def sentence_transformers(task: Task) -> Encode:
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(task.threads)
    model = SentenceTransformer(task.model, device="cpu", model_kwargs={"dtype": getattr(torch, task.dtype)})
    return lambda batch: model.encode(batch, batch_size=len(batch), show_progress_bar=False).astype(np.float32)


def openvino(task: Task) -> Encode:
    import openvino as ov

    tokenize = tokenizer_of(task)
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": task.threads,
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[task.dtype],
    }
    network = ov.Core().compile_model(task.network, "CPU", settings)
    request = network.create_infer_request()
    names = [next(iter({"input_ids", "attention_mask"} & port.names)) for port in network.inputs]
    last = "attention_mask" not in names

    def encode(batch: list[str]) -> np.ndarray:
        inputs = tokenize(batch)
        request.infer([inputs[name] for name in names], share_inputs=True)
        return pooled(request.get_output_tensor(0).data, inputs["attention_mask"], last)

    return encode


def onnxruntime(task: Task) -> Encode:
    import onnxruntime as ort

    tokenize = tokenizer_of(task)
    options = ort.SessionOptions()
    options.intra_op_num_threads = task.threads
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(task.network, options, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_inputs()]
    last = "attention_mask" not in names

    def encode(batch: list[str]) -> np.ndarray:
        inputs = tokenize(batch)
        (hidden,) = session.run(None, {name: inputs[name] for name in names})
        return pooled(hidden, inputs["attention_mask"], last)

    return encode


LOADERS = {
    "sentence-transformers": sentence_transformers,
    "OpenVINO": openvino,
    "ONNX Runtime": onnxruntime,
}


def seconds(encode: Encode, works: list[list[str]]) -> float:
    begun = time.perf_counter()
    for batch in works:
        encode(batch)
    return time.perf_counter() - begun


def measure(task: Task, encode: Encode, runs: list[Texts]) -> tuple[list[float], ...]:
    """Seconds of passages as given, passages by length, a query, a document."""
    given, ordered, query, document = [], [], [], []
    for run in runs:
        size = task.work.batch
        given.append(seconds(encode, batches(run.passages, size)))
        ordered.append(seconds(encode, batches(sorted(run.passages, key=len, reverse=True), size)))
        query.append(statistics.median(seconds(encode, [[text]]) for text in run.queries))
        document.extend(seconds(encode, [[text]]) for text in run.documents)
    return given, ordered, query, document


def main() -> None:
    told = json.loads(pathlib.Path(sys.argv[1]).read_text())
    task = Task(**{**told, "work": Work(**told["work"])})
    encode = LOADERS[task.engine](task)
    print("ready", flush=True)

    first, *runs = [texts(task.work, run) for run in range(task.runs + 1)]
    works = batches(first.passages, task.work.batch) + [[text] for text in first.checked()[len(first.passages) :]]
    np.concatenate([encode(batch) for batch in works]).astype(np.float32).tofile(task.vectors)
    times = measure(task, encode, runs if task.timed else [])
    memory = resident("self", "VmHWM")

    tokenize = tokenizer_of(task)

    def tokens(counted: list[str]) -> int:
        return sum(int(tokenize([text])["attention_mask"].sum()) for text in counted)

    passage_tokens = [tokens(run.passages) for run in (first, *runs)]
    found = Measures(*times, passage_tokens, tokens(first.queries[:1]), tokens(first.documents), memory)
    print(json.dumps(dataclasses.asdict(found)), flush=True)


if __name__ == "__main__":
    main()
