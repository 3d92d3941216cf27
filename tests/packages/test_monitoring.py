"""Dashboard and alerts: they ask for what the server tells, and Prometheus takes them."""

import json
import os
import re
import shutil

import pytest
import yaml
from conftest import ROOT, run, serving, without

MONITORING = ROOT / "docker/monitoring"
DASHBOARD = json.loads((MONITORING / "dashboards/proxima.json").read_text())
RULES = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"][0]["rules"]
# Which Prometheus makes by itself.
OWN = {"up"}
# Of every series, which the target that is read gives them.
OF_TARGETS = {"instance", "job"}


def expressions():
    queries = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return queries + [rule["expr"] for rule in RULES]


@pytest.fixture(scope="module")
def told(proxima, model):
    """The series of a server that has embedded, ranked and refused, with values of labels."""
    command = [str(proxima), "serve", "--model", str(model), "--port", "0"]
    with serving(command) as server:
        assert server.ask("/v1/embeddings", {"input": "a"}).status == 200
        assert server.ask("/rerank", {"query": "a", "texts": ["b"]}).status == 200
        assert server.ask("/v1/embeddings", {"input": 5}).status >= 400
        text = server.ask("/metrics").body
    series = {}
    for line in text.splitlines():
        found = re.match(r"([a-z_]+)(?:\{(.*)\})? ", line)
        if found:
            labels = series.setdefault(found[1], {})
            for name, value in re.findall(r'(\w+)="([^"]*)"', found[2] or ""):
                labels.setdefault(name, set()).add(value)
    return series


def selectors(expression):
    """The metrics of an expression with the labels in their braces."""
    for name, braces in re.findall(r"\b([a-z_]+)\{([^}]*)\}", expression):
        yield name, re.findall(r'(\w+)(=~?)"([^"]*)"', braces)


def test_every_metric_exists(told):
    named = set()
    for expression in expressions():
        found = set(re.findall(r"\b(?:proxima|te|process)_[a-z_]+|\bup\b", expression))
        assert found, expression
        named |= found
    assert named - OWN <= set(told)
    assert {name for one in expressions() for name, _ in selectors(one)} <= named


def test_every_label_and_value_exists(told):
    kinds = (ROOT / "server/src/failure.rs").read_text()
    for expression in expressions():
        for name, labels in selectors(expression):
            for label, how, value in labels:
                if label in OF_TARGETS or value.startswith("$"):
                    assert label in OF_TARGETS or label in told[name]
                    continue
                for one in value.split("|") if how == "=~" else [value]:
                    # A server in good health has not failed in every way.
                    seen = one in told[name][label] or label == "kind" and f'"{one}"' in kinds
                    assert seen, f"{name}: {label}={one}"


def test_labels_that_are_kept_exist(told):
    for expression in expressions():
        names = re.findall(r"\b((?:proxima|te)_[a-z_]+)", expression)
        known = set().union(*(told[name] for name in names)) if names else set()
        for kept in re.findall(r"\bby \(([^)]*)\)", expression):
            assert {one.strip() for one in kept.split(",")} <= known | OF_TARGETS, expression


def test_dashboard_and_provisioning_belong_together():
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    (source,) = yaml.safe_load((MONITORING / "datasource.yml").read_text())["datasources"]
    asked = {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]}
    assert asked == {source["uid"]}
    services = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())["services"]
    mounts = [mount.split(":")[1] for mount in services["grafana"]["volumes"]]
    (provider,) = yaml.safe_load((MONITORING / "dashboards.yml").read_text())["providers"]
    assert provider["options"]["path"] in mounts
    assert source["url"] == "http://prometheus:9090" and "prometheus" in services


def test_panels_do_not_overlap():
    places = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"])
                 for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & places and at["x"] + at["w"] <= 24
        places |= cells


@pytest.fixture
def promtool():
    program = os.environ.get("PROMTOOL") or shutil.which("promtool")
    if program is None:
        without("promtool", "prometheus")
    return program


def test_prometheus_takes_configuration_and_rules(promtool):
    run(promtool, "check", "config", MONITORING / "prometheus.yml")
    run(promtool, "check", "rules", "--lint=all", "--lint-fatal", MONITORING / "alerts.yml")


def test_prometheus_takes_the_dashboards_queries(promtool, tmp_path):
    rules = []
    for place, panel in enumerate(DASHBOARD["panels"]):
        for target in panel["targets"]:
            # As Grafana fills them in.
            query = target["expr"].replace("$__rate_interval", "5m").replace("$instance", ".*")
            query = query.replace("$model", ".*")
            rules.append({"record": f"panel:{place}:{target['refId']}", "expr": query})
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "a", "rules": rules}]}))
    run(promtool, "check", "rules", tmp_path / "rules.yml")


def test_alerts_fire_when_they_should(promtool):
    run(promtool, "test", "rules", ROOT / "tests/packages/alerts_test.yml")
