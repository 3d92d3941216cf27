"""Makes tests/golden/tokenizers.json: the ids that transformers gives texts where files beside tokenizer.json say more.

    make_tokenizers.py

Needs transformers 5.24. A case is a committed checkpoint of tests/golden/scores, perhaps with the tokenizer.json of
another, and values that are set in its files; `ids` are those of AutoTokenizer, or null where it does not load. `pairs`
are cases of two texts: also their token types, null where the network is given none, and its logits.
"""

import copy
import json
import pathlib
import tempfile

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCORES = ROOT / "tests/golden/scores"
FILES = ["config.json", "tokenizer.json", "tokenizer_config.json"]
TEXTS = [
    "Gravity",
    "the river  [CTX] Flows <ctx> over <mask> and",
    "what is  [MASK] the [mask] river's [SEP] word? <s> ÀÉ 中国",
    " leading space, gravityriverstreetcapitalofchina",
    "of<mask>the[CTX]and<ctx>in [Ctx] </s><pad>",
]


def token(content, special=True, normalized=False, **flags):
    plain = {"lstrip": False, "rstrip": False, "single_word": False}
    return {"content": content, **plain, "normalized": normalized, "special": special, **flags}


def typed(content, **flags):
    return {"__type": "AddedToken", **token(content, **flags)}


def edit(file, value, *keys):
    return {"file": file, "keys": list(keys), "value": value}


def ordered(file, value):
    """A file whose keys are in this order, which JSON values do not keep everywhere."""
    return {"file": file, "text": json.dumps(value)}


def config(value, *keys):
    return edit("tokenizer_config.json", value, *keys)


def fresh(**keys):
    """A tokenizer_config.json of these keys alone."""
    return config(keys)


