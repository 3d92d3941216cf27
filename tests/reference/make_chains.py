"""Makes tests/golden/chains.json: what sentence-transformers and transformers make of settings beside the weights.

    make_chains.py --proxima target/release/proxima

Needs sentence-transformers 6.2 and transformers 5.24. A chain is a synthetic checkpoint (`proxima synth`) with other
configuration files; tensors of its modules come from a hash of their place, so the file holds numbers of answers
alone. Scores are those of the committed checkpoint tests/golden/scores/bert-classifier with other keys.
"""

import argparse
import base64
import json
import pathlib
import shutil
import subprocess
import tempfile

import numpy
import torch
from safetensors.torch import save_file
from sentence_transformers import CrossEncoder, SentenceTransformer
from transformers import pipeline

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEXTS = [
    "What is the capital of China?",
    "gravity",
    "A long text has many sentences and many words, and some of them are here. " * 3,
]
PAIRS = [("What is gravity?", "Gravity is a force."), ("river", "Die Straße ist über der Stadt.")]
CONFIG_PROMPTS = {"prompts": {"query": "search for this: "}, "default_prompt_name": None}


def numbers(shape, seed, scale):
    """Numbers from -scale to scale, the same in every language."""
    count = int(numpy.prod(shape))
    x = (numpy.arange(count, dtype=numpy.uint64) * 2654435761 + seed * 40503) % 2**32
    x ^= x >> 15
    x = x * 2246822519 % 2**32
    x ^= x >> 13
    values = (x.astype(numpy.float64) / 2**32 * 2 - 1) * scale
    return torch.tensor(values.astype(numpy.float32)).reshape(shape)


def module(path, kind):
    return {"path": path, "type": f"sentence_transformers.models.{kind}"}


def chain(*modules):
    """`modules.json` of (path, kind) after the transformer."""
    all_modules = [("", "Transformer"), *modules]
    return [dict(module(path, kind), idx=index, name=str(index)) for index, (path, kind) in enumerate(all_modules)]


def dense(inputs, outputs, activation="linear.Identity", **more):
    name = f"torch.nn.modules.{activation}"
    return {"in_features": inputs, "out_features": outputs, "activation_function": name, **more}


def weights(inputs, outputs, seed, bias=True, residual=False):
    """Shape, seed and scale of each tensor of a Dense."""
    scale = 2 / inputs**0.5
    found = {"linear.weight": [[outputs, inputs], seed, scale]}
    if bias:
        found["linear.bias"] = [[outputs], seed + 1, 0.1]
    if residual:
        found["residual.weight"] = [[outputs, inputs], seed + 2, scale]
    return found


MEAN = {"1_Pooling/config.json": {"word_embedding_dimension": 64, "pooling_mode": ["mean"]}}
ALL = ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]


