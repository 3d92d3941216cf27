"""Makes tests/golden/scores: tiny random cross-encoders and a ModernBERT embedder with their float32 answers.

    make_scores.py [--out tests/golden/scores] [name ...]

`<out>/<name>/` is a checkpoint, `answers.json` in it inputs and answers. Everything is reloaded from the
checkpoint before it is run, each pair alone, nothing padded, eager attention, CPU float32.
"""

import argparse
import collections
import hashlib
import json
import math
import os
import pathlib
import random

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

import tokenizers  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers  # noqa: E402
from transformers import (  # noqa: E402
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    ModernBertModel,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

# ---------------------------------------------------------------- text

WORDS = {
    "en": "gravity force bodies attract planet river capital city search query document answer index vector model "
    "the of a is in to and what which where how large small quick brown fox jumps over lazy dog water light",
    "de": "schwerkraft körper fluss straße größe müde hauptstadt suche antwort der die das ist und wo welche über",
    "fr": "gravité corps fleuve ville capitale réponse où quelle été naïve façade le la les est et dans",
    "es": "gravedad cuerpo río ciudad capital respuesta dónde cuál mañana año el los es y en",
    "ru": "сила тела река город столица ответ вопрос где какая большой и в на",
    "zh": "北京 中国 首都 城市 重力 河流 搜索 答案 问题 的 是 在",
    "ja": "日本 東京 都市 の は です ます なに",
    "ar": "مدينة نهر جواب سؤال في من",
    "ko": "서울 도시 강 은 는",
}


def corpus(lines=400):
    """Made-up lines: mostly one language each, some mixed, some with digits and punctuation."""
    rng = random.Random(20240611)
    pools = {lang: text.split() for lang, text in WORDS.items()}
    everything = [w for pool in pools.values() for w in pool]
    out = []
    for i in range(lines):
        lang = rng.choice(list(pools) + ["en"] * 4)
        pool = everything if i % 9 == 8 else pools[lang]
        words = [rng.choice(pool) for _ in range(rng.randint(4, 14))]
        if rng.random() < 0.3:
            words.insert(rng.randrange(len(words)), str(rng.randint(0, 2100)))
        line = ("" if lang in ("zh", "ja") and i % 9 != 8 else " ").join(words)
        out.append(line[0].upper() + line[1:] + rng.choice([".", "?", "!", "", ", etc."]))
    return out


PARAGRAPH = (
    "Gravity is a force that attracts two bodies; the river and the city are in the light. "
    "Die Straße ist über der Stadt, la réponse est dans la ville, 重力是问题的答案, ответ в городе 1687. "
)
PAIRS = [
    ("short", "What is gravity?", "Gravity is a force that attracts two bodies."),
    ("empty_document", "What is gravity?", ""),
    ("long_document", "What is gravity?", PARAGRAPH * 8),
    ("both_long", "Where is the capital city? " * 20, PARAGRAPH[::-1] * 8),
    ("multilingual", "中国的首都是哪里？ Où est la capitale?", "北京是中国的首都。 Москва — столица, القاهرة مدينة, 서울은 도시 👩‍👩‍👧 naïve e\u0301."),
    ("identical", "The quick brown fox jumps over the lazy dog", "The quick brown fox jumps over the lazy dog"),
]

# ---------------------------------------------------------------- tokenizers


def grow(room, build, inner=""):
    """A tokenizer of `room` pieces: frequent substrings, then a few rounds of keeping what the corpus uses.

    UnigramTrainer and WordPieceTrainer give other pieces every run; this gives the same. `build` makes a tokenizer of
    [(piece, count)], the most frequent first; `inner` marks a piece inside a word.
    """
    plain = build([])
    counts = collections.Counter()
    for line in corpus():
        line = plain.normalizer.normalize_str(line)
        for word, _ in plain.pre_tokenizer.pre_tokenize_str(line):
            for i in range(len(word)):
                counts.update((inner if i else "") + word[i:j] for j in range(i + 1, min(i + 8, len(word)) + 1))
    characters = {p for p in counts if len(p.removeprefix(inner)) == 1}
    for size in (4 * room, 2 * room, room, room):
        rest = sorted((p for p in counts if p not in characters), key=lambda p: (-counts[p] * len(p), p))
        kept = sorted(characters) + rest[: size - len(characters)]
        tok = build(sorted(((p, counts[p]) for p in kept), key=lambda item: (-item[1], item[0])))
        seen = collections.Counter(t for line in corpus() for t in tok.encode(line).tokens)
        # What was not used keeps a count of one: every character stays.
        counts = collections.Counter({p: max(seen[p], 1) for p in kept})
    return tok


def unigram_xlmr(vocab):
    """As XLM-R: <s> 0, <pad> 1, </s> 2, <unk> 3, ..., <mask> last. The real one normalizes with a precompiled map."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]

    def build(counts):
        total = sum(n for _, n in counts)
        # The small second term keeps two ways to segment a word from scoring the same.
        scored = [(p, round(math.log(n / total) - 0.01 * i**0.5, 6)) for i, (p, n) in enumerate(counts)]
        tok = Tokenizer(models.Unigram([(p, 0.0) for p in special] + scored, unk_id=3, byte_fallback=False))
        tok.normalizer = normalizers.Sequence(
            [normalizers.NFKC(), normalizers.Replace(tokenizers.Regex(" {2,}"), " ")]
        )
        tok.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")]
        )
        tok.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
        return tok

    tok = grow(vocab - len(special) - 1, build)
    tok.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    tok.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    names = dict(bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>", pad_token="<pad>")
    return tok, dict(names, unk_token="<unk>", mask_token="<mask>"), ["input_ids", "attention_mask"]


BRACKETS = dict(cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]", unk_token="[UNK]", mask_token="[MASK]")


def bracket_pair(tok):
    tok.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(t, tok.token_to_id(t)) for t in ("[CLS]", "[SEP]")],
    )


def wordpiece_bert(vocab):
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

    def build(counts):
        pieces = special + [p for p, _ in counts]
        tok = Tokenizer(models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
        tok.normalizer = normalizers.BertNormalizer(
            clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True
        )
        tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tok.decoder = decoders.WordPiece(prefix="##")
        return tok

    tok = grow(vocab - len(special), build, inner="##")
    tok.add_special_tokens(special)
    bracket_pair(tok)
    return tok, BRACKETS, ["input_ids", "token_type_ids", "attention_mask"]


def bytelevel_modernbert(vocab):
    """As ModernBERT: NFC, byte-level BPE without a prefix space, special tokens at the end, no type ids for the model."""
    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    tok = Tokenizer(models.BPE())
    tok.normalizer = normalizers.NFC()
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab - len(special),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tok.train_from_iterator(corpus(), trainer)
    tok.add_special_tokens([AddedToken(t, lstrip=t == "[MASK]", special=True) for t in special])
    bracket_pair(tok)
    return tok, BRACKETS, ["input_ids", "attention_mask"]


# ---------------------------------------------------------------- models

SHAPE = dict(hidden_size=64, num_attention_heads=4)


def xlmr(tok):
    return XLMRobertaForSequenceClassification(
        XLMRobertaConfig(
            **SHAPE,
            vocab_size=len(tok),
            num_hidden_layers=3,
            intermediate_size=160,
            max_position_embeddings=130,
            type_vocab_size=1,
            layer_norm_eps=1e-5,
            pad_token_id=1,
            bos_token_id=0,
            eos_token_id=2,
            num_labels=1,
        )
    )


def bert(tok):
    labels = ["contradiction", "entailment", "neutral"]
    return BertForSequenceClassification(
        BertConfig(
            **SHAPE,
            vocab_size=len(tok),
            num_hidden_layers=3,
            intermediate_size=160,
            max_position_embeddings=128,
            type_vocab_size=2,
            pad_token_id=tok.pad_token_id,
            id2label=dict(enumerate(labels)),
            label2id={name: i for i, name in enumerate(labels)},
        )
    )


def modernbert(cls, **more):
    def build(tok):
        return cls(
            ModernBertConfig(
                **SHAPE,
                vocab_size=len(tok),
                num_hidden_layers=6,
                intermediate_size=96,
                max_position_embeddings=256,
                local_attention=16,
                global_attn_every_n_layers=3,
                pad_token_id=tok.pad_token_id,
                bos_token_id=tok.cls_token_id,
                eos_token_id=tok.sep_token_id,
                cls_token_id=tok.cls_token_id,
                sep_token_id=tok.sep_token_id,
                reference_compile=False,
                **more,
            )
        )

    return build


# name: tokenizer, model, longest input in tokens (specials included), seed
SPECS = {
    "xlmr-reranker": (unigram_xlmr, xlmr, 128, 33),
    "bert-classifier": (wordpiece_bert, bert, 128, 12),
    "modernbert-reranker-mean": (
        bytelevel_modernbert,
        modernbert(ModernBertForSequenceClassification, classifier_pooling="mean", num_labels=1),
        256,
        30,
    ),
    "modernbert-reranker-cls": (
        bytelevel_modernbert,
        modernbert(ModernBertForSequenceClassification, classifier_pooling="cls", num_labels=1),
        256,
        12,
    ),
    "modernbert-embedder": (bytelevel_modernbert, modernbert(ModernBertModel), 256, 15),
}


@torch.no_grad()
def randomize(model, seed):
    """Weights far from the identity; drawn in the order of the parameters' names."""
    gen = torch.Generator().manual_seed(seed)
    kinds = {}
    for prefix, module in model.named_modules():
        for name, _ in module.named_parameters(recurse=False):
            kinds[f"{prefix}.{name}"] = module
    for name, p in sorted(model.named_parameters()):
        module, noise = kinds[name], torch.randn(p.shape, generator=gen)
        if name.endswith("bias"):
            p.copy_(noise * 0.1)
        elif isinstance(module, torch.nn.LayerNorm):
            p.copy_(1 + 0.15 * noise)
        elif isinstance(module, torch.nn.Embedding):
            p.copy_(noise * 0.05)
        elif isinstance(module, torch.nn.Linear):
            scale = torch.full((p.shape[0], 1), 1.2)
            if name.endswith("Wqkv.weight"):
                scale[: 2 * p.shape[1]] = 2.0
            elif ".query." in name or ".key." in name:
                scale[:] = 2.0
            p.copy_(noise * scale / p.shape[1] ** 0.5)
        else:
            raise ValueError(name)


def make(name, where):
    tokenizer, build, longest, seed = SPECS[name]
    tok, names, inputs = tokenizer(400)
    tok = PreTrainedTokenizerFast(
        tokenizer_object=tok, model_max_length=longest, model_input_names=inputs, clean_up_tokenization_spaces=False, **names
    )
    torch.manual_seed(seed)
    model = build(tok).float().eval()
    randomize(model, seed)
    model.save_pretrained(where, safe_serialization=True)
    tok.save_pretrained(where)
    for file in where.iterdir():
        file.chmod(0o644)


# ---------------------------------------------------------------- answers


def load(where, dtype=torch.float32, attention="eager"):
    embedder = json.loads((where / "config.json").read_text())["architectures"] == ["ModernBertModel"]
    auto = AutoModel if embedder else AutoModelForSequenceClassification
    more = {"reference_compile": False} if "modernbert" in where.name else {}
    model, info = auto.from_pretrained(
        where, dtype=dtype, attn_implementation=attention, output_loading_info=True, **more
    )
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"], info
    return model.eval(), embedder


def encode(tok, longest, query, document=None, **more):
    """A batch of one: tokenizer(query, "") alone would drop the empty document and its separators."""
    pair = None if document is None else [document]
    return tok([query], pair, truncation="longest_first", max_length=longest, return_tensors="pt", **more)


def close(a, b):
    return max(abs(x - y) for x, y in zip(a, b))


@torch.no_grad()
def answers(name, where):
    longest = SPECS[name][2]
    tok = AutoTokenizer.from_pretrained(where)
    assert tok.model_max_length == longest
    model, embedder = load(where)
    exact, _ = load(where, torch.float64)
    sdpa, _ = load(where, attention="sdpa")
    if embedder:
        texts = list(dict.fromkeys(t for _, q, d in PAIRS for t in (q, d)))
        rows = [{"text": t} for t in texts]
        inputs = [(t, None) for t in texts]
    else:
        rows = [{"case": c, "query": q, "document": d} for c, q, d in PAIRS]
        inputs = [(q, d) for _, q, d in PAIRS]

    def run(net, batch):
        out = net(**batch)
        return out.last_hidden_state[0] if embedder else out.logits[0]

    checks = {"float64": 0.0, "sdpa": 0.0, "padded": 0.0}
    pad = tok([q for q, _ in inputs], None if embedder else [d for _, d in inputs], truncation="longest_first",
              max_length=longest, padding=True, return_tensors="pt")
    padded = model(**pad)
    for i, (row, (q, d)) in enumerate(zip(rows, inputs)):
        batch = encode(tok, longest, q, d)
        ids = batch["input_ids"][0].tolist()
        row["input_ids"] = ids
        if "token_type_ids" in batch:
            row["token_type_ids"] = batch["token_type_ids"][0].tolist()
        whole = tok([q], None if d is None else [d], truncation=False, verbose=False)["input_ids"][0]
        row["tokens_untruncated"] = len(whole)
        out, ref, alt = run(model, batch), run(exact, batch), run(sdpa, batch)
        both = padded.last_hidden_state[i, : len(ids)] if embedder else padded.logits[i]
        for key, other in (("float64", ref), ("sdpa", alt), ("padded", both)):
            checks[key] = max(checks[key], (out - other).abs().max().item())
        if embedder:
            row["cls"], row["mean"] = out[0].tolist(), out.mean(0).tolist()
        else:
            row["logits"] = out.tolist()
            row["logits_float64"] = ref.tolist()

    if embedder:
        spread = 2.0
        for key in ("cls", "mean"):
            v = torch.nn.functional.normalize(torch.tensor([r[key] for r in rows]), dim=1)
            far = 1 - v @ v.T + 2 * torch.eye(len(rows))
            spread = min(spread, far.min().item())
    else:
        spread = min(close(a["logits"], b["logits"]) for i, a in enumerate(rows) for b in rows[:i])

    config = model.config
    weights = load_file(where / "model.safetensors")
    report = {
        "name": name,
        "checkpoint": name,
        "architecture": config.architectures[0],
        "made_with": {"transformers": transformers.__version__, "torch": torch.__version__, "tokenizers": tokenizers.__version__},
        "dtype": "float32",
        "attention": "eager",
        "truncation": "longest_first",
        "max_length": longest,
        "model_safetensors_sha256": hashlib.sha256((where / "model.safetensors").read_bytes()).hexdigest(),
        "largest_difference": checks,
        "smallest_difference_of_two_cases": spread,
    }
    if embedder:
        report["vectors"] = "last_hidden_state after final_norm, pooled, not normalized"
    else:
        report["num_labels"] = config.num_labels
        report["id2label"] = {str(k): v for k, v in config.id2label.items()}
    report["cases"] = rows
    print(f"\n{name}: {config.architectures[0]}, vocab {len(tok)}, {len(weights)} tensors, differences {checks}, spread {spread:.4f}")
    for r in rows:
        head = r.get("logits") or r["cls"][:3]
        print(f"  {r.get('case', r.get('text', '')[:24]):26} {len(r['input_ids']):4} of {r['tokens_untruncated']:5} tokens ", [round(x, 5) for x in head])
    assert spread > 0.05, (name, "answers too close", spread)
    assert max(checks.values()) < 1e-3, (name, checks)
    return report


def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("names", nargs="*", default=list(SPECS))
    args.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parents[1] / "golden/scores")
    args = args.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    for name in args.names:
        where = args.out / name
        make(name, where)
        text = json.dumps(answers(name, where), ensure_ascii=False, indent=1)
        (where / "answers.json").write_text(text + "\n")
        (where / "special_tokens_map.json").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
