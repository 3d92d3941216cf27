"""The rows of every peer."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Variant:
    """One row of a peer: its name, the worker's engine and dtype, the export it needs, how it is set."""

    name: str
    dtype: str
    export: str
    how: str


VARIANTS: dict[str, tuple[Variant, ...]] = {
    "sentence-transformers": (
        Variant("sentence-transformers", "float32", "", "`SentenceTransformer.encode`, `dtype=float32`"),
        Variant("sentence-transformers", "bfloat16", "", "`SentenceTransformer.encode`, `dtype=bfloat16`"),
    ),
    "openvino": (
        Variant("OpenVINO", "float32", "openvino", "`PERFORMANCE_HINT=LATENCY INFERENCE_PRECISION_HINT=f32`"),
        Variant("OpenVINO", "bfloat16", "openvino", "`PERFORMANCE_HINT=LATENCY INFERENCE_PRECISION_HINT=bf16`"),
    ),
    "onnxruntime": (
        Variant("ONNX Runtime", "float32", "onnx", "`CPUExecutionProvider`"),
        Variant("ONNX Runtime", "int8", "onnx-int8", "`CPUExecutionProvider`, `quantize_dynamic`, int8 by channel"),
    ),
    "llama.cpp": (
        Variant("llama.cpp", "bf16", "bf16", "`python -m llama_cpp.server --embedding true`, GGUF of bf16"),
        Variant("llama.cpp", "q8_0", "q8_0", "`python -m llama_cpp.server --embedding true`, GGUF of q8_0"),
    ),
}

# The one that all vectors are compared with.
REFERENCE = VARIANTS["sentence-transformers"][0]