FILE = {"tokenizer_class": "PreTrainedTokenizerFast"}
BACKWARDS = {"z_token": "[CTX]", "m_token": "gravityriver", "a_token": "<ctx>"}
WHITE = {"type": "WhitespaceSplit"}
BERT, XLMR, BYTES = ("bert-classifier", None), ("xlmr-reranker", None), ("xlmr-reranker", "modernbert-reranker-cls")
PIECES = ("bert-classifier", "xlmr-reranker")
# Tokens of a vocabulary of BERT, for a class that names others.
SQUARE = {
    "bos_token": "[CLS]", "eos_token": "[SEP]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]",
    "pad_token": "[PAD]", "mask_token": "[MASK]",
}
ANGLED = {
    "bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>", "unk_token": "<unk>",
    "pad_token": "<pad>", "mask_token": "<mask>",
}
LEFT = {"mask_token": token("<mask>", lstrip=True)}
CASES = {
    # Special and added tokens, with a class that takes the file.
    "extra_list": (BERT, [config(["[CTX]"], "extra_special_tokens")]),
    "extra_dict": (BERT, [config({"context_token": "[CTX]"}, "extra_special_tokens")]),
    "additional": (BERT, [config({}, "extra_special_tokens"), config(["[CTX]", "river"], "additional_special_tokens")]),
    "additional_beside_extra": (BERT, [
        config(["[CTX]"], "extra_special_tokens"),
        config(["river"], "additional_special_tokens"),
    ]),
    "typed_extra": (BERT, [config([typed("[CTX]", lstrip=True, rstrip=True)], "extra_special_tokens")]),
    "typed_normalized": (BERT, [config([typed("[CTX]", special=False, normalized=True)], "extra_special_tokens")]),
    "own_key": (BERT, [config("[CTX]", "context_token")]),
    "model_specific": (BERT, [config({"context_token": "[CTX]"}, "model_specific_special_tokens")]),
    "own_keys_in_order": (BERT, [ordered("tokenizer_config.json", {**FILE, **BACKWARDS})]),
    "extra_in_order": (BERT, [ordered("tokenizer_config.json", {**FILE, "extra_special_tokens": BACKWARDS})]),
    "additional_in_order": (BERT, [ordered("tokenizer_config.json", {**FILE, "additional_special_tokens": BACKWARDS})]),
    "model_specific_in_order": (BERT, [
        ordered("tokenizer_config.json", {**FILE, "model_specific_special_tokens": BACKWARDS}),
    ]),
    "older_in_order": (BERT, [
        fresh(**FILE),
        ordered("special_tokens_map.json", {key: token(text) for key, text in BACKWARDS.items()}),
    ]),
    "older_extra_in_order": (BERT, [fresh(**FILE), ordered("special_tokens_map.json", {"extra_special_tokens": BACKWARDS})]),
    "other_mask": (BERT, [config("river", "mask_token")]),
    "null_mask": (BERT, [config(None, "mask_token")]),
    "decoder_flags": (BERT, [config(token("[MASK]", lstrip=True), "added_tokens_decoder", "4")]),
    "decoder_single_word": (XLMR, [config(token("<mask>", single_word=True), "added_tokens_decoder", "3")]),
    "decoder_of_a_word": (BERT, [
        config(token("the", special=False, normalized=True, single_word=True), "added_tokens_decoder", "900"),
    ]),
    "decoder_other_id": (BERT, [config(token("[CTX]"), "added_tokens_decoder", "10")]),
    "empty_decoder": (BERT, [config({}, "added_tokens_decoder")]),
    "mask_lstrip": (XLMR, [fresh(tokenizer_class="PreTrainedTokenizerFast"), edit("special_tokens_map.json", LEFT)]),
    "older_ignored": (XLMR, [edit("special_tokens_map.json", {"mask_token": token("river", lstrip=True)})]),
    "older_map": (BERT, [
        fresh(tokenizer_class="PreTrainedTokenizerFast"),
        edit("special_tokens_map.json", {"additional_special_tokens": ["[CTX]"], "mask_token": token("river", normalized=True)}),
    ]),
    "older_extra": (BERT, [
        fresh(tokenizer_class="PreTrainedTokenizerFast", extra_special_tokens=["<ctx>"]),
        edit("special_tokens_map.json", {"extra_special_tokens": ["[CTX]"]}),
    ]),
    "older_added": (BERT, [
        fresh(tokenizer_class="PreTrainedTokenizerFast"),
        edit("added_tokens.json", {"[CTX]": 500, "river": 501}),
    ]),
    "older_added_special": (BERT, [
        fresh(tokenizer_class="PreTrainedTokenizerFast", extra_special_tokens=["[CTX]"]),
        edit("added_tokens.json", {"[CTX]": 500}),
    ]),
    "older_dicts": (BERT, [
        fresh(tokenizer_class="PreTrainedTokenizerFast"),
        edit("special_tokens_map.json", {"additional_special_tokens": [token("[CTX]")]}),
    ]),
    "older_own_key": (BERT, [
        fresh(tokenizer_class="PreTrainedTokenizerFast"),
        edit("special_tokens_map.json", {"context_token": token("[CTX]", lstrip=True)}),
    ]),
    "older_extra_dict": (BERT, [
        fresh(tokenizer_class="PreTrainedTokenizerFast"),
        edit("special_tokens_map.json", {"extra_special_tokens": {"context_token": "[CTX]"}}),
    ]),
    "typed_additional": (BERT, [
        config(None, "extra_special_tokens"),
        config([typed("[CTX]", lstrip=True)], "additional_special_tokens"),
    ]),
    "typed_own_key": (BERT, [config(typed("[CTX]", rstrip=True), "context_token")]),
    "padding_token": (BERT, [
        config(None, "pad_token"),
        edit("tokenizer.json", {"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": None, "pad_id": 5, "pad_type_id": 0, "pad_token": "river"}, "padding"),
    ]),
    "padding_token_alone": (BERT, [
        fresh(tokenizer_class="PreTrainedTokenizerFast"),
        edit("tokenizer.json", {"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": None, "pad_id": 5, "pad_type_id": 0, "pad_token": "[CTX]"}, "padding"),
    ]),
    "untyped": (BERT, [config(token("[MASK]"), "mask_token")]),
    "extra_text": (BERT, [config("[CTX]", "extra_special_tokens")]),
    "decoder_text": (BERT, [config("[CTX]", "added_tokens_decoder", "10")]),
    # Classes that make the pipeline.
    "bert": (BERT, [config("BertTokenizer", "tokenizer_class")]),
    "bert_without_config": (BERT, [fresh()]),
    "bert_class_of_model": (BERT, [
        fresh(),
        edit("config.json", "PreTrainedTokenizerFast", "tokenizer_class"),
        edit("tokenizer.json", WHITE, "pre_tokenizer"),
    ]),
    "bert_cased": (BERT, [
        config("BertTokenizerFast", "tokenizer_class"),
        config(False, "do_lower_case"),
        config(True, "strip_accents"),
        config(False, "tokenize_chinese_chars"),
    ]),
    "bert_no_template": (BERT, [
        config("BertTokenizer", "tokenizer_class"),
        edit("tokenizer.json", None, "post_processor"),
    ]),
    "file_no_template": (BERT, [edit("tokenizer.json", None, "post_processor")]),
    "bert_other_words": (BERT, [
        config("BertTokenizer", "tokenizer_class"),
        edit("tokenizer.json", WHITE, "pre_tokenizer"),
        edit("tokenizer.json", None, "normalizer"),
    ]),
    "file_other_words": (BERT, [
        edit("tokenizer.json", WHITE, "pre_tokenizer"),
        edit("tokenizer.json", None, "normalizer"),
    ]),
    "bert_short_words": (BERT, [
        config("ElectraTokenizerFast", "tokenizer_class"),
        edit("tokenizer.json", 3, "model", "max_input_chars_per_word"),
    ]),
    "file_short_words": (BERT, [edit("tokenizer.json", 3, "model", "max_input_chars_per_word")]),
    "bert_other_prefix": (BERT, [
        config("BertTokenizer", "tokenizer_class"),
        edit("tokenizer.json", "@@", "model", "continuing_subword_prefix"),
    ]),
    "bert_other_ends": (BERT, [
        config("BertTokenizer", "tokenizer_class"),
        config("[MASK]", "cls_token"),
        config("[UNK]", "sep_token"),
    ]),
    "bert_no_cls": (BERT, [config("BertTokenizer", "tokenizer_class"), config("[NEW]", "cls_token")]),
    "bert_lost_token": (BERT, [
        config("BertTokenizer", "tokenizer_class"),
        edit("tokenizer.json", [dict(token("river"), id=5)], "added_tokens"),
    ]),
    "bert_lower_null": (BERT, [config("BertTokenizer", "tokenizer_class"), config(None, "do_lower_case")]),
    "unknown_class": (BERT, [
        config("SomethingTokenizer", "tokenizer_class"),
        edit("tokenizer.json", WHITE, "pre_tokenizer"),
    ]),
    "slow_generic_class": (BERT, [
        config("PreTrainedTokenizer", "tokenizer_class"),
        edit("tokenizer.json", WHITE, "pre_tokenizer"),
    ]),
    "xlmr": (XLMR, [config("XLMRobertaTokenizer", "tokenizer_class")]),
    "xlmr_without_config": (XLMR, [fresh()]),
    "xlmr_no_space": (XLMR, [config("XLMRobertaTokenizerFast", "tokenizer_class"), config(False, "add_prefix_space")]),
    "xlmr_space_null": (XLMR, [config("XLMRobertaTokenizer", "tokenizer_class"), config(None, "add_prefix_space")]),
    "xlmr_unknown": (XLMR, [
        config("XLMRobertaTokenizer", "tokenizer_class"),
        edit("tokenizer.json", 1, "model", "unk_id"),
    ]),
    "xlmr_normalizer": (XLMR, [
        config("XLMRobertaTokenizer", "tokenizer_class"),
        edit("tokenizer.json", {"type": "Lowercase"}, "normalizer"),
    ]),
    "xlmr_mask": (XLMR, [
        config("XLMRobertaTokenizer", "tokenizer_class"),
        config(typed("<mask>", lstrip=True), "mask_token"),
        config(token("<mask>", lstrip=True), "added_tokens_decoder", "399"),
    ]),
    "decoder_lstrip": (XLMR, [config(token("<mask>", lstrip=True, single_word=True), "added_tokens_decoder", "399")]),
    "camembert": (XLMR, [config("CamembertTokenizer", "tokenizer_class")]),
    "camembert_alone": (XLMR, [fresh(tokenizer_class="CamembertTokenizer")]),
    "deberta": (PIECES, [fresh(tokenizer_class="DebertaV2Tokenizer", **ANGLED)]),
    "deberta_alone": (PIECES, [fresh(tokenizer_class="DebertaV2TokenizerFast")]),
    "deberta_lower_case": (PIECES, [
        fresh(tokenizer_class="DebertaV2Tokenizer", do_lower_case=True, split_by_punct=True, add_prefix_space=False, **ANGLED),
    ]),
    "deberta_unknown": (PIECES, [
        fresh(tokenizer_class="DebertaV2Tokenizer", unk_id=5, **{**ANGLED, "unk_token": "<none>"}),
    ]),
    "roberta": (BYTES, [fresh(tokenizer_class="RobertaTokenizer")]),
    "roberta_space": (BYTES, [
        fresh(tokenizer_class="RobertaTokenizerFast", add_prefix_space=True, trim_offsets=False),
    ]),
    "roberta_space_null": (BYTES, [fresh(tokenizer_class="RobertaTokenizer", add_prefix_space=None)]),
    "roberta_tokens": (BYTES, [
        fresh(tokenizer_class="RobertaTokenizer", cls_token="[CLS]", sep_token="[SEP]", mask_token=typed("[MASK]", lstrip=True, normalized=True)),
    ]),
    "gpt2": (BYTES, [fresh(tokenizer_class="GPT2Tokenizer")]),
    "gpt2_space": (BYTES, [
        fresh(tokenizer_class="GPT2TokenizerFast", add_prefix_space=True, bos_token="[CLS]", eos_token="[SEP]", unk_token="[UNK]"),
    ]),
    "qwen2": (BYTES, [fresh(tokenizer_class="Qwen2Tokenizer", unk_token=None)]),
    "qwen2_space": (BYTES, [
        fresh(tokenizer_class="Qwen2TokenizerFast", add_prefix_space=True, eos_token="[SEP]", pad_token="[PAD]", unk_token=None),
    ]),
    "qwen2_flags": (BYTES, [
        fresh(tokenizer_class="Qwen2Tokenizer", add_prefix_space=None, mask_token=typed("[MASK]", lstrip=True), extra_special_tokens=["<ctx>"]),
    ]),
    "file_space": (BYTES, [fresh(tokenizer_class="PreTrainedTokenizerFast", add_prefix_space=True)]),
    "llama_of_bytes": (BYTES, [fresh(tokenizer_class="LlamaTokenizerFast")]),
    "end_asked_for": (BYTES, [
        fresh(tokenizer_class="GPT2Tokenizer", add_eos_token=True, add_bos_token=True, bos_token="[CLS]", eos_token="[SEP]"),
    ]),
    "gemma": (BYTES, [fresh(tokenizer_class="GemmaTokenizerFast", **{**SQUARE, "unk_token": "a"})]),
    "gemma_flags": (BYTES, [
        fresh(tokenizer_class="GemmaTokenizer", **{**SQUARE, "unk_token": "a", "mask_token": typed("[MASK]", lstrip=True)}, extra_special_tokens=["<ctx>"]),
    ]),
    "mpnet": (BERT, [fresh(tokenizer_class="MPNetTokenizer", **SQUARE)]),
    "mpnet_cased": (BERT, [
        fresh(tokenizer_class="MPNetTokenizerFast", do_lower_case=False, strip_accents=True, **SQUARE),
    ]),
    "mpnet_flags": (BERT, [
        fresh(tokenizer_class="MPNetTokenizer", **{**SQUARE, "mask_token": typed("[MASK]")}, extra_special_tokens=["<ctx>"]),
    ]),
    "mpnet_chinese": (BERT, [fresh(tokenizer_class="MPNetTokenizer", tokenize_chinese_chars=False, **SQUARE)]),
    "modernbert_any_class": (("modernbert-reranker-cls", None), [
        config("GPT2Tokenizer", "tokenizer_class"),
        config(True, "add_prefix_space"),
        config(["<ctx>"], "extra_special_tokens"),
    ]),
}


