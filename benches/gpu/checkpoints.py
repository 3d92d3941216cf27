"""Checkpoints with random weights, written by `proxima synth`."""

import json
import pathlib
import subprocess

from limits import GROUP, Failed, end, reason

SYNTH_SECONDS = 120
# Where the tokenizer of a model is, in the cache.
TOKENIZERS = {"embedding": "tokenizers/qwen3", "reranker": "tokenizers/qwen3", "minilm": "models/all-MiniLM-L6-v2"}


class Checkpoints:
    """The folders of the models, by what they are for; written beside each other, in the background."""

    def __init__(self, proxima, folder, cache, environment, tiny):
        self.proxima, self.folder, self.cache, self.environment = proxima, folder, cache, environment
        names = ("tiny-qwen3", "tiny-qwen3-reranker", "tiny-bert")
        if not tiny:
            names = ("qwen3-embedding-0.6b", "qwen3-reranker-0.6b", "minilm-l6")
        self.names = dict(zip(("embedding", "reranker", "minilm"), names))
        self.running, self.notes = {}, []

    def path(self, purpose):
        return self.folder / self.names[purpose]

    def start(self, purposes):
        """Begins to write; `finish` waits."""
        for purpose in purposes:
            tokenizer = self.cache / TOKENIZERS[purpose]
            words = [self.proxima, "synth", self.names[purpose], "--out", self.path(purpose)]
            if (tokenizer / "tokenizer.json").exists():
                words += ["--tokenizer", tokenizer]
            else:
                self.notes.append(f"no tokenizer in {tokenizer}: {self.names[purpose]} has a made-up one")
            self.running[purpose] = subprocess.Popen(
                [str(word) for word in words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=self.environment,
                **GROUP,
            )

    def finish(self):
        """Waits for what `start` began."""
        failures = []
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


def weights_in_layers(folder):
    """Weights of a Qwen3's linear layers: each is multiplied and added once a token."""
    config = json.loads((pathlib.Path(folder) / "config.json").read_text())
    hidden, size = config["hidden_size"], config["head_dim"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    attention = 2 * hidden * size * (heads + kv_heads)
    return config["num_hidden_layers"] * (attention + 3 * hidden * config["intermediate_size"])
