"""A Python wheel that installs the executable, and nothing else.

Written with the standard library alone: a wheel is a zip file with a list of its files.
Must not know: other formats of packages.
"""

import base64
import hashlib
import pathlib
import time
import zipfile

from facts import ROOT, Build

# Proxima is another project's name on PyPI.
NAME = "proxima-server"


def metadata(build: Build) -> str:
    """What pip shows."""
    head = [
        "Metadata-Version: 2.4",
        f"Name: {NAME}",
        f"Version: {build.version}",
        "Summary: An embedding and reranking server: one binary, no Python",
        "License-Expression: Apache-2.0",
        "License-File: LICENSE",
        "License-File: THIRD-PARTY-NOTICES",
        "Requires-Python: >=3.8",
        "Description-Content-Type: text/markdown",
    ]
    return "\n".join(head) + "\n\n" + (ROOT / "README.md").read_text()


def tag(build: Build) -> str:
    """Any Python 3, on systems that have this glibc or a newer one (PEP 600)."""
    return f"py3-none-manylinux_{build.glibc[0]}_{build.glibc[1]}_{build.machine}"


def record_line(name: str, data: bytes) -> str:
    """A file of RECORD: its digest as base64 for addresses, without padding."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(data)}"


def make(build: Build, out: pathlib.Path, third_party: str) -> pathlib.Path:
    """Writes the wheel into a folder."""
    stem = f"{NAME.replace('-', '_')}-{build.version}"
    info = f"{stem}.dist-info"
    described = (
        "Wheel-Version: 1.0\nGenerator: proxima\nRoot-Is-Purelib: false\n"
        f"Tag: {tag(build)}\n"
    )
    files = {
        f"{stem}.data/scripts/proxima": build.binary.read_bytes(),
        f"{info}/licenses/LICENSE": (ROOT / "LICENSE").read_bytes(),
        f"{info}/licenses/THIRD-PARTY-NOTICES": third_party.encode(),
        f"{info}/METADATA": metadata(build).encode(),
        f"{info}/WHEEL": described.encode(),
    }
    record = [record_line(name, data) for name, data in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""]).encode()
    path = out / f"{stem}-{tag(build)}.whl"
    # Zip knows no dates before 1980.
    date = time.gmtime(max(build.epoch, 315_532_800))[:6]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, date)
            mode = 0o100755 if "/scripts/" in name else 0o100644
            entry.external_attr = mode << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            archive.writestr(entry, data)
    return path