def template(single, pair):
    tokens = {text: {"id": text, "ids": [id], "tokens": [text]} for text, id in (("[CLS]", 2), ("[SEP]", 3))}

    def pieces(text):
        kinds = [piece.split(":") for piece in text.split()]
        return [
            {"Sequence": {"id": name[1:], "type_id": int(kind)}}
            if name[0] == "$"
            else {"SpecialToken": {"id": name, "type_id": int(kind)}}
            for name, kind in kinds
        ]

    value = {"type": "TemplateProcessing", "single": pieces(single), "pair": pieces(pair), "special_tokens": tokens}
    return edit("tokenizer.json", value, "post_processor")


def cut(direction):
    value = {"direction": direction, "max_length": 512, "strategy": "LongestFirst", "stride": 0}
    return edit("tokenizer.json", value, "truncation")


PAIR = ("the river flows over the capital of china", "gravity what is the river street")
NAMES = {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}
PLAIN = {"model_input_names": ["input_ids", "attention_mask"]}
SINGLE = "[CLS]:0 $A:0 [SEP]:0"
PAIRS = {
    **{
        f"class_{name}": (BERT, [fresh(tokenizer_class=name)])
        for name in [
            "BertTokenizer", "BertTokenizerFast", "DistilBertTokenizer", "DistilBertTokenizerFast", "ElectraTokenizerFast",
            "PreTrainedTokenizerFast", "TokenizersBackend", "RetriBertTokenizer", "MyTokenizer", None,
        ]
    },
    "class_of_config": (BERT, [fresh(), edit("config.json", "PreTrainedTokenizerFast", "tokenizer_class")]),
    "names_without": (BERT, [fresh(tokenizer_class="BertTokenizer", **PLAIN)]),
    "names_with": (BERT, [fresh(**FILE, **NAMES)]),
    "names_with_distilbert": (BERT, [fresh(tokenizer_class="DistilBertTokenizer", **NAMES)]),
    "xlmr_names_with": (XLMR, [fresh(tokenizer_class="XLMRobertaTokenizer", **NAMES)]),
    "no_template": (BERT, [fresh(**FILE, **NAMES), edit("tokenizer.json", None, "post_processor")]),
    "template_of_one_type": (BERT, [
        fresh(**FILE, **NAMES), template(SINGLE, "[CLS]:0 $A:0 [SEP]:0 $B:0 [SEP]:0"),
    ]),
    "template_from_first_end": (BERT, [
        fresh(**FILE, **NAMES), template(SINGLE, "[CLS]:0 $A:0 [SEP]:1 $B:1 [SEP]:1"),
    ]),
    "template_odd_unused": (BERT, [fresh(**FILE), template("[CLS]:1 $A:1 [SEP]:1", "[CLS]:1 $A:0 [SEP]:2 $B:1 [SEP]:0")]),
    "cut_left": (BERT, [fresh(tokenizer_class="BertTokenizer", model_max_length=12), cut("Left")]),
    "cut_left_file": (BERT, [fresh(**FILE, **NAMES, model_max_length=12), cut("Left")]),
    "cut_right": (BERT, [fresh(**FILE, **NAMES, model_max_length=12), cut("Right")]),
    "cut_right_said": (BERT, [fresh(**FILE, **NAMES, model_max_length=12, truncation_side="right"), cut("Left")]),
}


