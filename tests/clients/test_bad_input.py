"""Whatever is sent, the answer is a clear error of the right kind, and the server lives on."""

import base64
import json

import numpy
import pytest
import requests


def post(address, path, body):
    if not isinstance(body, (bytes, str)):
        body = json.dumps(body)
    return requests.post(address + path, data=body, headers={"content-type": "application/json"})


@pytest.fixture(autouse=True)
def lives_on(address):
    yield
    assert requests.get(address + "/readyz").status_code == 200


@pytest.mark.parametrize(
    "body, status, says",
    [
        ("{", 400, "JSON"),
        ('{"inputs": 5}', 422, "expected a string"),
        ('{"inputs": [1.5]}', 422, "expected"),
        ('{"inputs": [-1]}', 422, "expected"),
        ("{}", 422, "inputs"),
        ('{"inputs": []}', 400, "empty"),
        ('{"inputs": "a", "dimensions": 0}', 422, "between 1 and 384"),
        ('{"inputs": "a", "dimensions": 385}', 422, "between 1 and 384"),
        ('{"inputs": "a", "encoding_format": "int4"}', 422, "ubinary"),
        ('{"inputs": "a", "prompt_name": "query"}', 422, "defines no prompts"),
        ('{"inputs": "a", "model": "other"}', 404, "served: all-MiniLM-L6-v2"),
        ('{"inputs": [[30522]]}', 422, "outside the vocabulary"),
        (b'{"inputs": "\xff"}', 400, "JSON"),
        pytest.param("[" * 100_000, 422, "JSON", id="deep"),
    ],
)
def test_embed(address, body, status, says):
    answer = post(address, "/embed", body)
    assert answer.status_code == status, answer.text
    error = answer.json()
    assert says in error["error"] and error["error_type"] in ("Validation", "Empty"), error


@pytest.mark.parametrize(
    "body, status, says",
    [
        ("{", 400, "JSON"),
        ('{"input": null}', 400, "expected"),
        ('{"input": []}', 400, "empty"),
        ('{"input": "a", "dimensions": 0}', 400, "between 1 and 384"),
        ('{"input": "a", "encoding_format": "hex"}', 400, "base64"),
        ('{"input": "a", "model": "other"}', 404, "served"),
    ],
)
def test_openai(address, body, status, says):
    answer = post(address, "/v1/embeddings", body)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert says in error["message"] and error["type"] == "invalid_request_error", error


def test_a_text_longer_than_the_limit(address):
    text = "word " * 1000
    assert post(address, "/embed", {"inputs": text}).status_code == 200
    refused = post(address, "/embed", {"inputs": text, "truncate": False})
    assert refused.status_code == 422 and "1002 tokens" in refused.json()["error"]
    assert post(address, "/v1/embeddings", {"input": text, "truncate": False}).status_code == 400


def test_ten_megabytes_of_text(address):
    answer = post(address, "/embed", {"inputs": "word " * 2_000_000})
    assert answer.status_code == 422 and "10000000 bytes" in answer.json()["error"]


def test_a_body_above_the_limit(address):
    answer = post(address, "/embed", b'{"inputs": "' + b"a" * 40_000_000 + b'"}')
    assert answer.status_code == 413 and "limit" in answer.json()["error"]


def test_a_hundred_thousand_inputs(address):
    answer = post(address, "/embed", {"inputs": ["a"] * 100_000})
    assert answer.status_code == 422 and "2048" in answer.json()["error"]


def test_paths_and_methods(address):
    assert requests.get(address + "/nothing").status_code == 404
    assert requests.get(address + "/v1/nothing").json()["error"]["message"]
    assert requests.get(address + "/embed").status_code == 405


# Of a rerank dialect: where it is, what tells it from others, the keys of its errors.
RERANK = {
    "tei": ("/rerank", {}, {"error", "error_type"}),
    "jina": ("/v1/rerank", {}, {"detail", "message"}),
    "cohere": ("/v2/rerank", {}, {"message"}),
    "voyage": ("/rerank", {"top_k": 5}, {"detail"}),
    "vllm": ("/rerank", {"use_activation": True}, {"error"}),
    "weaviate": ("/rerank", {"property": "text"}, {"error"}),
}
# Weaviate's names no model and has none of Proxima's additions.
OTHERS = [dialect for dialect in RERANK if dialect != "weaviate"]


