"""What the client tests share: the server's address, the golden vectors and the golden logits."""

import base64
import json
import os
import pathlib

import numpy
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def address():
    return os.environ["PROXIMA_ADDRESS"]


@pytest.fixture(scope="session")
def golden():
    """Texts and vectors of the reference implementation, without prompts or limits."""
    cases = json.loads((ROOT / "tests/golden/minilm.json").read_text())["cases"]
    plain = [case for case in cases if not (case.keys() & {"prompt", "instruction", "tokens_max", "pooling"})]
    vectors = [numpy.frombuffer(base64.b64decode(case["vector"]), dtype="<f4") for case in plain]
    return {
        "texts": [case["text"] for case in plain],
        "vectors": numpy.stack(vectors),
        "tokens": [len(case["tokens"]) for case in plain],
    }


def scored(checkpoint):
    """Pairs of a query and a document, with logits of the reference implementation."""
    return json.loads((ROOT / "tests/golden/scores" / checkpoint / "answers.json").read_text())["cases"]


def cosines(first, second):
    first, second = numpy.asarray(first, dtype=float), numpy.asarray(second, dtype=float)
    lengths = numpy.linalg.norm(first, axis=-1) * numpy.linalg.norm(second, axis=-1)
    return (first * second).sum(axis=-1) / lengths


@pytest.fixture(scope="session")
def grpc_address():
    return os.environ["PROXIMA_GRPC_ADDRESS"]
