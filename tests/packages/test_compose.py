"""The compose file: it is one, is closed to others, and tells services what they understand."""

import http.server
import json
import re
import shutil
import subprocess
import threading

import pytest
import yaml
from compose_spec import PyCompose
from conftest import ROOT, run, serving, without

COMPOSE = ROOT / "docker/compose.yaml"
KEY = "a-key-of-this-test"
# `${NAME}`, `${NAME:-default}`, `${NAME:?message}`, and `$$` for a dollar sign.
VARIABLE = re.compile(r"\$\$|\$\{(\w+)(?:(:[-?])([^}]*))?\}")
# Flags of the server; others are those of other programs.
FLAG = re.compile(r"(?<![-\w])--(?:max|gpu-memory|drain|shutdown|api|model)[a-z-]*")
SECRETS = ("PROXIMA_API_KEY", "WEBUI_SECRET_KEY")


def filled(text, values):
    """A text as compose reads it."""

    def one(match):
        if match[0] == "$$":
            return "$"
        value = values.get(match[1], "")
        assert value or match[2] != ":?", match[3]
        return value or (match[3] if match[2] == ":-" else "")

    return VARIABLE.sub(one, text)


def example():
    """The variables of docker/env.example, those too that are a comment."""
    text = (ROOT / "docker/env.example").read_text()
    return dict(re.findall(r"^#?([A-Z_]+)=(.*)$", text, re.MULTILINE))


@pytest.fixture(scope="module")
def stack():
    text = filled(COMPOSE.read_text(), dict.fromkeys(SECRETS, KEY))
    return yaml.safe_load(text)


@pytest.fixture(scope="module")
def services(stack):
    return stack["services"]


@pytest.fixture(scope="module")
def known(proxima):
    """The variables and flags of `proxima serve`."""
    return run(proxima, "serve", "--help")


def test_it_is_a_compose_file(stack):
    spec = {key: value for key, value in stack.items() if not key.startswith("x-")}
    compose = PyCompose.from_yaml(yaml.safe_dump(spec))
    compose.validate()
    with pytest.raises(ValueError, match="extension key"):
        wrong = {"services": {"a": {"image": "b", "helthcheck": {}}}}
        PyCompose.from_yaml(yaml.safe_dump(wrong))


def test_docker_takes_it(tmp_path):
    asked = ["docker", "compose", "version"]
    if not shutil.which("docker") or subprocess.run(asked, capture_output=True).returncode != 0:
        without("docker compose", "docker-compose-plugin")
    (tmp_path / "env").write_text("".join(f"{name}={KEY}\n" for name in SECRETS))
    profiles = [flag for name in ("cpu", "llm", "monitoring") for flag in ("--profile", name)]
    files = ["-f", COMPOSE, "--env-file", tmp_path / "env"]
    run("docker", "compose", *files, *profiles, "config", "--quiet")


def test_example_names_every_variable():
    names = {match[1] for match in VARIABLE.finditer(COMPOSE.read_text())} - {None}
    told = example()
    assert names == set(told) - {"COMPOSE_PROFILES"}
    needed = re.findall(r"\$\{(\w+):\?", COMPOSE.read_text())
    assert set(needed) == set(SECRETS) and all(told[name] == "" for name in SECRETS)


def test_profiles_of_the_example_are_there(services):
    named = {name for service in services.values() for name in service.get("profiles", [])}
    assert named == {"cpu", "gpu", "llm", "monitoring"}
    assert set(example()["COMPOSE_PROFILES"].split(",")) <= named


def test_ports_are_of_this_machine_alone(services):
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published and all(port.startswith("127.0.0.1:") for port in published)
    here = [port.split(":")[1] for name, service in services.items()
            for port in service.get("ports", []) if name != "proxima-gpu"]
    assert len(here) == len(set(here))


def test_state_is_in_volumes(stack):
    mounts = [mount.split(":")[:2] for service in stack["services"].values()
              for mount in service.get("volumes", [])]
    named = {source: target for source, target in mounts if not source.startswith(".")}
    assert set(named) == set(stack["volumes"])
    assert named["open-webui"] == "/app/backend/data" and named["models"] == "/models"
    for source, _ in mounts:
        if source.startswith("."):
            assert (COMPOSE.parent / source).exists(), source


