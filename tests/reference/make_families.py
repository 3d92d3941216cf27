"""Makes tests/golden/families.json: hidden states, scores and word weights of small networks of many architectures.

    make_families.py [name ...]

Needs transformers 5.24. A network is a config.json as published, a tokenizer of tests/golden/scores, and tensors whose
numbers come from a hash of their place, so the file holds answers alone. Each text is run alone, nothing padded, eager
attention, CPU float32.
"""

import base64
import json
import pathlib
import shutil
import sys
import tempfile

import numpy
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file
from sentence_transformers import CrossEncoder, SentenceTransformer
from transformers import AutoTokenizer

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "tests/golden/families.json"
PARAGRAPH = (
    "Gravity is a force that attracts two bodies; the river and the city are in the light. "
    "Die Straße ist über der Stadt, la réponse est dans la ville, 重力是问题的答案, ответ в городе 1687. "
)
TEXTS = ["a", "What is gravity?", PARAGRAPH, PARAGRAPH * 4, PARAGRAPH * 20]
# More than the first tables of positions have.
TOKENS_MAX = 1000
PAIRS = [("What is gravity?", "Gravity is a force that attracts two bodies."), ("river", PARAGRAPH * 2)]

BERT_LIKE = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 112}
MPNET = {
    "model_type": "mpnet", **BERT_LIKE, "max_position_embeddings": 514, "layer_norm_eps": 1e-5, "hidden_act": "gelu",
    "relative_attention_num_buckets": 32, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2,
}
DISTILBERT = {
    "model_type": "distilbert", "dim": 64, "n_layers": 3, "n_heads": 4, "hidden_dim": 112, "activation": "gelu",
    "max_position_embeddings": 512, "sinusoidal_pos_embds": False, "tie_weights_": True, "pad_token_id": 0,
    "seq_classif_dropout": 0.2, "qa_dropout": 0.1,
}
# As deberta-v3-base.
DEBERTA = {
    "model_type": "deberta-v2", **BERT_LIKE, "max_position_embeddings": 512, "layer_norm_eps": 1e-7, "hidden_act": "gelu",
    "relative_attention": True, "position_buckets": 64, "max_relative_positions": -1, "pos_att_type": "p2c|c2p",
    "share_att_key": True, "norm_rel_ebd": "layer_norm", "position_biased_input": False, "type_vocab_size": 0,
    "pooler_hidden_act": "gelu", "pooler_hidden_size": 64, "pooler_dropout": 0, "pad_token_id": 1,
}
THREE_LABELS = {"id2label": {"0": "no", "1": "maybe", "2": "yes"}, "label2id": {"no": 0, "maybe": 1, "yes": 2}}
ONE_LABEL = {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}


def networks():
    """Name, tokenizer, class, config, and perhaps the config for the reference."""
    xlmr, bert = "xlmr-reranker", "bert-classifier"
    yield "mpnet", xlmr, "MPNetModel", MPNET
    yield "mpnet without eps and with other sizes", xlmr, "MPNetModel", {
        **{k: v for k, v in MPNET.items() if k not in ("layer_norm_eps", "pad_token_id")},
        "hidden_size": 96, "num_attention_heads": 3, "num_hidden_layers": 2, "hidden_act": "relu",
        "max_position_embeddings": 1026,
    }
    yield "mpnet reranker", xlmr, "MPNetForSequenceClassification", {**MPNET, **ONE_LABEL}
    yield "mpnet over words", xlmr, "MPNetForMaskedLM", {**MPNET, "hidden_act": "relu"}
    yield "distilbert", bert, "DistilBertModel", DISTILBERT
    yield "distilbert classifier", bert, "DistilBertForSequenceClassification", {**DISTILBERT, **THREE_LABELS}
    yield "distilbert over words", bert, "DistilBertForMaskedLM", {**DISTILBERT, "activation": "gelu_new"}
    yield "deberta", xlmr, "DebertaV2Model", DEBERTA
    yield "deberta with projections of positions and no buckets", xlmr, "DebertaV2Model", {
        **{k: v for k, v in DEBERTA.items() if k not in ("position_buckets", "layer_norm_eps", "pooler_hidden_size")},
        "hidden_size": 96, "num_attention_heads": 3, "num_hidden_layers": 2, "share_att_key": False,
        "pos_att_type": ["c2p", "p2c"], "norm_rel_ebd": "none", "position_biased_input": True, "type_vocab_size": 2,
        "max_relative_positions": 200, "max_position_embeddings": 700, "attention_head_size": 32,
    }
    yield "deberta reranker", xlmr, "DebertaV2ForSequenceClassification", {**DEBERTA, **ONE_LABEL}
    yield "deberta classifier", bert, "DebertaV2ForSequenceClassification", {
        **DEBERTA, **THREE_LABELS, "pooler_hidden_act": "tanh", "max_relative_positions": 300, "position_buckets": 32,
    }
    yield "roberta over words", xlmr, "XLMRobertaForMaskedLM", {
        "model_type": "xlm-roberta", **BERT_LIKE, "max_position_embeddings": 514, "layer_norm_eps": 1e-5,
        "type_vocab_size": 1, "hidden_act": "relu", "pad_token_id": 1,
    }
    yield from rotary_encoders()
    yield from decoders()


