"""The peers' own virtual environment, made on demand, and what is written into the cache for them."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tarfile
from typing import IO

# The folder that modules of this package are found in.
HERE = pathlib.Path(__file__).parents[1]

# The reference and every export need these.
BASE = ("torch==2.15.0", "transformers==4.57.3", "sentence-transformers==5.7.0")
PACKAGES = {
    "sentence-transformers": (),
    "openvino": ("openvino==2026.4.1",),
    "onnxruntime": ("onnxruntime==1.31.1", "onnx==1.23.2", "onnxscript==0.7.2"),
    "llama.cpp": ("llama-cpp-python[server]==0.3.36", "gguf==0.19.0", "sentencepiece==0.2.3"),
}
# What `exports.py` writes: for whom, and which file is read. Other kinds are llama.cpp's.
EXPORTS = {
    "openvino": ("openvino", "network.xml"),
    "onnx": ("onnxruntime", "network.onnx"),
    "onnx-int8": ("onnxruntime", "network.onnx"),
}
# llama.cpp is compiled; what takes longer than this counts as not to be had.
INSTALL_SECONDS = 1800


class Failed(Exception):
    """A peer cannot be measured; says why in a line."""


def reason(output: str) -> str:
    """The last line of an output that tells of an error, for a cell of the table."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if "error" in line.lower()] or lines or ["no output"]
    return telling[-1].replace("|", "/")[:200]


def checked(
    command: list[str | pathlib.Path],
    what: str,
    folder: pathlib.Path | None = None,
    variables: dict[str, str] | None = None,
) -> str:
    """Runs a command; gives what it printed."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=INSTALL_SECONDS, cwd=folder, env=variables
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"{what} took more than {INSTALL_SECONDS // 60} minutes") from None
    if done.returncode:
        raise Failed(f"{what} failed: {reason(done.stdout + done.stderr)}")
    return done.stdout


@dataclasses.dataclass(frozen=True)
class Environment:
    """The folders that peers use, all in the cache."""

    cache: pathlib.Path
    threads: int

    @property
    def folder(self) -> pathlib.Path:
        return self.cache / "venv-peers"

    @property
    def python(self) -> pathlib.Path:
        return self.folder / "bin" / "python"

    def variables(self) -> dict[str, str]:
        """Those that engines run under: so many threads, no network."""
        count = str(self.threads)
        limits = {name: count for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")}
        return {**os.environ, **limits, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}

    def start(self, module: str, *words: str | pathlib.Path, stderr: IO[str]) -> subprocess.Popen[str]:
        """Starts a module of this folder in the environment."""
        command = [self.python, "-m", module, *words]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stderr, text=True, cwd=HERE, env=self.variables()
        )

    def install(self, peer: str | None = None) -> None:
        """Makes the environment, and installs a peer's packages, unless that has been done."""
        if not self.python.exists():
            checked([sys.executable, "-m", "venv", self.folder], "making a virtual environment")
        for name, packages in [("base", BASE), (peer, PACKAGES.get(peer or "", ()))]:
            done = self.folder / f".installed-{name}"
            if not packages or (done.exists() and done.read_text().split() == list(packages)):
                continue
            print(f"installing {', '.join(packages)}", file=sys.stderr, flush=True)
            pip = [self.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            checked([*pip, *packages], "installation")
            done.write_text("\n".join(packages))

    def versions(self) -> dict[str, str]:
        """Of the packages that are named above, as installed."""
        listed = checked([self.python, "-m", "pip", "list", "--format", "json"], "listing of packages")
        installed = {item["name"].lower().replace("_", "-"): item["version"] for item in json.loads(listed)}
        wanted = [item.split("==")[0].split("[")[0] for item in (*BASE, *sum(PACKAGES.values(), ()))]
        return {name: installed[name] for name in wanted if name in installed}

    def export(self, kind: str, model: pathlib.Path) -> pathlib.Path:
        """A checkpoint as another engine reads it, written once as long as the checkpoint is the same."""
        peer, file = EXPORTS.get(kind, ("llama.cpp", "model.gguf"))
        folder = self.cache / "exports" / f"{model.name}-{kind}"
        target = folder / file
        weights = (model / "model.safetensors").stat()
        packages = " ".join((*BASE, *PACKAGES[peer]))
        mark, key = folder / ".complete", f"{weights.st_size} {weights.st_mtime_ns} {packages}"
        if mark.exists() and mark.read_text() == key:
            return target
        print(f"writing {model.name} as {kind}", file=sys.stderr, flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        mark.unlink(missing_ok=True)
        what = f"the export to {kind}"
        if kind in EXPORTS:
            source = self.export("onnx", model) if kind == "onnx-int8" else model
            module = [self.python, "-m", "engines.exports", kind, source, target]
            checked(module, what, HERE)
        else:
            script = self.llama_sources() / "convert_hf_to_gguf.py"
            checked([self.python, script, model, "--outtype", kind, "--outfile", target], what)
        mark.write_text(key)
        return target

    def llama_sources(self) -> pathlib.Path:
        """llama.cpp's own converter, as the source archive of llama-cpp-python has it."""
        package = PACKAGES["llama.cpp"][0].replace("[server]", "")
        folder = self.cache / "exports" / package.replace("==", "-")
        sources = folder / package.replace("==", "-").replace("-", "_", 2) / "vendor" / "llama.cpp"
        if not (sources / "convert_hf_to_gguf.py").exists():
            folder.mkdir(parents=True, exist_ok=True)
            flags = ["--quiet", "--no-deps", "--no-binary", "llama-cpp-python", "--dest", folder]
            checked([self.python, "-m", "pip", "download", *flags, package], "fetching llama.cpp's converter")
            with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
                archive.extractall(folder, filter="data")
        return sources
