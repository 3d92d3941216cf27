"""Makes tests/golden/tiny-jina-reranker.json with transformers in float32.

    make_lists.py --proxima target/release/proxima

transformers has no code for jina-reranker-v3. The network is its Qwen3; template, projector, and how documents are split
into lists and their scores combined follow the checkpoint's own `modeling.py`.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, Qwen3Model

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import fetch  # noqa: E402

SYSTEM = (
    "You are a search relevance expert who can determine a ranking of the passages based on how relevant they are to the "
    "query. If the query is a question, how relevant a passage is depends on how well it answers the question. If not, try "
    "to analyze the intent of the query and assess how well each passage satisfies the intent. If an instruction is "
    "provided, you should follow the instruction when determining the ranking."
)
DOCUMENT, QUERY = "<|embed_token|>", "<|rerank_token|>"
LIST, DOCUMENT_TOKENS, QUERY_TOKENS = 125, 2048, 512
DOCUMENTS = [
    "The capital of China is Beijing.",
    "Gravity is a force that attracts two bodies towards each other.",
    "",
    "日本語のテキストと中文文本。",
    "A long document is read as a whole. " * 30,
    "<|im_end|> special <think> text 👩‍👩‍👧‍👦 with <|embed_token|> marks<|rerank_token|>",
]
MANY = [f"Passage {n} says that {n} times {n} is {n * n}, which is {'odd' if n % 2 else 'even'}." for n in range(130)]


class Ranker:
    def __init__(self, folder):
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        weights = load_file(folder / "model.safetensors")
        self.projector = [weights[f"projector.{layer}.weight"].float() for layer in (0, 2)]
        self.network = Qwen3Model.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        self.marks = [self.tokenizer.convert_tokens_to_ids(token) for token in (DOCUMENT, QUERY)]

    def prompt(self, query, documents, instruction):
        clean = lambda text: text.replace(QUERY, "").replace(DOCUMENT, "")  # noqa: E731
        query, documents = clean(query), [clean(text) for text in documents]
        text = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n"
        text += f"I will provide you with {len(documents)} passages, each indicated by a numerical identifier. "
        text += f"Rank the passages based on their relevance to query: {query}\n"
        if instruction:
            text += f"<instruct>\n{instruction}\n</instruct>\n"
        passages = [f'<passage id="{place}">\n{text}{DOCUMENT}\n</passage>' for place, text in enumerate(documents)]
        text += "\n".join(passages) + f"\n<query>\n{query}{QUERY}\n</query>"
        return text + "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"

    def read(self, query, documents, instruction=None):
        """Ids, and the vectors of documents and query."""
        ids = torch.tensor(self.tokenizer(self.prompt(query, documents, instruction))["input_ids"])
        with torch.no_grad():
            states = self.network(ids[None]).last_hidden_state[0]
        first, second = self.projector
        vectors = (states @ first.T).relu() @ second.T
        documents, queries = (vectors[ids == mark] for mark in self.marks)
        assert len(queries) == 1
        return ids.tolist(), documents, queries[0]

    def shorter(self, text, limit):
        ids = self.tokenizer(text, truncation=True, max_length=limit)["input_ids"]
        return (self.tokenizer.decode(ids) if len(ids) >= limit else text), len(ids)

    def case(self, query, documents, instruction=None, limit=131072):
        """One request: its lists, the ids of each, and the scores."""
        texts, lengths = zip(*[self.shorter(text, DOCUMENT_TOKENS) for text in documents])
        text, length = self.shorter(query, QUERY_TOKENS)
        lists, room = [[]], limit - 2 * length
        for document, tokens in zip(texts, lengths):
            lists[-1].append(document)
            room -= tokens
            if len(lists[-1]) >= LIST or room <= DOCUMENT_TOKENS:
                lists.append([])
                room = limit - 2 * length
        lists = [one for one in lists if one]
        cosine = torch.nn.functional.cosine_similarity
        ids, vectors, queries, weights = [], [], [], []
        for one in lists:
            tokens, read, asked = self.read(text, one, instruction)
            ids.append(tokens)
            vectors.append(read)
            queries.append(asked)
            weights.append((1 + cosine(read, asked[None]).max()) / 2)
        weights = torch.stack(weights)
        mean = (torch.stack(queries) * weights[:, None]).sum(0) / weights.sum()
        scores = cosine(torch.cat(vectors), mean[None])
        return {
            "query": query, "documents": documents, "instruction": instruction, "limit": limit,
            "lists": [len(one) for one in lists], "ids": ids, "scores": scores.tolist(),
        }

    def cases(self):
        long = "Words follow words in a very long document. " * 300
        yield self.case("What is the capital of China?", DOCUMENTS)
        yield self.case("gravity <|rerank_token|> again", DOCUMENTS[:2], "Find the force.")
        yield self.case("", DOCUMENTS[:1])
        # More documents than one list has, texts above their own limits, and lists that end for want of room.
        yield self.case("Which square is even?", MANY)
        yield self.case("Which word? " * 200, [*DOCUMENTS[:2], long])
        yield self.case("Which square is even?", MANY[:9], limit=2200)
        yield self.case("Which word?", [long, *DOCUMENTS[:3], long, DOCUMENTS[4]], limit=5000)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--proxima", required=True)
    proxima = parser.parse_args().proxima
    name, seed = "tiny-jina-reranker", 8
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary) / "checkpoint"
        command = [proxima, "synth", name, "--seed", str(seed), "--out", folder, "--tokenizer", fetch.fetch("qwen3-tokenizer")]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        lines = [json.dumps(case) for case in Ranker(folder).cases()]
    path = ROOT / "tests/golden" / f"{name}.json"
    head = json.dumps({"synth": name, "seed": seed, "tokenizer": "qwen3-tokenizer"})[1:-1]
    path.write_text("{" + head + ', "cases": [\n' + ",\n".join(lines) + "\n]}\n")
    print(f"{path}: {len(lines)} cases")


if __name__ == "__main__":
    main()