def rerank(address, dialect, documents, **options):
    path, keys, _ = RERANK[dialect]
    documents = {"texts" if dialect == "tei" else "documents": documents}
    return post(address, path, {"query": "a", **keys, **documents, **options})


def refused(answer, dialect, status, says):
    """Whether an answer is an error in the dialect's own shape."""
    assert answer.status_code == status, answer.text
    error = answer.json()
    assert error.keys() == RERANK[dialect][2], error
    if dialect == "vllm":
        assert error["error"]["code"] == status and error["error"]["type"] == "BadRequestError"
    assert says in str(error), error


@pytest.mark.parametrize("dialect", RERANK)
@pytest.mark.parametrize(
    "documents, says",
    [
        ([], "empty"),
        (["a"] * 3000, "2048"),
        ([5], "expected"),
        ([None], "expected"),
        ([["a"]], "expected"),
        ("a", "expected"),
        (None, "expected"),
    ],
)
def test_rerank_documents(address, dialect, documents, says):
    status = 422 if dialect == "tei" and documents != [] else 400
    refused(rerank(address, dialect, documents), dialect, status, says)


@pytest.mark.parametrize("dialect", ["jina", "cohere", "voyage", "vllm"])
@pytest.mark.parametrize("document", [{"text": 5}, {"content": [{"text": 5}]}])
def test_rerank_documents_that_are_objects(address, dialect, document):
    refused(rerank(address, dialect, ["a", document]), dialect, 400, "document 1")


@pytest.mark.parametrize("dialect", ["jina", "cohere", "voyage", "vllm"])
@pytest.mark.parametrize("document", [{}, {"text": None}])
def test_rerank_documents_with_nothing_need_a_model_of_images(address, dialect, document):
    refused(rerank(address, dialect, ["a", document]), dialect, 400, "1: this model needs a text")


def encoded(number):
    return base64.b64encode(numpy.full(64, number, dtype="<f4")).decode()


@pytest.mark.parametrize("dialect", OTHERS)
@pytest.mark.parametrize(
    "options, says",
    [
        ({"method": "magic"}, "pointwise"),
        ({"method": 5}, "expected"),
        ({"method": "pointwise"}, "cannot rank pointwise"),
        ({"model": "reranker", "method": "listwise"}, "cannot rank listwise"),
        ({"model": "classifier"}, "cannot rerank"),
        ({"document_embeddings": [[0.5] * 63] * 2}, "63 elements, not 64"),
        ({"document_embeddings": [[0.5] * 64]}, "1 document_embeddings for 2 documents"),
        ({"document_embeddings": []}, "0 document_embeddings for 2 documents"),
        ({"document_embeddings": [[0.0] * 64] * 2}, "zero"),
        ({"document_embeddings": [[1e39] * 64] * 2}, "not finite"),
        ({"document_embeddings": [encoded(numpy.nan)] * 2}, "not finite"),
        ({"document_embeddings": [encoded(numpy.inf)] * 2}, "not finite"),
        ({"document_embeddings": [encoded(0.5)[:-4]] * 2}, "base64"),
        ({"document_embeddings": ["?"] * 2}, "base64"),
        ({"document_embeddings": [["a"]] * 2}, "expected"),
        ({"model": "reranker", "document_embeddings": [[0.5] * 64] * 2}, "does not rank by them"),
        ({"listwise": {"candidates": 0}}, "between 1 and 2048"),
        ({"listwise": {"step": 21}}, "between 1 and 20"),
        ({"listwise": {"passes": 11}}, "between 1 and 10"),
        ({"listwise": {"template": "{query}"}}, "{documents}"),
        ({"listwise": {"size": 5}}, "unknown field"),
        ({"query": None}, "expected a string"),
    ],
)
def test_rerank_options(address, dialect, options, says):
    answer = rerank(address, dialect, ["a", "b"], **{"model": "e2rank", **options})
    refused(answer, dialect, 422 if dialect == "tei" else 400, says)


@pytest.mark.parametrize("dialect", OTHERS)
@pytest.mark.parametrize("count", [-1, 1.5, "2", 2**70])
def test_rerank_top_n(address, dialect, count):
    answer = rerank(address, dialect, ["a"], **{"top_k" if dialect == "voyage" else "top_n": count})
    refused(answer, dialect, 422 if dialect == "tei" else 400, "expected")