DECODER = {
    "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 112, "max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "hidden_act": "silu",
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


ROTARY_BERT = {**BERT_LIKE, "max_position_embeddings": 2048, "layer_norm_eps": 1e-12}
NOMIC = {
    "model_type": "nomic_bert", "n_embd": 64, "n_layer": 3, "n_head": 4, "n_inner": 112, "n_positions": 2048,
    "max_trained_positions": 2048, "layer_norm_epsilon": 1e-12, "activation_function": "swiglu", "qkv_proj_bias": False,
    "mlp_fc1_bias": False, "mlp_fc2_bias": False, "prenorm": False, "parallel_block": False, "causal": False,
    "use_rms_norm": False, "rotary_emb_base": 1000, "rotary_emb_fraction": 1.0, "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None, "rotary_scaling_factor": None, "type_vocab_size": 2, "use_flash_attn": True,
    "fused_bias_fc": True, "fused_dropout_add_ln": True, "dense_seq_output": True, "pad_vocab_size_multiple": 64,
    "scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "reorder_and_upcast_attn": False,
    "summary_type": "cls_index", "use_xentropy": True, "embd_pdrop": 0.1, "resid_pdrop": 0.0, "attn_pdrop": 0.0,
    "auto_map": {
        "AutoConfig": "nomic-ai/nomic-bert-2048--configuration_hf_nomic_bert.NomicBertConfig",
        "AutoModel": "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel",
    },
}
GTE = {"model_type": "gte", **ROTARY_BERT, "type_vocab_size": 1, "hidden_act": "gelu"}
NEW = {
    "position_embedding_type": "rope", "layer_norm_type": "layer_norm", "pack_qkv": True, "unpad_inputs": False,
    "logn_attention_scale": False, "logn_attention_clip1": False, "use_memory_efficient_attention": False,
    "auto_map": {"AutoConfig": "configuration.NewConfig", "AutoModel": "modeling.NewModel"},
}


def rotary_encoders():
    """As `networks`; where the reference reads other keys than the published ones, its own config comes last."""
    bert, xlmr = "bert-classifier", "xlmr-reranker"
    nomic = {"model_type": "nomic_bert", **ROTARY_BERT, "type_vocab_size": 2}
    yield "nomic", bert, "NomicBertModel", NOMIC, nomic
    yield "nomic with keys of transformers", bert, "NomicBertModel", {
        **nomic, "rope_parameters": {"rope_type": "default", "rope_theta": 5e3},
    }
    yield "nomic with scaled positions", bert, "NomicBertModel", {
        **nomic, "rope_scaling": {"type": "linear", "factor": 2.5},
    }
    yield "nomic classifier", bert, "NomicBertForSequenceClassification", {**nomic, **THREE_LABELS}
    yield "gte", xlmr, "GteModel", {**GTE, "rope_theta": 2e4}
    yield "gte without token types", bert, "GteModel", {**GTE, "type_vocab_size": 0, "hidden_act": "gelu_new"}
    yield "gte reranker", xlmr, "GteForSequenceClassification", {**GTE, **ONE_LABEL}
    yield "gte over words", bert, "GteForMaskedLM", {**GTE, "hidden_act": "relu"}
    scaled = {"model_type": "new", "rope_theta": 2e4, "rope_scaling": {"type": "ntk", "factor": 8.0}}
    yield "new", xlmr, "GteModel", {**GTE, **NEW, **scaled, "architectures": ["NewModel"]}, {**GTE, "rope_theta": 2e4}


def ntk(model, config):
    """Sets the frequencies of the authors' code, which transformers does not have."""
    theta, factor = config["rope_theta"], config["rope_scaling"]["factor"]
    size = config["hidden_size"] // config["num_attention_heads"]
    places = torch.arange(0, size, 2, dtype=torch.float64)
    frequencies = (theta * factor) ** (-places / size) / factor ** (2 / size)
    model.rotary_emb.inv_freq = frequencies.float()


# As nomic-embed-text-v2-moe.
EXPERTS = {
    **NOMIC, "n_layer": 4, "n_inner": 48, "activation_function": "gelu", "qkv_proj_bias": True, "mlp_fc1_bias": True,
    "mlp_fc2_bias": True, "rotary_emb_base": 10000.0, "layer_norm_epsilon": 1e-5, "type_vocab_size": 1, "num_experts": 5,
    "moe_top_k": 2, "moe_every_n_layers": 2, "moe_normalize_expert_weights": False, "moe_impl": "megablocks",
    "ffn_div": 1, "num_shared_experts": 0, "expert_choice_router": False, "moe_resid_pdrop": 0.0,
}


class Experts:
    """NomicBERT with experts, written token by token after the candle backend of text-embeddings-inference 1.9 and
    vLLM's NomicMoE: transformers has no code for it."""

    def __init__(self, config, weights):
        self.config, self.weights = config, weights

    @staticmethod
    def shapes(config):
        width, inner, experts = config["n_embd"], config["n_inner"], config["num_experts"]
        shapes = {
            "embeddings.word_embeddings.weight": [config["vocab_size"], width],
            "embeddings.token_type_embeddings.weight": [config["type_vocab_size"], width],
            "emb_ln.weight": [width], "emb_ln.bias": [width],
        }
        for index in range(config["n_layer"]):
            layer = {
                "attn.Wqkv.weight": [3 * width, width], "attn.Wqkv.bias": [3 * width],
                "attn.out_proj.weight": [width, width], "attn.out_proj.bias": [width],
                "norm1.weight": [width], "norm1.bias": [width], "norm2.weight": [width], "norm2.bias": [width],
            }
            if index % config["moe_every_n_layers"] == 1:
                layer |= {
                    "mlp.router.layer.weight": [experts, width], "mlp.experts.bias": [width],
                    "mlp.experts.mlp.w1": [experts * inner, width], "mlp.experts.mlp.w2": [experts * inner, width],
                }
            else:
                layer |= {
                    "mlp.fc1.weight": [inner, width], "mlp.fc1.bias": [inner],
                    "mlp.fc2.weight": [width, inner], "mlp.fc2.bias": [width],
                }
            shapes |= {f"encoder.layers.{index}.{name}": shape for name, shape in layer.items()}
        return shapes

    def norm(self, x, name):
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return torch.nn.functional.layer_norm(x, weight.shape, weight, bias, self.config["layer_norm_epsilon"])

    def linear(self, x, name):
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def attention(self, x, name):
        heads = self.config["n_head"]
        size = x.shape[1] // heads
        frequencies = self.config["rotary_emb_base"] ** (-torch.arange(0, size, 2) / size)
        angles = torch.arange(len(x))[:, None] * frequencies
        cos, sin = angles.cos(), angles.sin()

        def turned(x):
            first, second = x[:, : size // 2], x[:, size // 2 :]
            return torch.cat([first * cos - second * sin, second * cos + first * sin], 1)

        queries, keys, values = self.linear(x, f"{name}.Wqkv").chunk(3, 1)
        mixed = []
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            scores = turned(queries[:, part]) @ turned(keys[:, part]).T / size**0.5
            mixed.append(scores.softmax(1) @ values[:, part])
        return self.linear(torch.cat(mixed, 1), f"{name}.out_proj")

    def experts(self, x, name):
        inner = self.config["n_inner"]
        up, down = self.weights[f"{name}.experts.mlp.w1"], self.weights[f"{name}.experts.mlp.w2"]
        rows = []
        for token in x:
            weights = (self.weights[f"{name}.router.layer.weight"] @ token).softmax(0)
            row = self.weights[f"{name}.experts.bias"].clone()
            for expert in weights.topk(self.config["moe_top_k"]).indices.tolist():
                part = slice(expert * inner, (expert + 1) * inner)
                row += weights[expert] * (torch.nn.functional.gelu(up[part] @ token) @ down[part])
            rows.append(row)
        return torch.stack(rows)

    def __call__(self, ids):
        x = self.weights["embeddings.word_embeddings.weight"][ids] + self.weights["embeddings.token_type_embeddings.weight"][0]
        x = self.norm(x, "emb_ln")
        for index in range(self.config["n_layer"]):
            name = f"encoder.layers.{index}"
            x = self.norm(x + self.attention(x, f"{name}.attn"), f"{name}.norm1")
            if index % self.config["moe_every_n_layers"] == 1:
                wide = self.experts(x, f"{name}.mlp")
            else:
                wide = self.linear(torch.nn.functional.gelu(self.linear(x, f"{name}.mlp.fc1")), f"{name}.mlp.fc2")
            x = self.norm(x + wide, f"{name}.norm2")
        return x


# As jina-embeddings-v2-base-en.
JINA = {
    "model_type": "bert", **BERT_LIKE, "max_position_embeddings": 8192, "model_max_length": 8192, "type_vocab_size": 2,
    "layer_norm_eps": 1e-12, "position_embedding_type": "alibi", "feed_forward_type": "geglu", "emb_pooler": "mean",
    "hidden_act": "gelu", "pad_token_id": 0, "use_cache": True, "attn_implementation": None,
    "architectures": ["JinaBertModel"],
}


def jina_code(repository):
    return {"auto_map": {
        "AutoConfig": f"jinaai/{repository}--configuration_bert.JinaBertConfig",
        "AutoModel": f"jinaai/{repository}--modeling_bert.JinaBertModel",
        "AutoModelForMaskedLM": f"jinaai/{repository}--modeling_bert.JinaBertForMaskedLM",
    }}


class Jina:
    """Jina's BERT, written after the candle backend of text-embeddings-inference 1.9 and the authors' modeling_bert.py
    of jina-bert-v2-qk-post-norm: transformers has no code for it."""

    def __init__(self, config, weights):
        self.config, self.weights = config, weights
        self.is_normed = "encoder.layer.0.layer_norm_1.weight" in weights

    @staticmethod
    def shapes(config):
        width, inner = config["hidden_size"], config["intermediate_size"]
        shapes = {
            "embeddings.word_embeddings.weight": [config["vocab_size"], width],
            "embeddings.token_type_embeddings.weight": [config["type_vocab_size"], width],
            "embeddings.LayerNorm.weight": [width], "embeddings.LayerNorm.bias": [width],
        }
        is_normed = "qk-post-norm" in config.get("auto_map", {}).get("AutoModel", "")
        up, down = ("up_gated_layer", "down_layer") if is_normed else ("gated_layers", "wo")
        norms = ["attention.output.LayerNorm"] + (
            ["attention.self.layer_norm_q", "attention.self.layer_norm_k", "layer_norm_1", "layer_norm_2"]
            if is_normed else ["mlp.layernorm"]
        )
        for index in range(config["num_hidden_layers"]):
            layer = {f"mlp.{up}.weight": [2 * inner, width], f"mlp.{down}.weight": [width, inner], f"mlp.{down}.bias": [width]}
            for name in ["self.query", "self.key", "self.value", "output.dense"]:
                layer |= {f"attention.{name}.weight": [width, width], f"attention.{name}.bias": [width]}
            for name in norms:
                layer |= {f"{name}.weight": [width], f"{name}.bias": [width]}
            shapes |= {f"encoder.layer.{index}.{name}": shape for name, shape in layer.items()}
        return shapes

    def norm(self, x, name):
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return torch.nn.functional.layer_norm(x, weight.shape, weight, bias, self.config["layer_norm_eps"])

    def linear(self, x, name):
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def slopes(self):
        def even(count):
            return [2 ** (-8 * (place + 1) / count) for place in range(count)]

        heads = self.config["num_attention_heads"]
        whole = 2 ** int(numpy.log2(heads))
        return even(whole) + even(2 * whole)[0::2][: heads - whole]

    def attention(self, x, name):
        heads = self.config["num_attention_heads"]
        size = x.shape[1] // heads
        queries, keys, values = (self.linear(x, f"{name}.self.{part}") for part in ["query", "key", "value"])
        if self.is_normed:
            queries = self.norm(queries, f"{name}.self.layer_norm_q")
            keys = self.norm(keys, f"{name}.self.layer_norm_k")
        places = torch.arange(len(x))
        distances = (places[:, None] - places[None, :]).abs()
        mixed = []
        for head, slope in enumerate(self.slopes()):
            part = slice(head * size, (head + 1) * size)
            scores = queries[:, part] @ keys[:, part].T / size**0.5 - slope * distances
            mixed.append(scores.softmax(1) @ values[:, part])
        return self.linear(torch.cat(mixed, 1), f"{name}.output.dense")

    def mlp(self, x, name):
        if self.is_normed:
            value, gate = (x @ self.weights[f"{name}.mlp.up_gated_layer.weight"].T).chunk(2, 1)
        else:
            gate, value = (x @ self.weights[f"{name}.mlp.gated_layers.weight"].T).chunk(2, 1)
        act = {"geglu": torch.nn.functional.gelu, "reglu": torch.relu}[self.config["feed_forward_type"]]
        return self.linear(value * act(gate), f"{name}.mlp." + ("down_layer" if self.is_normed else "wo"))

    def __call__(self, ids):
        x = self.weights["embeddings.word_embeddings.weight"][ids] + self.weights["embeddings.token_type_embeddings.weight"][0]
        x = self.norm(x, "embeddings.LayerNorm")
        for index in range(self.config["num_hidden_layers"]):
            name = f"encoder.layer.{index}"
            inner = self.norm(x + self.attention(x, f"{name}.attention"), f"{name}.attention.output.LayerNorm")
            if self.is_normed:
                x = self.norm(x + inner, f"{name}.layer_norm_1")
                x = self.norm(x + self.mlp(x, name), f"{name}.layer_norm_2")
            else:
                x = self.norm(inner + self.mlp(inner, name), f"{name}.mlp.layernorm")
        return x


def by_formula():
    """Name, tokenizer, network, config: networks without a reference implementation."""
    yield "nomic with experts", "xlmr-reranker", Experts, {**EXPERTS, "architectures": ["NomicBertModel"]}
    yield "jina", "bert-classifier", Jina, {**JINA, **jina_code("jina-bert-implementation")}
    yield "jina with six heads and without its code", "bert-classifier", Jina, {
        **JINA, "hidden_size": 96, "num_attention_heads": 6, "feed_forward_type": "reglu",
    }
    yield "jina for code", "bert-classifier", Jina, {**JINA, **jina_code("jina-bert-v2-qk-post-norm")}


def module(path, kind):
    return {"idx": 0, "name": path or "0", "path": path, "type": kind}


STATIC = "sentence_transformers.models.StaticEmbedding"
END = module("9_Normalize", "sentence_transformers.models.Normalize")


def by_chain():
    """Name, tokenizer, files, tensors of a table of vectors: run by sentence-transformers as a whole."""
    yield "static", "bert-classifier", {"modules.json": [module("", STATIC)]}, ["embedding.weight"]
    yield "static of model2vec", "xlmr-reranker", {
        "modules.json": [module("", STATIC), END],
        "config.json": {"model_type": "model2vec", "architectures": ["StaticModel"], "normalize": True, "hidden_dim": 48},
        "config_sentence_transformers.json": {"prompts": {"query": "search: "}, "default_prompt_name": "query"},
    }, ["embeddings", "weights"]


def chain_answers(folder, prompt):
    model = SentenceTransformer(str(folder), device="cpu")
    for text in TEXTS:
        features = model[0].preprocess([text], prompt=prompt)
        ids = features["input_ids"].tolist()
        with torch.no_grad():
            # Before Normalize, which requests may leave out.
            vector = model[0](features)["sentence_embedding"][0]
        yield {"text": text, "limit": TOKENS_MAX * 10, "ids": ids, "vector": packed(vector)}


def formula_answers(folder, network, config, tensors):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    run = network(config, {name: numbers(*how) for name, how in tensors.items()})
    for text in TEXTS:
        ids = tokenizer(text, truncation=True, max_length=TOKENS_MAX)["input_ids"]
        hidden = run(torch.tensor(ids))
        yield {"text": text, "limit": TOKENS_MAX, "ids": ids, **pooled(hidden)}


def pooled(hidden):
    return {"cls": packed(hidden[0]), "mean": packed(hidden.mean(0)), "last_token": packed(hidden[-1])}


def decoders():
    """As `networks`."""
    tokens = "modernbert-reranker-cls"
    qwen2 = {"model_type": "qwen2", **DECODER, "rope_theta": 1e6, "use_sliding_window": False, "sliding_window": 64}
    yield "qwen2", tokens, "Qwen2Model", {**qwen2, "max_window_layers": 2}
    yield "qwen2 with a language head and full attention", tokens, "Qwen2ForCausalLM", {
        **qwen2, "is_causal": False, "tie_word_embeddings": True,
    }
    yield "qwen2 with as many keys as heads", tokens, "Qwen2Model", {**qwen2, "num_key_value_heads": None}
    yield "qwen2 reranker", tokens, "Qwen2ForSequenceClassification", {**qwen2, **ONE_LABEL, "pad_token_id": 1}
    llama = {"model_type": "llama", **DECODER, "rope_theta": 5e5}
    yield "llama", tokens, "LlamaModel", {**llama, "rope_scaling": LLAMA3}
    yield "llama with heads of another size, biases and full attention", tokens, "LlamaModel", {
        **llama, "head_dim": 24, "attention_bias": True, "is_causal": False, "num_key_value_heads": 4,
    }
    yield "llama by default", tokens, "LlamaModel", {
        **{k: v for k, v in DECODER.items() if k not in ("num_key_value_heads", "rms_norm_eps")}, "model_type": "llama",
    }
    yield "llama, linear", tokens, "LlamaModel", {**llama, "rope_scaling": {"type": "linear", "factor": 2.5}}
    yield "llama, yarn", tokens, "LlamaModel", {**llama, "rope_parameters": {**YARN, "rope_theta": 1e4}}
    yield "llama, yarn with scales", tokens, "LlamaModel", {
        **llama,
        "rope_parameters": {**YARN, "mscale": 0.7, "mscale_all_dim": 1.2, "beta_fast": 16, "beta_slow": 2, "truncate": False},
    }
    yield "mistral", tokens, "MistralModel", {"model_type": "mistral", **DECODER, "rope_theta": 1e4, "sliding_window": 200}
    yield "ministral3", tokens, "Ministral3Model", {
        "model_type": "ministral3", **DECODER, "head_dim": 32,
        "rope_parameters": {**YARN, "rope_theta": 1e6, "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1},
    }
    gemma = {
        **{k: v for k, v in DECODER.items() if k != "hidden_act"}, "model_type": "gemma3_text", "num_hidden_layers": 4,
        "num_key_value_heads": 1, "head_dim": 32, "hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": 24,
        "sliding_window": 65, "attn_logit_softcapping": None, "final_logit_softcapping": None,
    }
    old = {"rope_theta": 1e6, "rope_local_base_freq": 1e4, "rope_scaling": None, "sliding_window_pattern": 3}
    types = ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"]
    yield "gemma3 with full attention", tokens, "Gemma3TextModel", {
        **gemma, **old, "sliding_window": 64, "use_bidirectional_attention": True,
    }
    yield "gemma3", tokens, "Gemma3TextModel", {**gemma, **old}
    yield "gemma3 with a language head, biases and scaled positions", tokens, "Gemma3ForCausalLM", {
        **gemma, "layer_types": types, "attention_bias": True, "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    }
    yield "gemma3 with keys of transformers", tokens, "Gemma3TextModel", {
        **gemma, "layer_types": types, "use_bidirectional_attention": True, "query_pre_attn_scalar": 32,
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 5e5}, "sliding_attention": {"rope_type": "default"},
        },
    }
    yield "gemma3 classifier", tokens, "Gemma3TextForSequenceClassification", {**gemma, **old, **THREE_LABELS}
    yield from later_decoders(llama)
    yield from embedding_gemmas()


def later_decoders(llama):
    tokens = "modernbert-reranker-cls"
    special = {"pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 1, "mask_token_id": 4}
    eurobert = {"model_type": "eurobert", **DECODER, **special, "rope_theta": 2.5e5, "clf_pooling": "late"}
    yield "eurobert", tokens, "EuroBertModel", {**eurobert, "rope_scaling": None}
    yield "eurobert by default", tokens, "EuroBertModel", {
        **{k: v for k, v in DECODER.items() if k not in ("num_key_value_heads", "rms_norm_eps", "hidden_act")},
        **special, "model_type": "eurobert", "attention_bias": True,
    }
    for pooling in ["late", "bos", "mean"]:
        yield f"eurobert classifier, {pooling}", tokens, "EuroBertForSequenceClassification", {
            **eurobert, **THREE_LABELS, "classifier_pooling": pooling,
        }
    yield "eurobert over words", tokens, "EuroBertForMaskedLM", eurobert
    yield "eurobert over words, tied", tokens, "EuroBertForMaskedLM", {**eurobert, "tie_word_embeddings": True}
    gemma = {"model_type": "gemma", **DECODER, "head_dim": 24, "hidden_act": "gelu", "rope_theta": 1e4}
    yield "gemma", tokens, "GemmaModel", {**gemma, "hidden_activation": "gelu_pytorch_tanh"}
    yield "gemma with full attention and a language head", tokens, "GemmaForCausalLM", {**gemma, "is_causal": False}
    yield "gemma classifier", tokens, "GemmaForSequenceClassification", {**gemma, **THREE_LABELS}
    qwen3 = {**llama, "model_type": "qwen3", "head_dim": 32, "attention_bias": False}
    yield "qwen3, yarn", tokens, "Qwen3Model", {**qwen3, "rope_scaling": YARN}
    yield "qwen3, llama3 and full attention", tokens, "Qwen3Model", {**qwen3, "rope_scaling": LLAMA3, "is_causal": False}
    full = {**qwen3, "is_causal": False, "num_labels": 96}
    yield "voyage", tokens, "Voyage", {
        **qwen3, "architectures": ["Qwen3BidirectionalModel"], "num_labels": 96, "use_bidirectional_attention": True,
        "auto_map": {"AutoModel": "modeling_qwen3_bidirectional.Qwen3BidirectionalModel"},
    }, full
    yield "pplx", tokens, "Qwen3Model", {
        **qwen3, "model_type": "bidirectional_pplx_qwen3", "architectures": ["PPLXQwen3Model"],
        "use_bidirectional_attention": True,
        "auto_map": {"AutoConfig": "configuration.PPLXQwen3Config", "AutoModel": "modeling.PPLXQwen3Model"},
    }, {**qwen3, "is_causal": False}


EMBEDDING_GEMMA2 = {
    "model_type": "embedding_gemma2_text", "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 32, "intermediate_size": 112, "hidden_activation": "gelu_pytorch_tanh",
    "max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "sliding_window": 65, "attention_bias": False,
    "hidden_size_per_layer_input": 24, "embedding_dim": 80,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
    "per_layer_config": {"1": {"head_dim": 48, "num_key_value_heads": 1}, "3": {"head_dim": 48, "num_key_value_heads": 1}},
    "rope_parameters": {
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        "full_attention": {"rope_type": "default", "rope_theta": 1e6},
    },
}


def embedding_gemmas():
    """As `networks`."""
    tokens = "modernbert-reranker-cls"
    towers = {"vision_config": None, "audio_config": None, "image_token_id": 9001, "video_token_id": 9002, "audio_token_id": 9003}
    yield "embedding_gemma2", tokens, "EmbeddingGemma2Model", {
        "model_type": "embedding_gemma2", **towers, "text_config": EMBEDDING_GEMMA2,
    }
    yield "embedding_gemma2, texts alone", tokens, "EmbeddingGemma2TextModel", {
        **EMBEDDING_GEMMA2, "attention_bias": True, "num_hidden_layers": 3, "hidden_activation": "gelu",
        "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
        "per_layer_config": {"0": {"head_dim": 16}, "2": {"head_dim": 16}},
    }


class Voyage(transformers.Qwen3PreTrainedModel):
    """As `modeling_qwen3_bidirectional.py` of voyage-4-nano, whose mask transformers makes of `is_causal` now."""

    def __init__(self, config):
        super().__init__(config)
        self.model = transformers.Qwen3Model(config)
        self.linear = torch.nn.Linear(config.hidden_size, config.num_labels, bias=False)
        self.post_init()

    def forward(self, **inputs):
        outputs = self.model(**inputs)
        outputs.last_hidden_state = self.linear(outputs.last_hidden_state)
        return outputs


transformers.Voyage = Voyage


CROSS_ENCODER = {"model_type": "CrossEncoder", "activation_fn": "torch.nn.modules.linear.Identity"}
LOGITS = {"method": "forward", "method_output_name": "logits"}
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
STRUCTURED = (
    "{%- set query = messages | selectattr('role', 'eq', 'query') | first -%}\n"
    "{%- set document = messages | selectattr('role', 'eq', 'document') | first -%}\n"
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ messages[0].content[0].text.strip() }}: {% endif %}"
    "Query {{ query.content[0].text }} Document {{ document.content[0].text }} Relevant:"
)


def rerankers():
    """Name, tokenizer, class, config, files, prompt: causal language models as cross-encoders."""
    llama = {"model_type": "llama", **DECODER, "rope_theta": 5e5}
    qwen = {**llama, "model_type": "qwen2"}

    def files(template, yes, no, chat=None):
        length = {"transformer_task": "text-generation", "module_output_name": "causal_logits"}
        length["modality_config"] = {"text": LOGITS, "message": {**LOGITS, "format": "auto"}}
        if chat:
            length["processing_kwargs"] = {"chat_template": chat}
        modules = [
            module("", "sentence_transformers.base.modules.transformer.Transformer"),
            module("1_LogitScore", "sentence_transformers.cross_encoder.modules.logit_score.LogitScore"),
        ]
        return {
            "modules.json": modules, "sentence_bert_config.json": length, "chat_template.jinja": template,
            "config_sentence_transformers.json": CROSS_ENCODER,
            "1_LogitScore/config.json": {"true_token_id": yes, "false_token_id": no, "module_input_name": "causal_logits"},
        }

    tokens, generates = "modernbert-reranker-cls", {"add_generation_prompt": True}
    yield "qwen2 reranker in a chat", tokens, "Qwen2ForCausalLM", qwen, files(CHATML, 40, 30, generates), None
    yield "llama reranker in a chat, one logit", tokens, "LlamaForCausalLM", llama, files(CHATML, 40, None), "Rank this."
    tied = {**llama, "model_type": "qwen3", "head_dim": 32, "tie_word_embeddings": True}
    yield "qwen3 reranker in a chat of its own", tokens, "Qwen3ForCausalLM", tied, files(CHATML, 41, 31, generates), None
    gemma = {"model_type": "gemma", **DECODER, "head_dim": 24, "hidden_act": "gelu"}
    chat = files(STRUCTURED, 42, 32)
    yield "gemma reranker in a chat of parts", "xlmr-reranker", "GemmaForCausalLM", gemma, chat, " Judge it "
    gemma3 = {
        **{k: v for k, v in DECODER.items() if k != "hidden_act"}, "model_type": "gemma3_text", "head_dim": 32,
        "query_pre_attn_scalar": 24, "sliding_window": 64, "final_logit_softcapping": None,
    }
    yield "gemma3 reranker in a chat", "xlmr-reranker", "Gemma3ForCausalLM", gemma3, chat, None


def reranker_answers(folder, prompt):
    model = CrossEncoder(str(folder), device="cpu")
    # Of long pairs, what the template ends in is kept.
    for limit in [TOKENS_MAX, 60]:
        model[0].tokenizer.model_max_length = limit
        for pair in PAIRS:
            ids = model.preprocess([pair], prompt=prompt)["input_ids"][0].tolist()
            score = model.predict([pair], prompt=prompt, show_progress_bar=False)
            yield {"text": pair, "limit": limit, "ids": ids, "prompt": prompt, "logits": packed(torch.tensor(score))}


def parts_of_mxbai(tokenizer, query, document, instruction):
    """The ids of a pair after `mxbai_rerank_v2.py` of mxbai-rerank 0.1.6, for pairs that need not be cut."""
    def ids(text):
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    before = "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    task = (
        "You are a search relevance expert who evaluates how well documents match search queries. For each query-document "
        "pair, carefully analyze the semantic relationship between them, then provide your binary relevance judgment "
        "(0 for not relevant, 1 for relevant).\nRelevance:"
    )
    query = f"query: {query}"
    if instruction:
        query = f"instruction: {instruction}\n{query}"
    pair = ids(query) + ids("\n") + ids(f"document: {document}")
    return ids(before) + pair + ids("\n") + ids(task) + ids("<|im_end|>\n<|im_start|>assistant\n")


