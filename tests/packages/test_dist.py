"""Packages: what is installed from them serves, and they are what they say."""

import base64
import gzip
import hashlib
import json
import math
import os
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile

import pytest
from conftest import ROOT, run, serving, without

VERSION = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
# A date for all files: 2026-01-01.
EPOCH = "1767225600"


def make(proxima, out):
    environment = {**os.environ, "SOURCE_DATE_EPOCH": EPOCH}
    script = ROOT / "scripts/dist/make.py"
    run(sys.executable, script, "--binary", proxima, "--out", out, env=environment)
    return out


@pytest.fixture(scope="module")
def dist(proxima, tmp_path_factory):
    return make(proxima, tmp_path_factory.mktemp("dist"))


def only(folder, pattern):
    (found,) = folder.glob(pattern)
    return found


@pytest.fixture(scope="module")
def unpacked(dist, tmp_path_factory):
    if shutil.which("dpkg") is None:
        without("dpkg", "dpkg")
    root = tmp_path_factory.mktemp("deb")
    run("dpkg", "-x", only(dist, "*.deb"), root)
    return root


def answers(program, model, *flags):
    """A program serves the demo model, with the vector that the reference implementation gives."""
    command = [str(program), "serve", "--model", str(model), "--port", "0", *flags]
    case = json.loads((ROOT / "tests/golden/minilm.json").read_text())["cases"][0]
    packed = base64.b64decode(case["vector"])
    wanted = struct.unpack(f"<{len(packed) // 4}f", packed)
    with serving(command) as server:
        (vector,) = json.loads(server.ask("/embed", {"inputs": case["text"]}).body)
    cosine = sum(a * b for a, b in zip(vector, wanted, strict=True))
    assert cosine / (math.hypot(*vector) * math.hypot(*wanted)) > 0.99999


