#!/usr/bin/env python3
"""PyTorch's side: `peer.py TASK.json` measures sentence-transformers on the same checkpoints and kinds of texts.

In the process, so without HTTP. Prints a JSON object a line as soon as a measure is done: what fails, or comes too
late, costs no other. Needs torch, transformers and sentence-transformers.
"""

import base64
import json
import math
import statistics
import subprocess
import sys
import time

import torch

from texts import Source

TASK = json.loads(open(sys.argv[1]).read())
CUDA = TASK["device"].startswith("cuda")
DEVICE = "cuda" if CUDA else "cpu"
SIZES = TASK["sizes"]
# No more than this is encoded in one run, so that making texts stays short.
TEXTS_MAX = 20_000


def finished():
    """Waits for what the device has been told to do."""
    if CUDA:
        torch.cuda.synchronize()


def seconds_of(work):
    finished()
    begun = time.perf_counter()
    work()
    finished()
    return time.perf_counter() - begun


def at(numbers, share):
    ordered = sorted(numbers)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


def medians(runs):
    return {**{name: statistics.median(run[name] for run in runs) for name in runs[0]}, "runs": runs}


def attention():
    """The fastest that is installed: flash-attn, else PyTorch's own, which has flash kernels, too."""
    try:
        import flash_attn  # noqa: F401

        return "flash_attention_2" if CUDA else "sdpa"
    except ImportError:
        return "sdpa"


def embedder(purpose, longest):
    from sentence_transformers import SentenceTransformer

    settings = {"dtype": torch.bfloat16, "attn_implementation": attention()}
    model = SentenceTransformer(TASK["models"][purpose], device=DEVICE, model_kwargs=settings, local_files_only=True)
    model.max_seq_length = longest
    return model


def encode(model, texts, batch):
    return model.encode(texts, batch_size=batch, show_progress_bar=False, convert_to_numpy=True)


