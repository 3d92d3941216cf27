"""Whatever is sent, the answer is a clear error of the right kind, and the server lives on."""

import json

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
        ("[" * 100_000, 400, "JSON"),
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