def parts_of_gemma(tokenizer, query, document, _):
    """The ids of a pair after `FlagLLMReranker` of FlagEmbedding 1.4, for pairs that need not be cut."""
    def ids(text):
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    task = (
        "Given a query A and a passage B, determine whether the passage contains an answer to the query by providing a "
        "prediction of either 'Yes' or 'No'."
    )
    pair = [tokenizer.bos_token_id, *ids(f"A: {query}"), *ids("\n"), *ids(f"B: {document}")]
    return pair + ids("\n") + ids(task)


def chat_of_zerank(tokenizer, query, document, instruction):
    """The ids of a pair after vLLM's `zerank2.jinja`."""
    if instruction:
        query = f"<query>{query}</query>\n<instruction>{instruction}</instruction>"
    chat = f"<|im_start|>system\n{query}<|im_end|>\n<|im_start|>user\n{document}<|im_end|>\n<|im_start|>assistant\n"
    return tokenizer(chat, add_special_tokens=False)["input_ids"]


def known_rerankers():
    """Name, tokenizer, class, config, ids of a pair, words, divisor, instruction: known by their names."""
    llama = {**DECODER, "rope_theta": 5e5, "tie_word_embeddings": True}
    mxbai = {**llama, "model_type": "qwen2", "_name_or_path": "mixedbread-ai/mxbai-rerank-base-v2"}
    tokens = "modernbert-reranker-cls"
    yield "mxbai-rerank", tokens, "Qwen2ForCausalLM", mxbai, parts_of_mxbai, ("1", "0"), 1, None
    yield "mxbai-rerank with an instruction", tokens, "Qwen2ForCausalLM", mxbai, parts_of_mxbai, ("1", "0"), 1, "Find it."
    gemma = {"model_type": "gemma", **DECODER, "head_dim": 24, "_name_or_path": "BAAI/bge-reranker-v2-gemma"}
    yield "bge-reranker of gemma", "xlmr-reranker", "GemmaForCausalLM", gemma, parts_of_gemma, ("Yes", None), 1, None
    zerank = {**llama, "model_type": "qwen3", "head_dim": 32, "_name_or_path": "zeroentropy/zerank-1-small"}
    yield "zerank", tokens, "Qwen3ForCausalLM", zerank, chat_of_zerank, ("Yes", None), 5, "Rank it."