def test_images_have_versions(services):
    for name, service in services.items():
        if "build" not in service:
            assert re.search(r":v?\d+\.\d+\.\d+$", service["image"]), name


def test_variables_and_flags_of_proxima_exist(services, known):
    names = set(services["proxima-cpu"]["environment"]) | set(services["proxima-gpu"]["environment"])
    files = ["docker/Dockerfile", "scripts/dist/debian/proxima.service",
             "scripts/dist/debian/proxima.toml", "docs/deploy.md"]
    for file in files:
        text = (ROOT / file).read_text()
        names |= set(re.findall(r"\b(?:PROXIMA|HF)_[A-Z]+(?:_[A-Z]+)*\b", text))
        for flag in FLAG.findall(text):
            assert f"{flag} " in known or f"{flag}\n" in known, f"{file}: {flag}"
    of_the_hub = (ROOT / "server/src").rglob("*.rs")
    read = "".join(path.read_text() for path in of_the_hub)
    assert "PROXIMA_API_KEY" in names and "HF_HOME" in names
    for name in names:
        assert f"env: {name}=" in known or f"env: {name}]" in known or f'"{name}"' in read, name


def test_variables_of_open_webui_exist(services):
    service = services["open-webui"]
    version = service["image"].rpartition(":v")[2]
    listed = ROOT / f"tests/packages/open-webui-{version}.txt"
    assert set(service["environment"]) <= set(listed.read_text().split())


@pytest.fixture
def qdrant():
    """What stands for Qdrant: it answers with the status that a test says."""

    class Handler(http.server.BaseHTTPRequestHandler):
        status, asked = 200, []

        def do_GET(self):
            self.asked.append(self.path)
            self.send_response(self.status)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Handler, server.server_address[1]
    server.shutdown()
    server.server_close()


def test_health_check_of_qdrant_tells_ready_from_not(services, qdrant):
    handler, port = qdrant
    first, *command = services["qdrant"]["healthcheck"]["test"]
    assert first == "CMD" and "/6333 " in command[-1]

    def code(at):
        asked = [*command[:-1], command[-1].replace("/6333 ", f"/{at} ")]
        return subprocess.run(asked, capture_output=True).returncode

    assert code(port) == 0 and handler.asked == ["/readyz"]
    handler.status = 503
    assert code(port) != 0
    # A port that nothing listens on.
    assert code(1) != 0


def test_open_webui_gets_vectors_and_scores(services, proxima, model):
    told = services["open-webui"]["environment"]
    command = [str(proxima), *services["proxima-cpu"]["command"], "--port", "0", "--api-key", KEY]
    # The two models of the tests, by the names that the stack gives.
    names = [word.partition("=")[0] for word in command if "=" in word]
    assert names == [told["RAG_EMBEDDING_MODEL"], told["RAG_RERANKING_MODEL"]]
    models = iter([model, ROOT / "tests/golden/scores/xlmr-reranker"])
    command = [re.sub("=.*", lambda _: f"={next(models)}", word) for word in command]
    here = "http://proxima:8080"
    with serving(command) as server:
        path = told["RAG_OPENAI_API_BASE_URL"].removeprefix(here) + "/embeddings"
        body = {"input": ["a cat", "a dog"], "model": told["RAG_EMBEDDING_MODEL"]}
        answer = server.ask(path, body, told["RAG_OPENAI_API_KEY"])
        assert len(json.loads(answer.body)["data"]) == 2
        # As its ExternalReranker asks, and what it reads of the answer.
        path = told["RAG_EXTERNAL_RERANKER_URL"].removeprefix(here)
        body = {"model": told["RAG_RERANKING_MODEL"], "query": "a cat",
                "documents": ["a kitten", "the stock market"], "top_n": 2}
        answer = server.ask(path, body, told["RAG_EXTERNAL_RERANKER_API_KEY"])
        results = json.loads(answer.body)["results"]
        assert sorted(one["index"] for one in results) == [0, 1]
        assert all(isinstance(one["relevance_score"], float) for one in results)
        assert server.ask(path, body, "another").status == 401
