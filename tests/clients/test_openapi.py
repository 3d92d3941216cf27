"""The OpenAPI document is valid, makes a client that works, and its examples are what is answered."""

import importlib
import json
import math
import os
import pathlib
import pkgutil
import subprocess
import sys

import contract
import jsonschema
import pytest
import requests
from openapi_spec_validator import validate

HEADERS = {"authorization": f"Bearer {contract.KEY}"}
REDOCLY = "@redocly/cli@2.77.0"
# What is of one answer alone.
OWN = {"id", "created"}


@pytest.fixture(scope="module")
def addresses():
    with contract.served("embedder") as embedder:
        with contract.served("cross-encoder") as cross_encoder, contract.served("sparse") as sparse:
            yield {"embedder": embedder, "cross-encoder": cross_encoder, "sparse": sparse}


@pytest.fixture(scope="module")
def document(addresses):
    return requests.get(addresses["embedder"] + "/openapi.json", timeout=60).json()


@pytest.fixture(scope="module")
def file(document, tmp_path_factory):
    path = tmp_path_factory.mktemp("openapi") / "openapi.json"
    path.write_text(json.dumps(document))
    return path


def test_both_addresses_give_the_committed_document(addresses, document):
    other = requests.get(addresses["embedder"] + "/api-doc/openapi.json", timeout=60)
    committed = json.loads((contract.ROOT / "openapi/openapi.json").read_text())
    assert document == other.json() == committed
    assert "openapi.json" in requests.get(addresses["embedder"] + "/docs", timeout=60).text


def test_it_is_valid(document):
    validate(document)


def test_redocly_finds_nothing(file):
    command = ["npx", "--yes", REDOCLY, "lint", str(file), "--format=json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=file.parent)
    found = json.loads(done.stdout[done.stdout.index("{") :])
    problems = [f"{it['ruleId']}: {it['message']} {it['location']}" for it in found["problems"]]
    assert problems == [] and done.returncode == 0, done.stderr


# Inputs that are objects, and where they may be: what is read of each key depends on the others.
OBJECTS = [
    {"text": "a"},
    {"content": "a"},
    {"content": [{"type": "text", "text": "a"}]},
    {"messages": [{"role": "user", "content": "a"}]},
    {"type": "text", "text": "a"},
]
OBJECT_KEYS = ["text", "content", "messages", "instruction", "type", "fps", "max_frames", "image", "url", "role"]
PLACES = {
    "an input": ("/v1/embeddings", lambda it: {"input": [it]}),
    "a part": ("/v1/embeddings", lambda it: {"input": [{"content": [it]}]}),
    "a message": ("/v1/embeddings", lambda it: {"messages": [it]}),
    "a query": ("/v1/rerank", lambda it: {"query": it, "documents": ["a"]}),
    "a document": ("/score", lambda it: {"text_1": "a", "text_2": it}),
}


@pytest.mark.parametrize("place", PLACES)
def test_objects_that_are_accepted_are_documented(addresses, document, place):
    path, body_of = PLACES[place]
    schema = content(document["paths"][path]["post"]["requestBody"])["schema"]
    schema = jsonschema.Draft202012Validator(schema_of(document, schema))
    accepted, undocumented = 0, []
    with requests.Session() as session:
        for one in [*OBJECTS, {"role": "user", "content": "a"}]:
            for key in OBJECT_KEYS:
                for value in (None, [], 0, ""):
                    body = body_of({**one, key: value})
                    answer = session.post(addresses["embedder"] + path, json=body, headers=HEADERS, timeout=60)
                    assert answer.status_code in (200, 400, 422), answer.text
                    accepted += answer.ok
                    if answer.ok and not schema.is_valid(body):
                        undocumented.append(body)
    assert accepted > 0 and undocumented == []


def schema_of(document, schema):
    """A schema that finds those it refers to."""
    return {**schema, "components": document["components"]}


def content(place):
    return place["content"]["application/json"]


def same(given, wanted):
    """Whether two answers are equal but for what is their own and the last digits of numbers."""
    if isinstance(wanted, dict):
        return given.keys() == wanted.keys() and all(
            key in OWN or same(given[key], wanted[key]) for key in wanted
        )
    if isinstance(wanted, list):
        return len(given) == len(wanted) and all(map(same, given, wanted))
    if isinstance(wanted, float):
        return math.isclose(given, wanted, abs_tol=2e-3)
    return given == wanted


def test_examples_are_answered_as_they_say(addresses, document):
    tried = 0
    for path, operations in document["paths"].items():
        if "post" not in operations:
            continue
        operation = operations["post"]
        body, answer = content(operation["requestBody"]), content(operation["responses"]["200"])
        assert body["examples"], path
        for name, example in body["examples"].items():
            request = example["value"]
            jsonschema.validate(request, schema_of(document, body["schema"]))
            wanted = answer.get("examples", {}).get(name)
            at = ["embedder"] if wanted else contract.NAMES
            answers = [
                requests.post(addresses[it] + path, json=request, headers=HEADERS, timeout=60) for it in at
            ]
            good = [it for it in answers if it.status_code == 200]
            assert good, f"{path} {name}: {answers[0].text}"
            jsonschema.validate(good[0].json(), schema_of(document, answer["schema"]))
            if wanted and "base64" not in name:
                assert same(good[0].json(), wanted["value"]), f"{path} {name}: {good[0].text}"
            tried += 1
    assert tried > 40


@pytest.fixture(scope="module")
def client(file):
    """The package that openapi-python-client makes of the document."""
    made = file.parent / "made"
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--path", str(file)]
    command += ["--meta", "none", "--output-path", str(made / "proxima_client"), "--fail-on-warning"]
    # It formats what it makes with the ruff that was installed with it.
    path = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = dict(os.environ, PATH=path)
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    sys.path.insert(0, str(made))
    yield importlib.import_module("proxima_client")
    sys.path.remove(str(made))


def test_every_module_of_a_generated_client_imports(client):
    names = [it.name for it in pkgutil.walk_packages(client.__path__, client.__name__ + ".")]
    for name in names:
        importlib.import_module(name)
    assert len(names) > 100


def test_a_generated_client_works(client, addresses):
    models = importlib.import_module("proxima_client.models")
    api = "proxima_client.api"
    with client.AuthenticatedClient(base_url=addresses["embedder"], token=contract.KEY) as reader:
        embed = importlib.import_module(f"{api}.tei.embed")
        vectors = embed.sync(client=reader, body=models.EmbedBody(inputs=["a", "b"], dimensions=4))
        assert [len(vector) for vector in vectors] == [4, 4]
        openai = importlib.import_module(f"{api}.openai.v1_embeddings")
        answer = openai.sync(client=reader, body=models.EmbeddingsBody(input_="a"))
        assert answer.model == "all-MiniLM-L6-v2" and len(answer.data[0].embedding) == 384
        rerank = importlib.import_module(f"{api}.jina.v1_rerank")
        body = models.JinaRerankBody(query="a", documents=["a", "b"])
        answer = rerank.sync(client=reader, body=body)
        assert [it.index for it in answer.results] == [0, 1]
        refused = embed.sync(client=reader, body=models.EmbedBody(inputs=["a"], model="other"))
        assert isinstance(refused, models.TeiErrorBody) and "other" in refused.error
        ready = importlib.import_module(f"{api}.server.readyz")
        assert ready.sync(client=reader).status == "ready"
    wrong = client.AuthenticatedClient(base_url=addresses["embedder"], token="wrong")
    assert embed.sync_detailed(client=wrong, body=models.EmbedBody(inputs="a")).status_code == 401
