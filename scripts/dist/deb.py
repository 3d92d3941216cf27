"""A Debian package: the executable, a unit of systemd, its configuration, a page of the manual.

Must not know: other formats of packages.
"""

import email.utils
import gzip
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from facts import ROOT, Build, monitoring, run

SOURCES = pathlib.Path(__file__).parent / "debian"
# Counts packagings of one version.
REVISION = "1"
SCRIPTS = ("postinst", "prerm", "postrm")
# Where shells look for the completions of a command, below /usr/share.
COMPLETIONS = {
    "bash": "bash-completion/completions/proxima",
    "fish": "fish/vendor_completions.d/proxima.fish",
    "zsh": "zsh/vendor-completions/_proxima",
}
CONFFILE = "/etc/proxima/proxima.toml"


def maintainer() -> str:
    """Who answers for the package: as Debian's tools are told it."""
    name = os.environ.get("DEBFULLNAME", "Proxima developers")
    return f"{name} <{os.environ.get('DEBEMAIL', 'proxima@packages.invalid')}>"


def control(build: Build, kilobytes: int) -> str:
    """What dpkg knows of the package. The unwinder of libgcc is as old as any glibc here."""
    return f"""\
Package: proxima
Version: {build.version}-{REVISION}
Architecture: {build.debian}
Maintainer: {maintainer()}
Installed-Size: {kilobytes}
Depends: libc6 (>= {build.glibc[0]}.{build.glibc[1]}), libgcc-s1 (>= 4.2)
Recommends: ffmpeg
Section: net
Priority: optional
Description: embedding and reranking server
 Proxima serves embedding models and rerankers of text, images and video over
 HTTP and gRPC, with the vectors and scores of the reference implementation.
 It speaks the dialects of text-embeddings-inference, OpenAI, Cohere, Jina,
 Voyage, vLLM and Weaviate, in one binary without Python.
 .
 Video files are read by ffmpeg; without it they are refused.
 .
 The service does not start by itself: it would download a model. Say which in
 {CONFFILE}, then: systemctl enable --now proxima
"""


def changelog(build: Build) -> str:
    """Debian's own changelog, of packaging alone; the project's is beside it."""
    date = email.utils.formatdate(build.epoch)
    return (
        f"proxima ({build.version}-{REVISION}) unstable; urgency=medium\n\n"
        f"  * See /usr/share/doc/proxima/changelog.gz.\n\n"
        f" -- {maintainer()}  {date}\n"
    )


def write(path: pathlib.Path, data: bytes, mode: int = 0o644) -> None:
    """A file, with its folders, whatever the umask."""
    for folder in reversed(path.parents):
        if not folder.exists():
            folder.mkdir()
            folder.chmod(0o755)
    path.write_bytes(data)
    path.chmod(mode)


def packed(data: bytes) -> bytes:
    """Without a date, as policy asks for."""
    return gzip.compress(data, 9, mtime=0)


def manuals_of_commands(build: Build) -> dict[str, str]:
    """Pages of the manual that the executable writes of its commands. That of the package itself is another."""
    with tempfile.TemporaryDirectory() as folder:
        run(str(build.binary), "man", "--out", folder)
        return {page.name: page.read_text() for page in pathlib.Path(folder).glob("proxima-*.1")}


def lay_out(build: Build, root: pathlib.Path, third_party: str) -> None:
    """All files of the package below a folder."""
    manual = (SOURCES / "proxima.1").read_text().replace("@VERSION@", build.version)
    document = root / "usr/share/doc/proxima"
    write(root / "usr/bin/proxima", build.binary.read_bytes(), 0o755)
    write(root / CONFFILE.lstrip("/"), (SOURCES / "proxima.toml").read_bytes())
    unit = root / "usr/lib/systemd/system/proxima.service"
    write(unit, (SOURCES / "proxima.service").read_bytes())
    pages = {"proxima.1": manual} | manuals_of_commands(build)
    for name, page in pages.items():
        write(root / f"usr/share/man/man1/{name}.gz", packed(page.encode()))
    write(document / "copyright", (SOURCES / "copyright").read_bytes())
    write(document / "THIRD-PARTY-NOTICES.gz", packed(third_party.encode()))
    write(document / "README.md.gz", packed((ROOT / "README.md").read_bytes()))
    for page in (ROOT / "docs").iterdir():
        write(document / "docs" / page.name, page.read_bytes())
    for name, data in monitoring().items():
        write(document / "examples" / name, data)
    for shell, place in COMPLETIONS.items():
        write(root / "usr/share" / place, run(str(build.binary), "completions", shell).encode())
    write(document / "changelog.gz", packed((ROOT / "CHANGELOG.md").read_bytes()))
    write(document / "changelog.Debian.gz", packed(changelog(build).encode()))
    overrides = root / "usr/share/lintian/overrides/proxima"
    write(overrides, (SOURCES / "lintian-overrides").read_bytes())


def make(build: Build, out: pathlib.Path, scratch: pathlib.Path, third_party: str) -> pathlib.Path:
    """Writes the package into a folder."""
    if shutil.which("dpkg-deb") is None:
        sys.exit("dpkg-deb is needed: install the package dpkg")
    root = scratch / "deb"
    lay_out(build, root, third_party)
    files = sorted(path for path in root.rglob("*") if path.is_file())
    kilobytes = sum(-(-path.stat().st_size // 1024) for path in files)
    digests = {path: hashlib.md5(path.read_bytes()).hexdigest() for path in files}
    sums = [f"{digest}  {path.relative_to(root)}\n" for path, digest in digests.items()]
    write(root / "DEBIAN/control", control(build, kilobytes).encode())
    write(root / "DEBIAN/conffiles", f"{CONFFILE}\n".encode())
    listed = [line for line in sums if not line.endswith(f"  {CONFFILE.lstrip('/')}\n")]
    write(root / "DEBIAN/md5sums", "".join(listed).encode())
    for script in SCRIPTS:
        write(root / f"DEBIAN/{script}", (SOURCES / script).read_bytes(), 0o755)
    path = out / f"proxima_{build.version}-{REVISION}_{build.debian}.deb"
    # Later dates of files become this one.
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(build.epoch)}
    command = ["dpkg-deb", "--root-owner-group", "-Zxz", "--build", str(root), str(path)]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    return path
