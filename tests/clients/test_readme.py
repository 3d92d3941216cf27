"""Every curl line and every Python block of the README and of docs/ works as it stands."""

import re
import subprocess

import pytest
from conftest import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [block for page in PAGES for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)]
JOINED = "\n".join(BLOCKS).replace("\\\n", " ")
CURLS = [line for line in JOINED.splitlines() if line.startswith("curl ")]


def test_there_are_some():
    assert len(CURLS) >= 3


@pytest.mark.parametrize("line", CURLS)
def test_curl(address, line):
    line = line.replace("http://127.0.0.1:8080", address).replace("curl ", "curl --fail -sS ", 1)
    done = subprocess.run(line, shell=True, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        assert "://" in target or (page.parent / target).exists(), target


SCRIPTS = [block for page in PAGES for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)]


@pytest.mark.parametrize("script", SCRIPTS)
def test_python(address, script):
    exec(compile(script.replace("http://127.0.0.1:8080", address), "README", "exec"), {})  # noqa: S102