def chains():
    pool, dense_, end = ("1_Pooling", "Pooling"), ("2_Dense", "Dense"), ("3_Normalize", "Normalize")
    yield "one pooling in a list", {"modules.json": chain(pool, end), **MEAN}, {}
    yield (
        "Normalize before Dense",
        {
            "modules.json": chain(pool, ("3_Normalize", "Normalize"), dense_),
            **MEAN,
            "2_Dense/config.json": dense(64, 48, "activation.Tanh"),
        },
        {"2_Dense": weights(64, 48, 1)},
    )
    yield (
        "a residual of the same width",
        {
            "modules.json": chain(pool, dense_, end),
            **MEAN,
            "2_Dense/config.json": dense(64, 64, "activation.Tanh", use_residual=True),
        },
        {"2_Dense": weights(64, 64, 4)},
    )
    yield (
        "a residual of another width",
        {
            "modules.json": chain(pool, dense_),
            **MEAN,
            "2_Dense/config.json": dense(64, 40, "activation.GELU", bias=False, use_residual=True),
        },
        {"2_Dense": weights(64, 40, 7, bias=False, residual=True)},
    )
    yield (
        "a Dense of tokens before pooling",
        {
            "modules.json": chain(dense_, pool, end),
            "1_Pooling/config.json": {"embedding_dimension": 48, "pooling_mode": "max"},
            "2_Dense/config.json": dense(
                64, 48, "activation.Tanh", module_input_name="token_embeddings", module_output_name="token_embeddings"
            ),
        },
        {"2_Dense": weights(64, 48, 10)},
    )
    yield (
        "a Normalize of tokens before pooling",
        {
            "modules.json": chain(("3_Normalize", "Normalize"), pool),
            **MEAN,
            "3_Normalize/config.json": {"module_input_name": "token_embeddings"},
        },
        {},
    )
    yield (
        "LayerNorm and two Dense",
        {
            "modules.json": chain(pool, ("2_Norm", "LayerNorm"), ("3_Dense", "Dense"), ("4_Dense", "Dense"), end),
            **MEAN,
            "2_Norm/config.json": {"dimension": 64},
            "3_Dense/config.json": dense(64, 96),
            "4_Dense/config.json": dense(96, 32, "activation.ReLU"),
        },
        {
            "2_Norm": {"norm.weight": [[64], 13, 1.5], "norm.bias": [[64], 14, 0.2]},
            "3_Dense": weights(64, 96, 15),
            "4_Dense": weights(96, 32, 18),
        },
    )
    yield (
        "all poolings end to end",
        {
            "modules.json": chain(pool, dense_),
            "1_Pooling/config.json": {"word_embedding_dimension": 64, "pooling_mode": ALL},
            "2_Dense/config.json": dense(384, 32),
        },
        {"2_Dense": weights(384, 32, 21)},
    )
    yield (
        "older keys of two poolings",
        {
            "modules.json": chain(pool, end),
            "1_Pooling/config.json": {
                "word_embedding_dimension": 64,
                "pooling_mode_mean_tokens": True,
                "pooling_mode_cls_token": True,
            },
        },
        {},
    )
    yield (
        "a prompt that does not count",
        {
            "modules.json": chain(pool),
            "1_Pooling/config.json": {"word_embedding_dimension": 64, "pooling_mode": ALL, "include_prompt": False},
            "config_sentence_transformers.json": CONFIG_PROMPTS,
        },
        {},
    )
    # The token that ends a text counts as one of the prompt where no file names it as special.
    unnamed = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"}
    not_max = [mode for mode in ALL if mode != "max"]
    for name, lengths in [
        ("a prompt before an end without a name", {}),
        ("a prompt of which nothing is left", {"sentence_bert_config.json": {"max_seq_length": 6}}),
    ]:
        yield (
            name,
            {
                "modules.json": chain(pool),
                "1_Pooling/config.json": {
                    "word_embedding_dimension": 64, "pooling_mode": not_max, "include_prompt": False
                },
                "config_sentence_transformers.json": CONFIG_PROMPTS,
                "tokenizer_config.json": unnamed,
                **lengths,
            },
            {},
        )
    yield (
        "fewer components",
        {
            "modules.json": chain(pool, end),
            **MEAN,
            "config_sentence_transformers.json": {"truncate_dim": 24, "similarity_fn_name": "dot"},
        },
        {},
    )
    yield (
        "an older name of the length file",
        {
            "modules.json": chain(pool),
            **MEAN,
            "sentence_bert_config.json": None,
            "sentence_xlm-roberta_config.json": {"max_seq_length": 9, "do_lower_case": True},
        },
        {},
    )


def encoded(array):
    return base64.b64encode(numpy.asarray(array, dtype="<f4").tobytes()).decode()


def write_files(folder, files, tensors):
    for path, content in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            target.unlink()
        else:
            target.write_text(json.dumps(content))
    for path, named in tensors.items():
        save_file({name: numbers(*how) for name, how in named.items()}, folder / path / "model.safetensors")


