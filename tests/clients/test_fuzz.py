"""What the server answers is what the OpenAPI document says, whatever it is sent: schemathesis with all its checks."""

import os
import subprocess
import sys

import contract
import pytest

# Requests of each operation, as `make fuzz-http` asks; then each keyword of each schema is tried, too, which takes long.
EXAMPLES = os.environ.get("FUZZ_REQUESTS")
FEW = ["--phases", "examples,fuzzing,stateful", "--max-examples", "5"]


@pytest.mark.parametrize("name", contract.NAMES)
def test_every_answer_is_documented(name, tmp_path):
    config = contract.ROOT / "tests/clients/schemathesis.toml"
    with contract.served(name) as address:
        command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run"]
        command += [f"{address}/openapi.json", "--checks", "all"]
        command += ["--max-examples", EXAMPLES] if EXAMPLES else FEW
        command += ["--header", f"Authorization: Bearer {contract.KEY}", "--continue-on-failure"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
