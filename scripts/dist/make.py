#!/usr/bin/env python3
"""Makes all packages of one release build: a wheel, a Debian package, an archive, a list of its
parts (CycloneDX), the notes of the release, and SHA256SUMS of them all.

    make.py --binary target/release/proxima --out target/dist

The same binary, sources and date (SOURCE_DATE_EPOCH, else the commit's) give the same bytes.
"""

import argparse
import pathlib
import re
import sys

import archive
import crates
import deb
import facts
import wheel

parser = argparse.ArgumentParser(description="Makes packages of a release build.")
parser.add_argument("--binary", required=True, type=pathlib.Path)
parser.add_argument("--out", required=True, type=pathlib.Path)


def notes(version: str) -> str:
    """The part of CHANGELOG.md of this version, or what is not released yet."""
    text = (facts.ROOT / "CHANGELOG.md").read_text()
    parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    of_version = re.compile(rf"\[?v?{re.escape(version)}\]?(\s.*)?")
    for title, section in sections.items():
        if of_version.fullmatch(title) or title.strip("[]").lower() == "unreleased":
            return f"# Proxima {version}\n\n{section.strip()}\n"
    sys.exit(f"CHANGELOG.md has neither a part {version} nor one of what is unreleased")


def main() -> None:
    """Makes them all."""
    arguments = parser.parse_args()
    if not arguments.binary.is_file():
        sys.exit(f"{arguments.binary} is not there: build it first")
    arguments.out.mkdir(parents=True, exist_ok=True)
    with facts.scratch_folder() as folder:
        scratch = pathlib.Path(folder)
        build = facts.look_at(arguments.binary.resolve(), scratch)
        if not facts.knows_commit(arguments.binary.resolve()):
            problem = "warning: --version of the binary names no commit; `make build` gives it one"
            print(problem, file=sys.stderr)
        found = crates.crates(build)
        materials, third_party = crates.bill_of_materials(build, found), crates.notices(found)
        stem = f"proxima-{build.version}"
        listed = arguments.out / f"{stem}-{build.machine}-linux.cdx.json"
        listed.write_text(materials)
        told = arguments.out / f"{stem}-notes.md"
        told.write_text(notes(build.version))
        made = [
            wheel.make(build, arguments.out, third_party),
            deb.make(build, arguments.out, scratch, third_party),
            archive.make(build, arguments.out, third_party, materials),
            listed,
            told,
        ]
    sums = archive.checksums({path.name: path.read_bytes() for path in made})
    (arguments.out / "SHA256SUMS").write_text(sums)
    for path in made:
        print(f"{path.stat().st_size / 1e6:8.1f} MB  {path}")


main()
