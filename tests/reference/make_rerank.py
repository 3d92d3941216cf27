"""Makes tests/golden/tiny-qwen3-reranker.json and its like with transformers in float32, each alone.

    make_rerank.py --proxima target/release/proxima

Pairs are put into Qwen3-Reranker's template as its model card does, pseudo-queries as the evaluation code of
E2Rank does; a golden file names its checkpoint and has tokens and logits, or cosines.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import fetch  # noqa: E402

HEAD = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
TAIL = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
QUERIES = ["What is the capital of China?", "Explain gravity", ""]
DOCUMENTS = [
    "The capital of China is Beijing.",
    "Gravity is a force that attracts two bodies towards each other.",
    "",
    "日本語のテキストと中文文本。",
    "Long documents are cut, so that the answer still follows. " * 40,
    "<|im_end|> special <think> text 👩‍👩‍👧‍👦",
]
MANY = [f"Passage {n} says that {n} times {n} is {n * n}, which is {'odd' if n % 2 else 'even'}." for n in range(26)]
TASK = "Given a web search query and some relevant documents, rerank the documents that answer the query:"


class Reranker:
    """Qwen3-Reranker, as a language model or as a classifier."""

    def __init__(self, folder, classifier):
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        kind = AutoModelForSequenceClassification if classifier else AutoModelForCausalLM
        self.model = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        self.classifier = classifier

    def case(self, query, document, instruction=None, tokens_max=None):
        plain = lambda text: self.tokenizer.encode(text, add_special_tokens=False)  # noqa: E731
        body = plain(f"<Instruct>: {instruction or INSTRUCTION}\n<Query>: {query}\n<Document>: {document}")
        head, tail = plain(HEAD), plain(TAIL)
        if tokens_max:
            body = body[: tokens_max - len(head) - len(tail)]
        tokens = head + body + tail
        with torch.no_grad():
            logits = self.model(torch.tensor([tokens])).logits
        if self.classifier:
            logit = logits[0, 0]
        else:
            yes, no = (self.tokenizer.convert_tokens_to_ids(word) for word in ["yes", "no"])
            logit = logits[0, -1, yes] - logits[0, -1, no]
        case = {"query": query, "document": document, "instruction": instruction, "tokens_max": tokens_max}
        return {**case, "tokens": tokens, "logit": float(logit)}

    def cases(self):
        found = [self.case(query, document) for query in QUERIES for document in DOCUMENTS]
        found += [self.case(QUERIES[0], text, instruction="Find the answer") for text in DOCUMENTS]
        found += [self.case(QUERIES[0], DOCUMENTS[4], tokens_max=limit) for limit in [100, 130, 200]]
        return found


class E2Rank:
    """One embedding model that also ranks lists."""

    def __init__(self, folder, _classifier):
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()

    def vector(self, text):
        tokens = self.tokenizer.encode(text, add_special_tokens=False)
        with torch.no_grad():
            states = self.model(torch.tensor([tokens])).last_hidden_state
        return torch.nn.functional.normalize(states[0, -1].double(), dim=0), tokens

    def case(self, query, documents, template):
        listed = [f"[{place}] {text}" for place, text in enumerate(documents[:20], 1)]
        if template == "paper":
            content = f"{TASK}\nDocuments:\n" + "\n".join(listed) + f"\nSearch Query: {query}"
        elif template == "readme":
            content = f"{TASK}\nDocuments:\n" + "\n".join(text + "<|endoftext|>" for text in listed)
            content += f"Search Query:{query}"
        else:
            content = f"{TASK}\nDocuments:\n" + "\n".join(listed) + f"\nQuery: {query}<|endoftext|>"
        pseudo, tokens = self.vector(f"<|im_start|>user\n{content}{TAIL}")
        vectors = [self.vector(text + "<|endoftext|>")[0] for text in documents]
        cosines = [float(pseudo @ vector) for vector in vectors]
        return {"query": query, "documents": documents, "template": template, "tokens": tokens, "cosines": cosines}

    def cases(self):
        templates = ["paper", "readme", "training"]
        found = [self.case(query, DOCUMENTS, template) for query in QUERIES for template in templates]
        return [*found, self.case("Which square is even?", MANY, "paper")]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--proxima", required=True)
    proxima = parser.parse_args().proxima
    tokenizer = fetch.fetch("qwen3-tokenizer")
    checkpoints = [
        ("tiny-qwen3-reranker", 5, Reranker, False),
        ("tiny-qwen3-reranker-classifier", 6, Reranker, True),
        ("tiny-e2rank", 7, E2Rank, False),
    ]
    for name, seed, kind, classifier in checkpoints:
        with tempfile.TemporaryDirectory() as temporary:
            folder = pathlib.Path(temporary) / "checkpoint"
            command = [proxima, "synth", name, "--seed", str(seed), "--out", folder, "--tokenizer", tokenizer]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            lines = [json.dumps(case) for case in kind(folder, classifier).cases()]
        path = ROOT / "tests/golden" / f"{name}.json"
        head = json.dumps({"synth": name, "seed": seed, "tokenizer": "qwen3-tokenizer"})[1:-1]
        path.write_text("{" + head + ', "cases": [\n' + ",\n".join(lines) + "\n]}\n")
        print(f"{path}: {len(lines)} cases")


if __name__ == "__main__":
    main()
