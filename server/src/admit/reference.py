"""Answers of the reference implementation, for `proxima admit`.

Reads one JSON object from standard input: the folder of a checkpoint, what it gives, and inputs. Writes one to standard
output: versions, and for each input its token ids and values in float32. Nothing is downloaded, and no code of the
checkpoint is run.
"""

import json
import math
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Whatever libraries print belongs to the log, not to the answer.
answer, sys.stdout = sys.stdout, sys.stderr

import torch  # noqa: E402
import transformers  # noqa: E402
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer  # noqa: E402

asked = json.load(sys.stdin)
# sentence-transformers imports classes of other packages, among them files of the checkpoint's own.
if os.path.exists(os.path.join(asked["folder"], "modules.json")):
    with open(os.path.join(asked["folder"], "modules.json")) as file:
        for module in json.load(file):
            if not module["type"].startswith("sentence_transformers."):
                raise SystemExit(f"the module {module['type']} is code outside sentence-transformers")
folder, kind, limit = asked["folder"], asked["kind"], asked["tokens_max"]
versions = {"transformers": transformers.__version__, "torch": torch.__version__}


def pooled(states, method):
    if method == "cls":
        return states[0]
    if method == "last_token":
        return states[-1]
    if method == "max":
        return states.max(0).values
    if method == "mean":
        return states.mean(0)
    raise SystemExit(f"pooling {method} is not compared")


def by_modules():
    """What sentence-transformers gives for each text."""
    import sentence_transformers

    versions["sentence-transformers"] = sentence_transformers.__version__
    float32 = {"dtype": torch.float32, "attn_implementation": "eager"}
    model = sentence_transformers.SentenceTransformer(folder, device="cpu", model_kwargs=float32, trust_remote_code=False)
    for text in asked["inputs"]:
        vector = model.encode([text], show_progress_bar=False)[0]
        yield {"ids": None, "values": vector.tolist()}


def by_cross_encoder():
    """What sentence-transformers gives for each pair, as a logit."""
    import sentence_transformers

    versions["sentence-transformers"] = sentence_transformers.__version__
    float32 = {"dtype": torch.float32, "attn_implementation": "eager"}
    model = sentence_transformers.CrossEncoder(folder, device="cpu", model_kwargs=float32, trust_remote_code=False)
    for pair in asked["inputs"]:
        score = model.predict([tuple(pair)], activation_fn=torch.nn.Identity(), show_progress_bar=False)
        yield {"ids": None, "values": [float(score[0])]}


def by_transformers():
    """What a bare network, a head for classes or a masked language model gives for each input."""
    classes = {"scores": AutoModelForSequenceClassification, "words": AutoModelForMaskedLM}
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = classes.get(kind, AutoModel).from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    for one in asked["inputs"]:
        texts = one if isinstance(one, list) else [one]
        batch = tokenizer(*texts, truncation=True, max_length=limit, return_tensors="pt")
        with torch.no_grad():
            out = model(**batch)
        if kind == "scores":
            values = out.logits[0]
        elif kind == "words":
            values = torch.log1p(torch.relu(out.logits[0])).max(0).values
        else:
            values = torch.cat([pooled(out.last_hidden_state[0], method) for method in asked["pooling"]])
        yield {"ids": batch["input_ids"][0].tolist(), "values": values.tolist()}


config = transformers.PretrainedConfig.get_config_dict(folder)[0]
for name in config.get("architectures") or []:
    # Without its own code, a class of a checkpoint would be opened as another network.
    if not hasattr(transformers, name):
        raise SystemExit(f"{name} is code of the checkpoint's own, which transformers does not have")
ways = {"modules": by_modules, "cross_encoder": by_cross_encoder}
cases = list(ways.get(kind, by_transformers)())
if not all(math.isfinite(value) for case in cases for value in case["values"]):
    raise SystemExit("the reference's own answers are not finite")
json.dump({"versions": versions, "cases": cases}, answer)