def test_wheel_serves_from_a_clean_environment(dist, model, tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    programs = tmp_path / "venv/bin"
    wheel = only(dist, "*.whl")
    run(programs / "python", "-m", "pip", "install", "--no-index", "--no-deps", wheel)
    assert run(programs / "proxima", "--version").split()[:2] == ["proxima", VERSION]
    answers(programs / "proxima", model)
    run(programs / "python", "-m", "pip", "uninstall", "--yes", "proxima-server")
    assert not (programs / "proxima").exists()


def test_wheel_names_the_oldest_glibc_that_will_do(dist, proxima):
    tag = re.fullmatch(r".*-py3-none-manylinux_(\d+)_(\d+)_(\w+)\.whl", only(dist, "*.whl").name)
    major, minor = int(tag[1]), int(tag[2])
    # The linker's own list of versions, which is another part of the file than the symbols.
    needs = run("readelf", "--version-info", "--wide", proxima)
    asked = {(int(a), int(b)) for a, b in re.findall(r"Name: GLIBC_(\d+)\.(\d+)", needs)}
    assert (major, minor) == max(asked)


def test_wheel_lists_all_its_files(dist):
    with zipfile.ZipFile(only(dist, "*.whl")) as wheel:
        names = wheel.namelist()
        record = next(name for name in names if name.endswith("/RECORD"))
        lines = wheel.read(record).decode().splitlines()
        assert sorted(line.split(",")[0] for line in lines) == sorted(names)
        for line in lines:
            name, _, size = line.split(",")
            assert name == record or len(wheel.read(name)) == int(size)


def test_deb_serves_with_its_configuration(unpacked, model):
    configuration = unpacked / "etc/proxima/proxima.toml"
    answers(unpacked / "usr/bin/proxima", model, "--config", str(configuration))


def test_deb_needs_what_the_linker_finds(dist, unpacked, tmp_path):
    fields = run("dpkg-deb", "--field", only(dist, "*.deb"), "Depends", "Recommends")
    assert "Recommends: ffmpeg" in fields
    if shutil.which("dpkg-shlibdeps") is None:
        without("dpkg-shlibdeps", "dpkg-dev")
    (tmp_path / "debian").mkdir()
    source = "Source: proxima\n\nPackage: proxima\nArchitecture: any\n"
    (tmp_path / "debian/control").write_text(source)
    program = unpacked / "usr/bin/proxima"
    told = run("dpkg-shlibdeps", "-O", program, cwd=tmp_path)
    names = {part.split()[0] for part in told.partition("=")[2].strip().split(", ")}
    depends = re.search(r"Depends: (.*)", fields)[1]
    assert {part.split()[0] for part in depends.split(", ")} == names


def test_deb_is_as_debian_wants_it(dist):
    if shutil.which("lintian") is None:
        without("lintian", "lintian")
    command = ["lintian", "--fail-on", "error,warning", "--allow-root", only(dist, "*.deb")]
    run(*command)


def test_unit_is_one_that_systemd_takes(unpacked, tmp_path):
    if shutil.which("systemd-analyze") is None:
        without("systemd-analyze", "systemd")
    unit = (unpacked / "usr/lib/systemd/system/proxima.service").read_text()
    # Everything as it is but for where the program lies here.
    unit = unit.replace("/usr/bin/proxima", str(unpacked / "usr/bin/proxima"))
    (tmp_path / "proxima.service").write_text(unit)
    # It goes on to look at units that this machine may not have: its own complaints count.
    command = ["systemd-analyze", "verify", "--man=no", tmp_path / "proxima.service"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "proxima.service" not in done.stderr, done.stderr


def test_deb_has_no_file_that_others_may_write(dist):
    listed = run("dpkg-deb", "--contents", only(dist, "*.deb"))
    for line in listed.splitlines():
        mode, owner = line.split()[:2]
        assert owner == "root/root" and mode[5] == mode[8] == "-", line


def test_deb_has_the_manual_and_the_pages(dist):
    listed = run("dpkg-deb", "--contents", only(dist, "*.deb"))
    for path in ("man/man1/proxima.1.gz", "man/man1/proxima-serve.1.gz", "doc/proxima/docs/api.md",
                 "doc/proxima/examples/monitoring/alerts.yml", "zsh/vendor-completions/_proxima",
                 "bash-completion/completions/proxima"):
        assert f"./usr/share/{path}\n" in listed, path


def test_archive_has_its_checksums(dist, model, tmp_path):
    with tarfile.open(only(dist, "*.tar.gz")) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    run("sha256sum", "--check", "--strict", "SHA256SUMS", cwd=folder)
    listed = {line.split()[1] for line in (folder / "SHA256SUMS").read_text().splitlines()}
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == listed | {"SHA256SUMS"}
    assert {"LICENSE", "README.md", "THIRD-PARTY-NOTICES", "docs/api.md", "proxima",
            "monitoring/alerts.yml", "monitoring/proxima.json"} <= listed
    assert run(folder / "proxima", "--version").split()[:2] == ["proxima", VERSION]


def test_all_files_have_checksums(dist):
    run("sha256sum", "--check", "--strict", "SHA256SUMS", cwd=dist)
    listed = {line.split()[1] for line in (dist / "SHA256SUMS").read_text().splitlines()}
    assert {path.name for path in dist.iterdir()} == listed | {"SHA256SUMS"}


def test_the_same_build_gives_the_same_bytes(dist, proxima, tmp_path):
    again = make(proxima, tmp_path)
    assert (again / "SHA256SUMS").read_text() == (dist / "SHA256SUMS").read_text()


def test_list_of_parts_is_that_of_the_lock(dist):
    listed = json.loads(only(dist, "*.cdx.json").read_text())
    assert (listed["bomFormat"], listed["specVersion"]) == ("CycloneDX", "1.5")
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    sums = {(one["name"], one["version"]): one.get("checksum") for one in lock}
    for part in listed["components"]:
        told = [one["content"] for one in part.get("hashes", [])]
        wanted = sums[part["name"], part["version"]]
        assert told == ([wanted] if wanted else []), part["name"]
    linked = {one["name"] for one in listed["components"] if one["scope"] == "required"}
    # What serves, and what decodes pictures in C, is linked; what compiles gRPC and tests is not.
    assert {"axum", "mozjpeg-sys", "onig_sys", "proxima-kernels"} <= linked
    assert not {"protox", "proptest", "criterion", "syn", "cc"} & linked
    parts = [listed["metadata"]["component"], *listed["components"]]
    refs = {part["bom-ref"] for part in parts}
    assert {one["ref"] for one in listed["dependencies"]} == refs
    assert {ref for one in listed["dependencies"] for ref in one["dependsOn"]} <= refs


def test_notices_name_every_crate_that_is_linked(dist, unpacked):
    packed = unpacked / "usr/share/doc/proxima/THIRD-PARTY-NOTICES.gz"
    notices = gzip.decompress(packed.read_bytes()).decode()
    listed = json.loads(only(dist, "*.cdx.json").read_text())
    for part in listed["components"]:
        if part["scope"] == "required" and "hashes" in part:
            assert f"{part['name']} {part['version']}" in notices
    assert "WITHOUT WARRANTY OF ANY KIND" in notices


def test_notes_are_what_the_changelog_says(dist):
    notes = only(dist, "*-notes.md").read_text()
    title, _, rest = notes.partition("\n\n")
    assert title == f"# Proxima {VERSION}"
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert rest.strip() and rest.strip() in changelog and "\n## " not in rest
    digest = hashlib.sha256(notes.encode()).hexdigest()
    assert digest in only(dist, "SHA256SUMS").read_text()