def pair(base, tokenizer, edits):
    with tempfile.TemporaryDirectory() as name:
        folder = copied(pathlib.Path(name), base, tokenizer, edits)
        (folder / "model.safetensors").write_bytes((SCORES / base / "model.safetensors").read_bytes())
        inputs = AutoTokenizer.from_pretrained(folder)(*PAIR, truncation=True, return_tensors="pt")
        model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
        with torch.no_grad():
            logits = model(**inputs).logits[0].tolist()
    types = inputs["token_type_ids"][0].tolist() if "token_type_ids" in inputs else None
    return {"ids": inputs["input_ids"][0].tolist(), "types": types, "logits": logits}


def change(folder, edits):
    for it in edits:
        path = folder / it["file"]
        if "text" in it:
            path.write_text(it["text"])
            continue
        content = json.loads(path.read_text()) if path.exists() else None
        if not it["keys"]:
            content = it["value"]
        else:
            inner = content
            for key in it["keys"][:-1]:
                inner = inner[key]
            inner[it["keys"][-1]] = copy.deepcopy(it["value"])
        path.write_text(json.dumps(content))


def copied(folder, base, tokenizer, edits):
    for file in FILES:
        source = tokenizer if tokenizer and file == "tokenizer.json" else base
        (folder / file).write_text((SCORES / source / file).read_text())
    change(folder, edits)
    return folder


