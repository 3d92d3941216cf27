"""An archive with the executable, for systems without a format of packages.

Must not know: other formats of packages.
"""

import gzip
import hashlib
import io
import pathlib
import tarfile

from facts import ROOT, Build, monitoring


def checksums(files: dict[str, bytes]) -> str:
    """As `sha256sum --check` reads them."""
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    return "".join(f"{digest}  {name}\n" for name, digest in digests.items())


def make(build: Build, out: pathlib.Path, third_party: str, materials: str) -> pathlib.Path:
    """Writes the archive into a folder."""
    stem = f"proxima-{build.version}-{build.machine}-linux"
    files = {
        "proxima": build.binary.read_bytes(),
        "LICENSE": (ROOT / "LICENSE").read_bytes(),
        "README.md": (ROOT / "README.md").read_bytes(),
        "CHANGELOG.md": (ROOT / "CHANGELOG.md").read_bytes(),
        "THIRD-PARTY-NOTICES": third_party.encode(),
        "proxima.cdx.json": materials.encode(),
    }
    files |= {f"docs/{page.name}": page.read_bytes() for page in sorted((ROOT / "docs").iterdir())}
    files |= monitoring()
    files["SHA256SUMS"] = checksums(files).encode()
    path = out / f"{stem}.tar.gz"
    # Neither the name nor the time of the file that is compressed, so equal files give equal bytes.
    with path.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed:
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for name, data in files.items():
                entry = tarfile.TarInfo(f"{stem}/{name}")
                entry.size, entry.mtime = len(data), build.epoch
                entry.mode = 0o755 if name == "proxima" else 0o644
                archive.addfile(entry, io.BytesIO(data))
    return path