def known_answers(folder, kind, ids_of, words, divisor, instruction):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = getattr(transformers, kind).from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    for pair in PAIRS:
        ids = ids_of(tokenizer, *pair, instruction)
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, -1]
        yes, no = (word and tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in words)
        score = (logits[yes] - (0 if no is None else logits[no])) / divisor
        limit = model.config.max_position_embeddings
        yield {"text": pair, "limit": limit, "ids": ids, "prompt": instruction, "logits": packed(score[None])}


def numbers(shape, seed, scale, middle):
    """Numbers from middle - scale to middle + scale, the same in every language."""
    count = int(numpy.prod(shape))
    x = (numpy.arange(count, dtype=numpy.uint64) * 2654435761 + seed * 40503) % 2**32
    x ^= x >> 15
    x = x * 2246822519 % 2**32
    x ^= x >> 13
    values = (x.astype(numpy.float64) / 2**32 * 2 - 1) * scale + middle
    return torch.tensor(values.astype(numpy.float32)).reshape(shape)


def spread(name, shape):
    """Scale and middle of a tensor: such that every part of the network matters."""
    if len(shape) == 1 and ("norm" in name.lower()) and name.endswith("weight"):
        return 0.4, 1.0
    if len(shape) == 1:
        return 0.3, 0.0
    if "relative_attention_bias" in name:
        return 2.0, 0.0
    if "embed" in name:
        return 1.0, 0.0
    return 2.2 / shape[-1] ** 0.5, 0.0