def pickled(folder, path, inputs, outputs, seed):
    """A Dense whose weights are as PyTorch pickles them; gives the file."""
    target = folder / path / "pytorch_model.bin"
    torch.save({name: numbers(*how) for name, how in weights(inputs, outputs, seed).items()}, target)
    return base64.b64encode(target.read_bytes()).decode()


def answers(folder, prompt):
    model = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})
    found = []
    for text in TEXTS:
        vector = model.encode(text, prompt_name=prompt, convert_to_numpy=True)
        found.append({"text": text, "vector": encoded(vector)})
    vectors = model.encode(TEXTS)
    return found, model.similarity(vectors[:1], vectors)[0].tolist()


def made_chains(proxima):
    qwen3 = {"modules.json": chain(("1_Pooling", "Pooling")), **MEAN}
    variants = [("tiny-bert", 3, None, *variant) for variant in chains()]
    variants.append(("tiny-qwen3", 1, {"is_causal": False}, "is_causal false", qwen3, {}))
    older = {
        "modules.json": chain(("1_Pooling", "Pooling"), ("2_Dense", "Dense")),
        **MEAN,
        "2_Dense/config.json": dense(64, 8, "activation.Tanh"),
    }
    variants.append(("tiny-bert", 3, {"architectures": ["BertForCL"]}, "a class of its own, a pickled Dense", older, {}))
    for synth, seed, config, name, files, tensors in variants:
        with tempfile.TemporaryDirectory() as temporary:
            folder = pathlib.Path(temporary) / "checkpoint"
            command = [proxima, "synth", synth, "--seed", str(seed), "--out", folder]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            if config:
                path = folder / "config.json"
                path.write_text(json.dumps(json.loads(path.read_text()) | config))
            write_files(folder, files, tensors)
            pickles = {"2_Dense": pickled(folder, "2_Dense", 64, 8, 25)} if "pickled" in name else {}
            prompt = "query" if "prompt" in name else None
            cases, similarities = answers(folder, prompt)
            yield {
                "name": name, "synth": synth, "seed": seed, "config": config, "files": files, "tensors": tensors,
                "pickles": pickles, "prompt": prompt, "cases": cases, "similarities": similarities,
            }  # fmt: skip


def made_scores():
    sigmoid, identity = "torch.nn.modules.activation.Sigmoid", "torch.nn.modules.linear.Identity"
    for change in [
        {},
        {"problem_type": "regression"},
        {"problem_type": "multi_label_classification"},
        {"problem_type": "single_label_classification"},
        {"sentence_transformers": {"activation_fn": sigmoid, "version": "4.0.0"}},
        {"sbert_ce_default_activation_function": sigmoid},
        {"sentence_transformers": {"activation_fn": identity}, "sbert_ce_default_activation_function": sigmoid},
    ]:
        with tempfile.TemporaryDirectory() as temporary:
            folder = pathlib.Path(temporary) / "checkpoint"
            shutil.copytree(ROOT / "tests/golden/scores/bert-classifier", folder)
            path = folder / "config.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | change))
            classify = pipeline("text-classification", model=str(folder), device="cpu", top_k=None)
            labels = json.loads(path.read_text())["id2label"]
            classes = []
            for query, document in PAIRS:
                scores = classify({"text": query, "text_pair": document})
                by_label = {entry["label"]: entry["score"] for entry in scores}
                classes.append([by_label[labels[str(index)]] for index in range(len(labels))])
            pairs = CrossEncoder(str(folder), device="cpu").predict(PAIRS).tolist()
            yield {"config": change, "pairs": PAIRS, "classes": classes, "scores": pairs}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--proxima", required=True)
    proxima = parser.parse_args().proxima
    made = [json.dumps(it) for it in made_chains(proxima)]
    scores = [json.dumps(it) for it in made_scores()]
    text = '{"chains": [\n' + ",\n".join(made) + '\n],\n"scores": [\n' + ",\n".join(scores) + "\n]}\n"
    path = ROOT / "tests/golden/chains.json"
    path.write_text(text)
    print(f"{path}: {len(made)} chains, {len(scores)} scores")


if __name__ == "__main__":
    main()
