"""Writes a checkpoint as another engine reads it: `exports.py KIND MODEL TARGET`.

KIND is `openvino` (float32), `onnx` (float32), or `onnx-int8` (dynamic; MODEL is then the file that `onnx`
wrote). Runs in the peers' environment. Batch and length stay free. The network gives the last hidden
states; a causal one needs no mask, as padding stands on the right.
"""

import sys

import torch
from transformers import AutoModel, AutoTokenizer


class Network(torch.nn.Module):
    """The transformer alone, from ids (and mask) to the last hidden states."""

    def __init__(self, model: torch.nn.Module, causal: bool) -> None:
        super().__init__()
        self.model, self.causal = model, causal

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        if self.causal:
            masks = {"full_attention": None}
            return self.model(input_ids=input_ids, attention_mask=masks, use_cache=False).last_hidden_state
        return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


def network(path: str) -> tuple[Network, dict[str, torch.Tensor]]:
    """The network, and inputs to trace it with."""
    model = AutoModel.from_pretrained(path, dtype=torch.float32, attn_implementation="sdpa")
    causal = model.config.model_type == "qwen3"
    tokenizer = AutoTokenizer.from_pretrained(path, padding_side="right")
    inputs = tokenizer(["one of three texts", "two", "the last of them"], padding=True, return_tensors="pt")
    names = ["input_ids"] if causal else ["input_ids", "attention_mask"]
    return Network(model, causal).eval(), {name: inputs[name] for name in names}


def openvino(path: str, target: str) -> None:
    import openvino as ov

    model, inputs = network(path)
    ov.save_model(ov.convert_model(model, example_input=inputs), target, compress_to_fp16=False)


def onnx(path: str, target: str) -> None:
    model, inputs = network(path)
    free = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    torch.onnx.export(
        model,
        (),
        target,
        kwargs=inputs,
        input_names=list(inputs),
        output_names=["hidden"],
        dynamic_shapes={name: free for name in inputs},
        opset_version=20,
        dynamo=True,
    )


def onnx_int8(source: str, target: str) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        source,
        target,
        weight_type=QuantType.QInt8,
        per_channel=True,
        op_types_to_quantize=["MatMul"],
        use_external_data_format=True,
        extra_options={"MatMulConstBOnly": True},
    )


if __name__ == "__main__":
    kind, given, target = sys.argv[1:]
    {"openvino": openvino, "onnx": onnx, "onnx-int8": onnx_int8}[kind](given, target)