def copy_tokenizer(folder, tokenizer, config):
    """Copies a tokenizer; the config with the size of its vocabulary."""
    source = ROOT / "tests/golden/scores" / tokenizer
    shutil.copy(source / "tokenizer.json", folder)
    settings = json.loads((source / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "model_max_length": 4096}))
    size = len(AutoTokenizer.from_pretrained(folder))
    if "text_config" in config:
        return {**config, "text_config": {**config["text_config"], "vocab_size": size}}
    return {**config, "vocab_size": size}


def spread_of(shapes):
    """Tensors as [shape, seed, scale, middle] by name."""
    return {name: [shape, seed, *spread(name, shape)] for seed, (name, shape) in enumerate(sorted(shapes.items()))}


def write(folder, tokenizer, kind, config):
    """The checkpoint as the reference reads it, and its tensors."""
    config = copy_tokenizer(folder, tokenizer, {"architectures": [kind], **config})
    (folder / "config.json").write_text(json.dumps(config))
    made = getattr(transformers, kind)(transformers.AutoConfig.from_pretrained(folder))
    with tempfile.TemporaryDirectory() as saved:
        made.save_pretrained(saved)
        with safe_open(pathlib.Path(saved) / "model.safetensors", "pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}
    tensors = spread_of(shapes)
    if "gemma2" in config["model_type"]:
        # Scores are not divided by anything there: heads of length one or two, as trained ones have.
        for name, how in tensors.items():
            if "q_norm" in name or "k_norm" in name:
                how[2:] = 0.1, 0.35
            elif name.endswith("layer_scalar"):
                how[2:] = 0.4, 1.0
    save_file({name: numbers(*how) for name, how in tensors.items()}, folder / "model.safetensors")
    return config, tensors


def answers(folder, kind, published):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model, loaded = getattr(transformers, kind).from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32, output_loading_info=True
    )
    pooler = {name for name in loaded["missing_keys"] if "pooler" in name}
    assert not loaded["missing_keys"] - pooler and not loaded["unexpected_keys"], loaded
    model.eval()
    if (published.get("rope_scaling") or {}).get("type") == "ntk":
        ntk(model, published)
    limit = min(model.config.get_text_config().max_position_embeddings - 14, TOKENS_MAX)
    if model.config.model_type == "ministral3":
        # Up to there, the scaling of queries changes nothing.
        limit = YARN["original_max_position_embeddings"]
    inputs = PAIRS if kind.endswith("SequenceClassification") else TEXTS
    for text in inputs:
        pair = (text,) if isinstance(text, str) else text
        encoded = tokenizer(*pair, return_tensors="pt", truncation=True, max_length=limit)
        with torch.no_grad():
            network = model.model if kind.endswith("ForCausalLM") else model
            out = network(**encoded)
        case = {"text": text, "limit": limit, "ids": encoded["input_ids"][0].tolist()}
        if kind.endswith("SequenceClassification"):
            case["logits"] = packed(out.logits[0])
        elif kind.endswith("MaskedLM"):
            case["words"] = packed(torch.log1p(torch.relu(out.logits[0])).max(0).values)
        else:
            case |= pooled(out.last_hidden_state[0])
        yield case


