"""Makes tests/golden with transformers in float32, each text alone, nothing padded.

    make_golden.py --proxima target/release/proxima

Random checkpoints are written by `proxima synth`; the demo model and the Qwen3 tokenizer are fetched by
scripts/fetch.py. A golden file names its checkpoint and has a case an input: token ids and the vector,
of length one, as base64 of little-endian float32.
"""

import argparse
import base64
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import fetch  # noqa: E402

TEXTS = [
    "hello world",
    "",
    "   ",
    "a",
    "What is the capital of China?",
    "The capital of China is Beijing.",
    "日本語のテキストと中文文本，以及标点。",
    "مرحبا بالعالم",
    "👩‍👩‍👧‍👦 families and 🏳️‍🌈 flags, naïve café, e\u0301 and é",
    'fn main() {\n    println!("{}", 1 << 3);\n}\n',
    "<|im_start|>user <|im_end|> <|endoftext|> [CLS] [SEP] [MASK] [UNK] </s>",
    "MiXeD CaSe, tabs\tand\r\nline breaks\u00a0and \u200bzero widths",
    "supercalifragilisticexpialidocious" * 4,
    "The quick brown fox jumps over the lazy dog. " * 8,
    "Long enough to be cut by most limits. " * 60,
]
LONG = "Gravity is a force that attracts two bodies towards each other. " * 6
INSTRUCTION = "Given a question, find its answer"


def pooled(states, pooling):
    """The vector of one sequence's hidden states."""
    weights = torch.arange(1, len(states) + 1, dtype=states.dtype)[:, None]
    return {
        "cls": lambda: states[0],
        "last_token": lambda: states[-1],
        "mean": lambda: states.mean(0),
        "max": lambda: states.max(0).values,
        "weighted_mean": lambda: (states * weights).sum(0) / weights.sum(),
        "mean_sqrt_len": lambda: states.sum(0) / len(states) ** 0.5,
    }[pooling]()


def read_json(path):
    return json.loads(path.read_text()) if path.exists() else {}


class Reference:
    """A checkpoint as transformers computes it."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        flags = read_json(self.folder / "1_Pooling/config.json")
        if flags.get("pooling_mode_lasttoken"):
            self.pooling = "last_token"
        else:
            self.pooling = "cls" if flags["pooling_mode_cls_token"] else "mean"
        limit = read_json(self.folder / "sentence_bert_config.json").get("max_seq_length")
        self.limit = limit or self.model.config.max_position_embeddings
        self.prompts = read_json(self.folder / "config_sentence_transformers.json").get("prompts", {})
        dense = self.folder / "2_Dense/model.safetensors"
        self.dense = load_file(dense) if dense.exists() else None

    def case(self, text, **options):
        prefix = self.prompts[options["prompt"]] if "prompt" in options else ""
        if "instruction" in options:
            prefix = f"Instruct: {options['instruction']}\nQuery:"
        self.tokenizer.truncation_side = options.get("side", "right")
        encoded = self.tokenizer(
            prefix + text, return_tensors="pt", truncation=True, padding=False,
            max_length=options.get("tokens_max", self.limit),
        )
        with torch.no_grad():
            states = self.model(**encoded).last_hidden_state[0]
            vector = pooled(states, options.get("pooling", self.pooling))
            if self.dense:
                vector = torch.tanh(self.dense["linear.weight"] @ vector + self.dense["linear.bias"])
            vector = vector.double() / vector.double().norm()
        values = numpy.asarray(vector, dtype="<f4").tobytes()
        tokens = encoded.input_ids[0].tolist()
        return {"text": text, **options, "tokens": tokens, "vector": base64.b64encode(values).decode()}


def cases(reference, causal, real):
    found = [reference.case(text) for text in TEXTS]
    for side in ["right", "left"]:
        found += [reference.case(LONG, tokens_max=limit, side=side) for limit in [3, 16, 40]]
    if causal:
        found += [reference.case(text, prompt="query") for text in TEXTS[:5]]
        found += [reference.case(text, instruction=INSTRUCTION) for text in TEXTS[:5]]
        found.append(reference.case("A long document has many sentences. " * 300))
    elif not real:
        for pooling in ["cls", "last_token", "max", "weighted_mean", "mean_sqrt_len"]:
            found += [reference.case(text, pooling=pooling) for text in TEXTS[4:7]]
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--proxima", required=True)
    proxima = parser.parse_args().proxima
    demo, qwen3 = fetch.fetch("all-MiniLM-L6-v2"), fetch.fetch("qwen3-tokenizer")
    checkpoints = [
        {"file": "tiny-qwen3", "synth": "tiny-qwen3", "seed": 1, "tokenizer": None},
        {"file": "tiny-qwen3-sharded", "synth": "tiny-qwen3-sharded", "seed": 2, "tokenizer": "qwen3-tokenizer"},
        {"file": "tiny-bert", "synth": "tiny-bert", "seed": 3, "tokenizer": None},
        {"file": "tiny-bert-dense", "synth": "tiny-bert-dense", "seed": 4, "tokenizer": "all-MiniLM-L6-v2"},
        {"file": "minilm", "synth": None, "seed": None, "tokenizer": "all-MiniLM-L6-v2"},
    ]
    folders = {"all-MiniLM-L6-v2": demo, "qwen3-tokenizer": qwen3}
    for checkpoint in checkpoints:
        with tempfile.TemporaryDirectory() as temporary:
            folder = demo
            if checkpoint["synth"]:
                folder = pathlib.Path(temporary) / "checkpoint"
                command = [proxima, "synth", checkpoint["synth"], "--seed", str(checkpoint["seed"]), "--out", folder]
                if checkpoint["tokenizer"]:
                    command += ["--tokenizer", folders[checkpoint["tokenizer"]]]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            reference = Reference(folder)
            causal = reference.model.config.model_type == "qwen3"
            lines = [json.dumps(case) for case in cases(reference, causal, folder == demo)]
        name = checkpoint.pop("file")
        path = ROOT / "tests/golden" / f"{name}.json"
        head = json.dumps(checkpoint)[1:-1]
        path.write_text("{" + head + ', "cases": [\n' + ",\n".join(lines) + "\n]}\n")
        print(f"{path}: {len(lines)} cases")


if __name__ == "__main__":
    main()
