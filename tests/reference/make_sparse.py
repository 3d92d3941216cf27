"""Makes the sparse and token-vector checkpoints of tests/golden/scores with transformers in float32.

    make_sparse.py [--out tests/golden/scores] [name ...]

`splade-bert` is a BertForMaskedLM read as SPLADE is (log(1 + relu) of the logits, the largest over tokens);
`trained-splade` holds the answers of a published SPLADE, which scripts/fetch.py downloads; `bge-m3` is an XLM-RoBERTa with `sparse_linear.pt` and `colbert_linear.pt`, read as FlagEmbedding does.
"""

import argparse
import json
import pathlib
import sys

import torch
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM, PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaModel

from make_scores import PAIRS, SHAPE, randomize, unigram_xlmr, wordpiece_bert

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts"))
import fetch  # noqa: E402

REAL_TEXTS = [
    "What is the capital of France?",
    "Toyota announced a new battery factory in North Carolina, which will open next year.",
    "Gravity is a force that attracts two bodies towards each other.",
    "Die Straße ist über der Stadt; la réponse est 42.",
]
TEXTS = list(dict.fromkeys(text for _, query, document in PAIRS for text in (query, document)))


def save(where, model, tokenizer, longest, seed):
    tok, names, inputs = tokenizer(400)
    tok = PreTrainedTokenizerFast(tokenizer_object=tok, model_max_length=longest, model_input_names=inputs, **names)
    model = model(tok).float().eval()
    randomize(model, seed)
    model.save_pretrained(where, safe_serialization=True)
    tok.save_pretrained(where)
    (where / "special_tokens_map.json").unlink(missing_ok=True)
    return model, AutoTokenizer.from_pretrained(where)


def encoded(tok, text, longest):
    return tok([text], truncation=True, max_length=longest, return_tensors="pt")


@torch.no_grad()
def splade(where):
    def build(tok):
        return BertForMaskedLM(
            BertConfig(**SHAPE, vocab_size=len(tok), num_hidden_layers=3, intermediate_size=160,
                       max_position_embeddings=128, pad_token_id=tok.pad_token_id)
        )

    model, tok = save(where, build, wordpiece_bert, 128, 41)
    modules = [("0", "", "sentence_transformers.sparse_encoder.models.MLMTransformer"),
               ("1", "1_SpladePooling", "sentence_transformers.sparse_encoder.models.SpladePooling")]
    (where / "modules.json").write_text(json.dumps(
        [{"idx": i, "name": name, "path": path, "type": kind} for i, (name, path, kind) in enumerate(modules)]))
    (where / "1_SpladePooling").mkdir(exist_ok=True)
    (where / "1_SpladePooling/config.json").write_text(json.dumps(
        {"pooling_strategy": "max", "activation_function": "relu", "word_embedding_dimension": len(tok)}))
    return [words(model, tok, text, 128) for text in TEXTS]


def words(model, tok, text, longest):
    batch = encoded(tok, text, longest)
    weights = torch.log1p(torch.relu(model(**batch).logits[0])).max(0).values
    pairs = [[i, w] for i, w in enumerate(weights.tolist()) if w > 0]
    return {"text": text, "input_ids": batch["input_ids"][0].tolist(), "weights": pairs}


@torch.no_grad()
def trained(_where):
    folder = fetch.fetch("splade-bert-tiny")
    model, tok = BertForMaskedLM.from_pretrained(folder).float().eval(), AutoTokenizer.from_pretrained(folder)
    return [words(model, tok, text, 512) for text in [*REAL_TEXTS, " ".join(REAL_TEXTS) * 8]]


@torch.no_grad()
def bge_m3(where):
    def build(tok):
        return XLMRobertaModel(
            XLMRobertaConfig(**SHAPE, vocab_size=len(tok), num_hidden_layers=3, intermediate_size=160,
                             max_position_embeddings=130, type_vocab_size=1, pad_token_id=1, bos_token_id=0,
                             eos_token_id=2),
            add_pooling_layer=False,
        )

    model, tok = save(where, build, unigram_xlmr, 128, 42)
    sparse, colbert = torch.nn.Linear(64, 1), torch.nn.Linear(64, 64)
    for layer, seed in [(sparse, 43), (colbert, 44)]:
        torch.manual_seed(seed)
        torch.nn.init.normal_(layer.weight, std=0.15)
        torch.nn.init.normal_(layer.bias, std=0.1)
    torch.save(sparse.state_dict(), where / "sparse_linear.pt")
    torch.save(colbert.state_dict(), where / "colbert_linear.pt")
    unused = {tok.cls_token_id, tok.eos_token_id, tok.pad_token_id, tok.unk_token_id}
    cases = []
    for text in TEXTS:
        batch = encoded(tok, text, 128)
        states = model(**batch).last_hidden_state[0]
        ids = batch["input_ids"][0].tolist()
        weights = {}
        for token, weight in zip(ids, torch.relu(sparse(states))[:, 0].tolist()):
            if token not in unused and weight > 0:
                weights[token] = max(weight, weights.get(token, 0.0))
        vectors = torch.nn.functional.normalize(colbert(states[1:]), dim=-1)
        cases.append({"text": text, "input_ids": ids, "weights": sorted(map(list, weights.items())),
                      "vectors": vectors[:6].tolist(), "count": len(vectors)})
    return cases


parser = argparse.ArgumentParser()
parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parents[1] / "golden/scores")
parser.add_argument("names", nargs="*")
arguments = parser.parse_args()
out = arguments.out
for name, make in [("splade-bert", splade), ("trained-splade", trained), ("bge-m3", bge_m3)]:
    if arguments.names and name not in arguments.names:
        continue
    (out / name).mkdir(parents=True, exist_ok=True)
    cases = make(out / name)
    (out / name / "answers.json").write_text(json.dumps({"name": name, "cases": cases}, ensure_ascii=False) + "\n")
    print(name, [len(case["weights"]) for case in cases])
