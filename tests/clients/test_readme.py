"""Every curl line of the README works as it stands."""

import re
import subprocess

import pytest
from conftest import ROOT

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
JOINED = "\n".join(BLOCKS).replace("\\\n", " ")
CURLS = [line for line in JOINED.splitlines() if line.startswith("curl ")]


def test_there_are_some():
    assert len(CURLS) >= 3


@pytest.mark.parametrize("line", CURLS)
def test_curl(address, line):
    line = line.replace("http://127.0.0.1:8080", address).replace("curl ", "curl --fail -sS ", 1)
    done = subprocess.run(line, shell=True, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout, done.stderr
