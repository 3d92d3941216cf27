"""The crates that a binary is made of, from `cargo metadata`: a CycloneDX list of them, and their
licences.

Must not know: any format of packages.
"""

import collections
import dataclasses
import datetime
import json
import pathlib
import re
import sys
import tomllib
import uuid

from facts import ROOT, Build, run

# Files of a crate that say under which terms it may be given away.
TERMS = re.compile(r"(LICEN[CS]E|COPYING|COPYRIGHT|NOTICE|UNLICENSE)([-_.].*)?", re.IGNORECASE)
# More than a licence has.
TERMS_BYTES_MAX = 200_000


@dataclasses.dataclass(frozen=True)
class Crate:
    """One crate of the binary."""

    key: str
    name: str
    version: str
    license: str
    folder: pathlib.Path
    description: str
    repository: str
    # SHA-256 of its archive in the registry; none of our own.
    checksum: str
    # Whether its code is in the binary; otherwise it only ran while that was built.
    linked: bool
    needs: tuple[str, ...]


def metadata(build: Build) -> dict:
    """All that cargo knows of the workspace, without the network where that is not needed."""
    command = ("cargo", "metadata", "--format-version", "1", "--locked")
    return json.loads(run(*command, "--filter-platform", build.target))


def checksums() -> dict[tuple[str, str], str]:
    """The checksums of Cargo.lock, by name and version."""
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    return {(one["name"], one["version"]): one.get("checksum", "") for one in lock["package"]}


def edges(node: dict, kinds: set) -> list[str]:
    """What a package uses in one of these ways."""
    used = [one for one in node["deps"] if any(k["kind"] in kinds for k in one["dep_kinds"])]
    return [one["pkg"] for one in used]


def reached(nodes: dict[str, dict], start: str, kinds: set) -> set[str]:
    """All packages at the end of such edges."""
    seen, waiting = {start}, [start]
    while waiting:
        fresh = [key for key in edges(nodes[waiting.pop()], kinds) if key not in seen]
        seen.update(fresh)
        waiting.extend(fresh)
    return seen


def crates(build: Build) -> list[Crate]:
    """The crates of `proxima` by name, itself first. Those for tests are left out."""
    told = metadata(build)
    nodes = {node["id"]: node for node in told["resolve"]["nodes"]}
    packages = {package["id"]: package for package in told["packages"]}
    members = set(told["workspace_members"])
    start = next(key for key in members if packages[key]["name"] == "proxima")
    # Libraries of procedural macros run in the compiler: what they use is not linked either.
    macros = {
        key
        for key, package in packages.items()
        if any("proc-macro" in target["kind"] for target in package["targets"])
    }
    plain = {
        key: node | {"deps": [] if key in macros else node["deps"]} for key, node in nodes.items()
    }
    linked = reached(plain, start, {None}) - macros
    sums = checksums()
    found = []
    for key in reached(nodes, start, {None, "build"}):
        package = packages[key]
        found.append(
            Crate(
                key=key,
                name=package["name"],
                version=package["version"],
                license=(package["license"] or "").replace("/", " OR "),
                folder=pathlib.Path(package["manifest_path"]).parent,
                description=" ".join((package["description"] or "").split()),
                repository=package["repository"] or "",
                checksum=sums[package["name"], package["version"]],
                linked=key in linked,
                needs=tuple(edges(nodes[key], {None, "build"})),
            )
        )
    return sorted(found, key=lambda crate: (crate.key != start, crate.name, crate.version))


def reference(crate: Crate) -> str:
    """A package URL: what other programs know a crate by."""
    return f"pkg:cargo/{crate.name}@{crate.version}"


def component(crate: Crate) -> dict:
    """A crate as CycloneDX has it."""
    ref = reference(crate)
    entry = {
        "type": "library",
        "bom-ref": ref,
        "name": crate.name,
        "version": crate.version,
        "purl": ref,
        "scope": "required" if crate.linked else "excluded",
    }
    if crate.description:
        entry["description"] = crate.description
    if crate.license:
        entry["licenses"] = [{"expression": crate.license}]
    if crate.checksum:
        entry["hashes"] = [{"alg": "SHA-256", "content": crate.checksum}]
    if crate.repository.startswith("http"):
        entry["externalReferences"] = [{"type": "vcs", "url": crate.repository}]
    return entry


def bill_of_materials(build: Build, found: list[Crate]) -> str:
    """CycloneDX 1.5 as JSON, the same for the same Cargo.lock and date."""
    main = component(found[0]) | {"type": "application"}
    del main["scope"]
    refs = {crate.key: reference(crate) for crate in found}
    date = datetime.datetime.fromtimestamp(build.epoch, datetime.UTC)
    listed = [component(crate) for crate in found[1:]]
    # A name for exactly this list.
    name = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps([main, listed, build.epoch, build.target]))
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{name}",
        "version": 1,
        "metadata": {
            "timestamp": date.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": main,
            "properties": [{"name": "target", "value": build.target}],
        },
        "components": listed,
        "dependencies": [
            {"ref": refs[crate.key], "dependsOn": sorted({refs[key] for key in crate.needs})}
            for crate in found
        ],
    }
    return json.dumps(document, indent=1) + "\n"


def terms_of(crate: Crate) -> list[str]:
    """The texts of the licences that come with a crate."""
    files = sorted(path for path in crate.folder.iterdir() if TERMS.fullmatch(path.name))
    small = [path for path in files if path.is_file() and path.stat().st_size < TERMS_BYTES_MAX]
    return [path.read_text(errors="replace").strip().replace("\r\n", "\n") for path in small]


def notices(found: list[Crate]) -> str:
    """The licences of all crates that are linked, each text once, with those that come with it."""
    holders = collections.defaultdict(list)
    without = []
    for crate in found:
        if not crate.linked or not crate.checksum:
            continue
        texts = terms_of(crate)
        for text in texts:
            holders[text].append(f"{crate.name} {crate.version}")
        if not texts:
            without.append(f"{crate.name} {crate.version}: {crate.license} ({crate.repository})")
    if not holders:
        sys.exit("no crate has a licence: are the sources of the crates here?")
    line = "=" * 80
    parts = ["Proxima's binary has code of these crates, under these terms."]
    for text, names in sorted(holders.items(), key=lambda one: one[1]):
        parts.append(f"{line}\n{', '.join(names)}\n{line}\n\n{text}")
    if without:
        listed = "\n".join(without)
        title = "Crates that come without a text of their licence"
        parts.append(f"{line}\n{title}\n{line}\n\n{listed}")
    return "\n\n".join(parts) + "\n"