def rate(model, source, words, batch, seconds):
    """Texts and tokens a second: runs of equal work that take about so long each, new texts in each."""
    taken = 0.0
    for _ in range(2):
        warm = source.texts(batch, words)
        taken = seconds_of(lambda: encode(model, warm, batch))
    count = batch * max(1, min(math.ceil(seconds / taken), TEXTS_MAX // batch))
    runs = []
    for _ in range(SIZES["runs"]):
        texts = source.texts(count, words)
        took = seconds_of(lambda: encode(model, texts, batch))
        some = texts[:64]
        tokens = sum(len(row) for row in model.tokenizer(some)["input_ids"]) / len(some)
        runs.append({"texts_per_second": count / took, "tokens_per_second": count * tokens / took, "seconds": took})
    return {**medians(runs), "tokens_per_text": tokens, "texts": count}


def latency(model, source, words, count, seconds):
    """Latencies of one text at a time, after as many to warm up."""
    runs = []
    for _ in range(SIZES["runs"] + 1):
        texts, latencies = source.texts(count, words), []
        until = time.perf_counter() + seconds
        for text in texts:
            latencies.append(seconds_of(lambda: encode(model, [text], 1)) * 1e3)
            if time.perf_counter() > until:
                break
        runs.append({"p50_ms": at(latencies, 0.5), "p99_ms": at(latencies, 0.99), "requests": len(latencies)})
    return medians(runs[1:])


def gpu_memory():
    """MB of the GPU that all processes hold, as nvidia-smi says."""
    if not CUDA:
        return None
    words = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return int(subprocess.run(words, capture_output=True, text=True, timeout=10).stdout.split()[0])


def matrix():
    """The rate of a bfloat16 matrix product on random numbers: medians of several rounds of ten."""
    size, rounds = SIZES["matrix"], 7
    a, b = (torch.randn(size, size, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    times = []
    for _ in range(rounds + 2):
        times.append(seconds_of(lambda: [torch.matmul(a, b) for _ in range(10)]) / 10)
    rates = [2 * size**3 / taken / 1e12 for taken in times[2:]]
    name = torch.cuda.get_device_name() if CUDA else "cpu"
    return {"size": size, "tflops": statistics.median(rates), "runs": rates, "gpu": name, "torch": torch.__version__}


def documents():
    found = {}
    for batch in SIZES["peer_batches"]:
        try:
            source = Source(f"peer documents {batch}")
            found[str(batch)] = rate(MODELS["embedding"], source, SIZES["document"], batch, SIZES["seconds"])
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
    return {"by_batch": found, "gpu_memory_mb": memory_now()}


def memory_now():
    used, before = gpu_memory(), TASK["gpu_memory_before_mb"]
    return None if used is None or before is None else used - before


def query():
    return latency(MODELS["embedding"], Source("peer query"), SIZES["query"], SIZES["queries"], SIZES["seconds"])


def long_documents():
    found = {}
    for batch in (1, 4):
        source = Source(f"peer long {batch}")
        found[str(batch)] = rate(MODELS["embedding"], source, SIZES["long"], batch, SIZES["seconds"])
    return {"by_batch": found}


def invariance():
    """The same text alone and among others, as the part of the same name."""
    model, source = MODELS["embedding"], Source("peer invariance")
    compared, different, worst = 0, 0, 0.0
    for words in SIZES["probes"]:
        probe = source.text(words, words)
        alone = encode(model, [probe], 1)[0]
        for batch in (2, 17, 64):
            among = source.texts(batch - 1, (1, SIZES["probes"][-2]))
            found = encode(model, [*among, probe], batch)[-1]
            compared += 1
            different += int((found != alone).any())
            worst = max(worst, float(abs(found - alone).max()))
    return {"compared": compared, "different": different, "largest_difference": worst}


def vectors(purpose):
    """Vectors of the texts that are compared, float32 in base64."""
    found = encode(MODELS[purpose], TASK["texts"], len(TASK["texts"])).astype("<f4")
    return {"vectors": [base64.b64encode(row.tobytes()).decode() for row in found]}


def minilm():
    MODELS["minilm"] = embedder("minilm", 256)
    found = {}
    for batch in SIZES["minilm_batches"]:
        source = Source(f"peer minilm {batch}")
        found[str(batch)] = rate(MODELS["minilm"], source, SIZES["minilm"], batch, SIZES["seconds"])
    source = Source("peer minilm query")
    answer = latency(MODELS["minilm"], source, SIZES["query"], SIZES["queries"], SIZES["seconds"] / 2)
    return {"by_batch": found, "query": answer}


def rerank():
    """Qwen3-Reranker as its authors run it: left padding, the logits of the last token only, documents by length."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = TASK["models"]["reranker"]
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left", local_files_only=True)
    settings = {"dtype": torch.bfloat16, "attn_implementation": attention(), "local_files_only": True}
    model = AutoModelForCausalLM.from_pretrained(folder, **settings).to(DEVICE).eval()
    system = (
        "Judge whether the Document meets the requirements based on the Query and the Instruct provided. "
        'Note that the answer can only be "yes" or "no".'
    )
    before = f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n"
    after = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    asked = "Given a web search query, retrieve relevant passages that answer the query"
    pair = [tokenizer.convert_tokens_to_ids(word) for word in ("no", "yes")]

    @torch.no_grad()
    def ranked(query, texts, batch):
        prompts = [f"{before}<Instruct>: {asked}\n<Query>: {query}\n<Document>: {text}{after}" for text in texts]
        rows = sorted(tokenizer(prompts, add_special_tokens=False)["input_ids"], key=len)
        scores = []
        for start in range(0, len(rows), batch):
            inputs = tokenizer.pad({"input_ids": rows[start : start + batch]}, return_tensors="pt").to(DEVICE)
            logits = model(**inputs, logits_to_keep=1, use_cache=False).logits[:, -1]
            scores += logits[:, pair].float().softmax(-1)[:, 1].tolist()
        return scores

    found, source = {}, Source("peer rerank")
    for batch in sorted({min(32, SIZES["reranked"]), SIZES["reranked"]}):
        times = []
        until = time.perf_counter() + SIZES["seconds"] * SIZES["runs"]
        for turn in range(2 + 4 * SIZES["runs"]):
            query, texts = source.text(8, 12), source.texts(SIZES["reranked"], SIZES["passage"])
            times.append(seconds_of(lambda: ranked(query, texts, batch)) * 1e3)
            if turn > 2 and time.perf_counter() > until:
                break
        found[str(batch)] = {"p50_ms": statistics.median(times[2:]), "runs": times}
    return {"by_batch": found}


MODELS = {}


def load():
    begun = time.perf_counter()
    # Longer than any text here, shorter than the model allows.
    MODELS["embedding"] = embedder("embedding", 16_384)
    encode(MODELS["embedding"], ["a first text"], 1)
    import sentence_transformers
    import transformers

    return {
        "seconds": time.perf_counter() - begun,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "sentence_transformers": sentence_transformers.__version__,
        "attention": attention(),
    }


def drop():
    """Frees the embedder before the reranker comes."""
    MODELS.clear()
    if CUDA:
        torch.cuda.empty_cache()


def measure(name, work):
    try:
        found = work()
    except Exception as error:  # noqa: BLE001: whatever it is, the next measure may work
        said = str(error).strip().splitlines() or [""]
        found = {"error": f"{type(error).__name__}: {said[0]}"[:300]}
    print(json.dumps({"name": name, "values": found}), flush=True)
    return "error" not in found


def main():
    torch.manual_seed(0)
    measure("matrix", matrix)
    if "embedding" in TASK["models"] and measure("load", load):
        measure("documents", documents)
        measure("query", query)
        measure("vectors", lambda: vectors("embedding"))
        measure("invariance", invariance)
        measure("long", long_documents)
        drop()
    if "minilm" in TASK["models"] and measure("minilm", minilm):
        measure("minilm_vectors", lambda: vectors("minilm"))
        drop()
    if "reranker" in TASK["models"]:
        measure("rerank", rerank)


if __name__ == "__main__":
    main()
