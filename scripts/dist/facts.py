"""What packages need to know of a build: the version, its date, what the binary asks of a system.

Must not know: any format of packages.
"""

import dataclasses
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]

# The machines of ELF files that packages are made for, by what `readelf --file-header` calls them.
MACHINES = {
    "Advanced Micro Devices X86-64": ("x86_64", "amd64"),
    "AArch64": ("aarch64", "arm64"),
}
# Libraries that every distribution with glibc has; manylinux allows no others (PEP 600).
LIBRARIES = re.compile(
    r"(libc|libm|libdl|librt|libpthread|libgcc_s)\.so\.\d+|ld-linux[-a-z0-9_]*\.so\.\d+"
)


@dataclasses.dataclass(frozen=True)
class Build:
    """One binary, with what its packages say of it."""

    # The file, without debugging information.
    binary: pathlib.Path
    version: str
    # Seconds since 1970: the date of all files in packages.
    epoch: int
    # As in `x86_64`, for wheels, archives and Rust's targets.
    machine: str
    # As in `amd64`, for Debian.
    debian: str
    # The oldest glibc that has all symbols, as (2, 34).
    glibc: tuple[int, int]

    @property
    def target(self) -> str:
        """Rust's name of the system."""
        return f"{self.machine}-unknown-linux-gnu"


def run(*command: str, cwd: pathlib.Path = ROOT) -> str:
    """What a program prints; ends this one with a sentence where it cannot be run."""
    if shutil.which(command[0]) is None:
        sys.exit(f"{command[0]} is needed: install it (readelf and strip are in binutils)")
    # The language of messages that are parsed.
    environment = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(command, cwd=cwd, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed with code {done.returncode}")
    return done.stdout


def knows_commit(binary: pathlib.Path) -> bool:
    """Whether a binary names the commit that it was built from."""
    return "commit: unknown" not in run(str(binary), "--version")


def version() -> str:
    """The version of the workspace."""
    return tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]


def epoch() -> int:
    """SOURCE_DATE_EPOCH, or the date of the commit, or else of the newest change that is told."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given:
        return int(given)
    log = ["git", "log", "-1", "--format=%ct"]
    if shutil.which("git"):
        told = subprocess.run(log, cwd=ROOT, capture_output=True, text=True)
        if told.returncode == 0:
            return int(told.stdout)
    return int((ROOT / "CHANGELOG.md").stat().st_mtime)


def glibc_of(dynamic_symbols: str) -> tuple[int, int]:
    """The newest version of glibc that symbols ask for."""
    versions = re.findall(r"@GLIBC_(\d+)\.(\d+)", dynamic_symbols)
    if not versions:
        sys.exit("the binary asks for no glibc: packages are made of builds for *-linux-gnu")
    return max((int(major), int(minor)) for major, minor in versions)


def look_at(binary: pathlib.Path, scratch: pathlib.Path) -> Build:
    """Strips a copy of a binary and reads what it needs."""
    header = run("readelf", "--file-header", str(binary))
    named = re.search(r"Machine:\s+(.+)", header)
    if named is None or named[1].strip() not in MACHINES:
        sys.exit(f"{binary}: no packages are made for {named[1] if named else 'such a file'}")
    machine, debian = MACHINES[named[1].strip()]
    needed = re.findall(r"\(NEEDED\).*\[(.+)\]", run("readelf", "--dynamic", str(binary)))
    foreign = [library for library in needed if not LIBRARIES.fullmatch(library)]
    if foreign:
        sys.exit(f"{binary} needs {', '.join(foreign)}, which packages cannot rely on")
    symbols = run("readelf", "--dyn-syms", "--wide", str(binary))
    stripped = scratch / "proxima"
    foreign_strip = f"{machine}-linux-gnu-strip"
    native = os.uname().machine == machine or shutil.which(foreign_strip) is None
    run("strip" if native else foreign_strip, "-o", str(stripped), str(binary))
    stripped.chmod(0o755)
    return Build(stripped, version(), epoch(), machine, debian, glibc_of(symbols))


def scratch_folder() -> tempfile.TemporaryDirectory:
    """A folder that goes when packages are made."""
    return tempfile.TemporaryDirectory(prefix="proxima-dist-")


def monitoring() -> dict[str, bytes]:
    """Alert rules and the dashboard, by their paths in packages."""
    folder = ROOT / "docker/monitoring"
    names = ["alerts.yml", "dashboards/proxima.json"]
    return {f"monitoring/{pathlib.Path(name).name}": (folder / name).read_bytes() for name in names}