def test_rerank_vectors_with_nan_as_a_number(address):
    """It is no JSON, so only the path can tell whose error it is."""
    body = {"query": "a", "documents": ["a"], "document_embeddings": [[float("nan")] * 64]}
    for dialect in ["tei", "jina", "cohere"]:
        refused(post(address, RERANK[dialect][0], body), dialect, 400, "JSON")


@pytest.mark.parametrize("dialect", ["jina", "cohere", "voyage", "vllm", "weaviate"])
def test_rerank_texts_and_documents(address, dialect):
    refused(rerank(address, dialect, ["a"], texts=["a"]), dialect, 400, "not both")


def test_rerank_texts_and_documents_of_no_dialect(address):
    body = {"query": "a", "texts": ["a"], "documents": ["a"]}
    refused(post(address, "/rerank", body), "jina", 400, "not both")


@pytest.mark.parametrize("dialect", OTHERS)
def test_rerank_unknown_model(address, dialect):
    refused(rerank(address, dialect, ["a"], model="other"), dialect, 404, "served: all-MiniLM-L6-v2")


@pytest.mark.parametrize("dialect", RERANK)
def test_rerank_a_document_of_a_megabyte(address, dialect):
    answer = rerank(address, dialect, ["a", "word " * 210_000])
    assert answer.status_code == 200, answer.text
    # Six of the first document, and as many of the second as the model takes.
    assert int(answer.headers["x-compute-tokens"]) == 6 + 128


@pytest.mark.parametrize("dialect", ["tei", "jina"])
def test_rerank_a_document_of_a_megabyte_that_may_not_be_cut(address, dialect):
    answer = rerank(address, dialect, ["word " * 210_000], truncate=False)
    refused(answer, dialect, 422 if dialect == "tei" else 400, "more than the limit of 128")


@pytest.mark.parametrize(
    "body, says",
    [
        ("{", "JSON"),
        ("{}", "queries"),
        ('{"queries": "a", "documents": []}', "empty"),
        ('{"queries": ["a", "b"], "documents": ["a", "b", "c"]}', "as many queries"),
        ('{"queries": "a", "documents": 5}', "expected a string"),
        ('{"queries": "a", "documents": "b", "model": "classifier"}', "cannot score pairs"),
        ('{"queries": "a", "documents": "b", "truncate_prompt_tokens": 0}', "at least 1"),
    ],
)
def test_score(address, body, says):
    refused(post(address, "/score", body), "vllm", 400, says)


@pytest.mark.parametrize(
    "inputs, says",
    [
        ([[]], "0 texts"),
        (["a", "b", "c"], "3 texts"),
        ([["a"], ["a", "b", "c"]], "input 1 has 3 texts"),
        ([["a"], [5]], "expected"),
        (5, "expected"),
    ],
)
def test_predict(address, inputs, says):
    refused(post(address, "/predict", {"inputs": inputs}), "tei", 422, says)


def test_predict_nothing(address):
    refused(post(address, "/predict", {"inputs": []}), "tei", 400, "empty")


def test_vectors(address):
    for body, says in [({}, "text"), ({"text": "a", "texts": ["b"]}, "text"), ({"texts": []}, "empty")]:
        refused(post(address, "/vectors", body), "weaviate", 400, says)


@pytest.mark.parametrize("path, method, status", [("/nothing", "POST", 404), ("/v1/nothing", "PUT", 404), ("/embed", "PUT", 405)])
def test_a_client_that_sends_a_body_nobody_reads_hears_why(address, path, method, status):
    answer = requests.request(method, address + path, data=b"x" * 700_000)
    assert answer.status_code == status and "docs" in answer.text


def test_input_and_messages_are_refused_together(address):
    messages = [{"role": "user", "content": "a"}]
    answer = post(address, "/v1/embeddings", {"input": "a", "messages": messages})
    assert answer.status_code == 400 and answer.json()["error"]["type"] == "invalid_request_error"
    assert post(address, "/v1/embeddings", {"input": "a", "messages": None}).status_code == 200


def test_a_key_that_is_there_twice(address):
    answer = post(address, "/score", '{"text_1": "a", "text_1": "b", "text_2": "c"}')
    assert answer.status_code == 400 and 'duplicate key "text_1"' in answer.json()["error"]["message"]
    answer = post(address, "/v1/rerank", '{"query": "a", "documents": [{"text": "a", "text": "b"}]}')
    assert answer.status_code == 400 and 'duplicate key "text"' in answer.json()["detail"]
