"""Checkpoints with random weights: `proxima synth` for Qwen3, and a network of MiniLM's sizes written here.

`proxima synth` knows no MiniLM. Its numbers would take Python minutes one by one, so tensors are cut out of one
bank of a million normal numbers, each from a place of its own.
"""

import array
import json
import pathlib
import random
import shutil
import subprocess
import sys

from limits import GROUP, Failed, end, reason

# A prime, so that the rows of a table begin at different places of the bank.
BANK = 1_000_003
MINILM = {"hidden": 384, "layers": 6, "heads": 12, "mlp": 1536}
TINY_MINILM = {"hidden": 64, "layers": 2, "heads": 4, "mlp": 128}
SYNTH_SECONDS = 120


class Checkpoints:
    """The folders of the models, by what they are for; written beside each other, in the background."""

    def __init__(self, proxima, folder, cache, environment, tiny):
        self.proxima, self.folder, self.cache, self.environment = proxima, folder, cache, environment
        sizes = "tiny-qwen3" if tiny else "qwen3-embedding-0.6b"
        reranker = "tiny-qwen3-reranker" if tiny else "qwen3-reranker-0.6b"
        self.names = {"embedding": sizes, "reranker": reranker, "minilm": "minilm"}
        self.sizes = TINY_MINILM if tiny else MINILM
        self.running, self.notes = {}, []

    def path(self, purpose):
        return self.folder / self.names[purpose]

    def start(self, purposes):
        """Begins to write; `finish` waits."""
        tokenizer = self.cache / "tokenizers" / "qwen3"
        for purpose in purposes:
            if purpose == "minilm":
                continue
            words = [self.proxima, "synth", self.names[purpose], "--out", self.path(purpose)]
            if (tokenizer / "tokenizer.json").exists():
                words += ["--tokenizer", tokenizer]
            else:
                self.notes.append(f"no tokenizer in {tokenizer}: tokens are bytes")
            self.running[purpose] = subprocess.Popen(
                [str(word) for word in words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=self.environment,
                **GROUP,
            )

    def finish(self, purposes):
        """Writes MiniLM's, and waits for the others."""
        failures = []
        if "minilm" in purposes:
            try:
                self.minilm()
            except (Failed, OSError, ValueError, KeyError) as failure:
                failures.append(f"minilm: {failure}")
        for purpose, process in self.running.items():
            output, _ = process.communicate(timeout=SYNTH_SECONDS)
            if process.returncode:
                failures.append(f"{self.names[purpose]}: {reason(output)}")
        self.running = {}
        if failures:
            raise Failed("; ".join(failures))

    def stop(self):
        for process in self.running.values():
            end(process, patience=0.5)

    def minilm(self):
        """Writes the checkpoint of MiniLM's sizes, with its tokenizer."""
        given, target = self.cache / "models" / "all-MiniLM-L6-v2", self.path("minilm")
        if not (given / "tokenizer.json").exists():
            raise Failed(f"no tokenizer.json in {given}")
        target.mkdir(parents=True)
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
            if (given / name).exists():
                shutil.copy(given / name, target / name)
        rows = len(json.loads((given / "tokenizer.json").read_text())["model"]["vocab"])
        for name, content in files(self.sizes, rows).items():
            (target / name).parent.mkdir(exist_ok=True)
            (target / name).write_text(json.dumps(content, indent=1))
        write_tensors(target / "model.safetensors", tensors(self.sizes, rows))


def files(sizes, rows):
    """The JSON files of a BERT embedder, as published."""
    types = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    modules = [
        {"idx": idx, "name": str(idx), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for idx, (path, kind) in enumerate(types.items())
    ]
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
    pooling = {f"pooling_mode_{mode}": mode == "mean_tokens" for mode in modes}
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": sizes["hidden"],
        "intermediate_size": sizes["mlp"],
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 512,
        "num_attention_heads": sizes["heads"],
        "num_hidden_layers": sizes["layers"],
        "pad_token_id": 0,
        "position_embedding_type": "absolute",
        "torch_dtype": "float32",
        "type_vocab_size": 2,
        "vocab_size": rows,
    }
    return {
        "config.json": config,
        "modules.json": modules,
        "1_Pooling/config.json": {"word_embedding_dimension": sizes["hidden"], **pooling, "include_prompt": True},
        "sentence_bert_config.json": {"max_seq_length": 256, "do_lower_case": False},
    }


def tensors(sizes, rows):
    """Name, shape, mean and deviation of every tensor; the scales are those of `models/src/synth`."""
    hidden, mlp = sizes["hidden"], sizes["mlp"]

    def norm(name):
        return [(f"{name}.LayerNorm.weight", (hidden,), 1.0, 0.15), (f"{name}.LayerNorm.bias", (hidden,), 0.0, 0.05)]

    def dense(name, outputs, inputs, scale):
        weight = (f"{name}.weight", (outputs, inputs), 0.0, scale / inputs**0.5)
        return [weight, (f"{name}.bias", (outputs,), 0.0, 0.05)]

    found = [
        ("embeddings.word_embeddings.weight", (rows, hidden), 0.0, 0.05),
        ("embeddings.position_embeddings.weight", (512, hidden), 0.0, 0.02),
        ("embeddings.token_type_embeddings.weight", (2, hidden), 0.0, 0.01),
        *norm("embeddings"),
    ]
    for layer in range(sizes["layers"]):
        name = f"encoder.layer.{layer}"
        for part in ("query", "key", "value"):
            found += dense(f"{name}.attention.self.{part}", hidden, hidden, 2.0)
        found += dense(f"{name}.attention.output.dense", hidden, hidden, 1.2)
        found += norm(f"{name}.attention.output")
        found += dense(f"{name}.intermediate.dense", mlp, hidden, 1.2)
        found += dense(f"{name}.output.dense", hidden, mlp, 0.4)
        found += norm(f"{name}.output")
    return found


def write_tensors(path, listed):
    """One safetensors file of float32 numbers."""
    source = random.Random(0)
    bank = [source.gauss(0.0, 1.0) for _ in range(BANK)]
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape, _, _ in listed:
        size = 4 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    scaled = {}
    with open(path, "wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for name, shape, mean, deviation in listed:
            if (mean, deviation) not in scaled:
                numbers = array.array("f", (mean + deviation * number for number in bank))
                if sys.byteorder == "big":
                    numbers.byteswap()
                scaled[mean, deviation] = memoryview(numbers).cast("B")
            left = header[name]["data_offsets"][1] - header[name]["data_offsets"][0]
            at = 4 * source.randrange(BANK)
            while left:
                part = scaled[mean, deviation][at : at + left]
                file.write(part)
                left, at = left - len(part), 0


def weights_in_layers(folder):
    """Weights of a Qwen3's linear layers: each is multiplied and added once a token."""
    config = json.loads((pathlib.Path(folder) / "config.json").read_text())
    hidden, size = config["hidden_size"], config["head_dim"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    attention = 2 * hidden * size * (heads + kv_heads)
    return config["num_hidden_layers"] * (attention + 3 * hidden * config["intermediate_size"])