def quantised(network):
    """The network with the modules of pplx-embed, and the vectors that they give (`st_quantize.py` beside the model)."""
    for case in network["cases"]:
        mean = torch.frombuffer(bytearray(base64.b64decode(case.pop("mean"))), dtype=torch.float32)
        wide = torch.tanh(mean) * 127
        # So that other orders of summing round to the same numbers.
        assert ((wide - wide.floor() - 0.5).abs() > 2e-4).all()
        del case["cls"], case["last_token"]
        case["vector"] = packed(wide.round().clamp(-128, 127))
    pooling = {"word_embedding_dimension": 64, "pooling_mode_mean_tokens": True}
    modules = [
        module("", "sentence_transformers.models.Transformer"), module("1_Pooling", "sentence_transformers.models.Pooling"),
        {**module("", "st_quantize.FlexibleQuantizer"), "name": "2", "kwargs": ["quantization"]},
    ]
    return {**network, "files": {"modules.json": modules, "1_Pooling/config.json": pooling}}


def packed(values):
    return base64.b64encode(values.numpy().astype("<f4").tobytes()).decode()


def main():
    torch.manual_seed(0)
    wanted = sys.argv[1:]
    kept = json.loads(OUT.read_text())["networks"] if wanted else []
    made = [one for one in kept if one["name"] not in wanted]
    for name, tokenizer, kind, published, *own in networks():
        if wanted and name not in wanted:
            continue
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            config, tensors = write(folder, tokenizer, kind, own[0] if own else published)
            published = config if not own else {
                "architectures": [kind], **published, "vocab_size": config["vocab_size"],
            }
            cases = list(answers(folder, kind, published))
        one = {"name": name, "tokenizer": tokenizer, "config": published, "tensors": tensors, "cases": cases}
        made.append(quantised(one) if name == "pplx" else one)
        print(name, len(tensors), "tensors")
    for name, tokenizer, network, config in by_formula():
        if wanted and name not in wanted:
            continue
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            config = copy_tokenizer(folder, tokenizer, config)
            (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
            tensors = spread_of(network.shapes(config))
            cases = list(formula_answers(folder, network, config, tensors))
        made.append({"name": name, "tokenizer": tokenizer, "config": config, "tensors": tensors, "cases": cases})
        print(name, len(tensors), "tensors")
    for name, tokenizer, files, names in by_chain():
        if wanted and name not in wanted:
            continue
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            vocabulary = copy_tokenizer(folder, tokenizer, {})["vocab_size"]
            tensors = spread_of({name: [vocabulary] if name == "weights" else [vocabulary, 48] for name in names})
            for path, content in files.items():
                (folder / path).write_text(json.dumps(content))
            save_file({name: numbers(*how) for name, how in tensors.items()}, folder / "model.safetensors")
            settings = files.get("config_sentence_transformers.json", {})
            prompt = settings.get("prompts", {}).get(settings.get("default_prompt_name"), "")
            cases = list(chain_answers(folder, prompt))
        made.append({"name": name, "tokenizer": tokenizer, "files": files, "tensors": tensors, "cases": cases})
        print(name, len(tensors), "tensors")
    for name, tokenizer, kind, config, files, prompt in rerankers():
        if wanted and name not in wanted:
            continue
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            config, tensors = write(folder, tokenizer, kind, config)
            for path, content in files.items():
                (folder / path).parent.mkdir(exist_ok=True)
                (folder / path).write_text(content if isinstance(content, str) else json.dumps(content))
            cases = list(reranker_answers(folder, prompt))
        made.append({
            "name": name, "tokenizer": tokenizer, "config": config, "files": files, "task": "rerank", "tensors": tensors,
            "cases": cases,
        })
        print(name, len(tensors), "tensors")
    for name, tokenizer, kind, config, *how in known_rerankers():
        if wanted and name not in wanted:
            continue
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            config, tensors = write(folder, tokenizer, kind, config)
            cases = list(known_answers(folder, kind, *how))
        made.append({
            "name": name, "tokenizer": tokenizer, "config": config, "task": "rerank", "tensors": tensors, "cases": cases,
        })
        print(name, len(tensors), "tensors")
    every = [*networks(), *by_formula(), *by_chain(), *rerankers(), *known_rerankers()]
    order = [name for name, *_ in every]
    made.sort(key=lambda one: order.index(one["name"]))
    about = {"transformers": transformers.__version__, "torch": torch.__version__}
    lines = ",\n".join(json.dumps(one, ensure_ascii=False) for one in made)
    OUT.write_text(f'{{"made_with": {json.dumps(about)}, "networks": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