def ids(base, tokenizer, edits):
    with tempfile.TemporaryDirectory() as name:
        folder = copied(pathlib.Path(name), base, tokenizer, edits)
        try:
            loaded = AutoTokenizer.from_pretrained(folder)
        except Exception as problem:
            print("   does not load:", str(problem)[:100])
            return None
        print("  ", type(loaded).__name__, loaded.tokenize(TEXTS[1])[:14])
        return [loaded(text)["input_ids"] for text in TEXTS]


def main():
    cases = []
    for name, ((base, tokenizer), edits) in CASES.items():
        print(name)
        cases.append({"name": name, "base": base, "tokenizer": tokenizer or base, "edits": edits, "ids": ids(base, tokenizer, edits)})
    pairs = []
    for name, ((base, tokenizer), edits) in PAIRS.items():
        got = pair(base, tokenizer, edits)
        print(name, got["types"])
        pairs.append({"name": name, "base": base, "tokenizer": tokenizer or base, "edits": edits, **got})
    lines, pair_lines = (",\n".join(json.dumps(case, ensure_ascii=False) for case in it) for it in (cases, pairs))
    texts = json.dumps(TEXTS, ensure_ascii=False)
    path = ROOT / "tests/golden/tokenizers.json"
    pair_texts = json.dumps(PAIR)
    path.write_text(
        f'{{"texts": {texts}, "cases": [\n{lines}\n],\n"pair": {pair_texts}, "pairs": [\n{pair_lines}\n]}}\n'
    )


if __name__ == "__main__":
    main()
