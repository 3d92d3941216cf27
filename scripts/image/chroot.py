#!/usr/bin/env python3
"""Carries out the Dockerfile's steps of the image for CPUs in a folder, where there is no Docker.

    chroot.py make --proxima target/release/proxima --out FOLDER
    chroot.py run --out FOLDER [--volume HERE:THERE] -- serve --model /models/demo --port 0

`make` needs root, debootstrap and the network for Debian's packages. Debian comes from debootstrap
instead of the image `debian:trixie-slim`, and the stage `build` is replaced by the executable that
is given; the other steps are the file's own. `run` starts the result as Docker would: user,
variables and command are the image's. Mounts end with the process, as they are in a namespace.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys

from dockerfile import Stage, Step, expanded, pairs, stages

ROOT = pathlib.Path(__file__).resolve().parents[2]
# The image that is made, and the stage that has what cargo builds.
LAST, BUILD = "cpu", "build"
SUITE = "trixie"
# Where programs are looked for in Debian's images.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CONFIG = "config.json"


def run(*command: object) -> None:
    """A program that must not fail."""
    done = subprocess.run([str(part) for part in command])
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed with code {done.returncode}")


def enter(root: pathlib.Path, volumes: list[str], command: list[str]) -> list[str]:
    """The command line of a program in a folder, with devices and volumes that others do not see."""
    mounts = [("--rbind", "/dev", "/dev"), ("-t", "proc", "proc", "/proc")]
    mounts += [("--bind", *volume.split(":", 1)) for volume in volumes]
    script = ["set -e"]
    for *what, there in mounts:
        target = f"{root}{there}"
        script.append(f"mkdir -p '{target}'; mount {' '.join(what)} '{target}'")
    script.append('exec "$@"')
    # Each program becomes the next, so signals come to the last.
    return ["unshare", "--mount", "sh", "-c", "; ".join(script), "sh", *command]


def debian(root: pathlib.Path) -> None:
    """An image of Debian with the packages that cannot be removed."""
    root.parent.mkdir(parents=True, exist_ok=True)
    run("debootstrap", "--variant=minbase", SUITE, root, "http://deb.debian.org/debian")
    run("chroot", root, "apt-get", "clean")


def copy(one: Step, out: pathlib.Path, root: pathlib.Path) -> None:
    """COPY, of a stage or of the sources."""
    *sources, target = one.words
    folder = out / one.flags["from"] if "from" in one.flags else ROOT
    there = root / target.lstrip("/")
    for source in sources:
        here = folder / source.lstrip("/")
        if here.is_dir():
            run("cp", "--recursive", "--no-dereference", f"{here}/.", there)
        else:
            shutil.copy(here, there)
    if "chown" in one.flags:
        run("chown", "--recursive", one.flags["chown"], there)


def carry_out(stage: Stage, out: pathlib.Path) -> dict:
    """The steps of a stage; what they say of the image's start."""
    root = out / stage.name
    if stage.base.split()[-1] != f"debian:{SUITE}-slim":
        sys.exit(f"{stage.name} begins with {stage.base}, which cannot be had without Docker")
    if not root.exists():
        debian(root)
    architecture = subprocess.check_output(["dpkg", "--print-architecture"], text=True).strip()
    values: dict[str, str] = {}
    config: dict = {"Env": {}, "Labels": {}}
    for one in stage.steps:
        print(f"[{stage.name}] {one.name} {one.text}", flush=True)
        if one.name in ("ARG", "ENV", "LABEL"):
            told = {key: expanded(value, values) for key, value in pairs(one).items()}
            told = {key: architecture if key == "TARGETARCH" else told[key] for key in told}
            values |= {} if one.name == "LABEL" else told
            config["Env"] |= told if one.name == "ENV" else {}
            config["Labels"] |= told if one.name == "LABEL" else {}
        elif one.name == "COPY":
            copy(one, out, root)
        elif one.name == "RUN":
            variables = [f"{key}={value}" for key, value in values.items()]
            inside = ["chroot", str(root), "env", "-i", f"PATH={PATH}", *variables]
            run(*enter(root, [], [*inside, "sh", "-c", one.text]))
        elif one.name in ("ENTRYPOINT", "CMD", "HEALTHCHECK"):
            config[one.name] = one.words
        elif one.name == "USER":
            config[one.name] = one.text
    return config


def place_build(proxima: pathlib.Path, out: pathlib.Path) -> None:
    """What the stage `build` leaves for the last one."""
    folder = out / BUILD / "out/usr/local"
    (folder / "bin").mkdir(parents=True, exist_ok=True)
    (folder / "share/doc/proxima").mkdir(parents=True, exist_ok=True)
    (out / BUILD / "models").mkdir(exist_ok=True)
    run("strip", "-o", folder / "bin/proxima", proxima)
    shutil.copy(ROOT / "LICENSE", folder / "share/doc/proxima")


def megabytes(root: pathlib.Path) -> float:
    """What regular files take."""
    files = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    return sum(path.stat().st_size for path in files) / 1e6


def make(arguments: argparse.Namespace) -> None:
    """Makes the folder."""
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        sys.exit("root and debootstrap are needed: apt-get install debootstrap")
    out = arguments.out.resolve()
    found = stages(ROOT / "docker/Dockerfile")
    place_build(arguments.proxima.resolve(), out)
    wanted = {step.flags["from"] for step in found[LAST].steps if "from" in step.flags} - {BUILD}
    for name in sorted(wanted):
        if (out / name / "out").exists():
            print(f"[{name}] is there already")
        else:
            carry_out(found[name], out)
    shutil.rmtree(out / LAST, ignore_errors=True)
    config = carry_out(found[LAST], out)
    (out / CONFIG).write_text(json.dumps(config, indent=1))
    print(f"{megabytes(out / LAST):.0f} MB in all, of which:")
    for name in (BUILD, *sorted(wanted)):
        print(f"{megabytes(out / name / 'out'):.0f} MB copied from {name}")


def start(arguments: argparse.Namespace) -> None:
    """Becomes the image's program."""
    out = arguments.out.resolve()
    config = json.loads((out / CONFIG).read_text())
    variables = [f"{key}={value}" for key, value in config["Env"].items()]
    program = [*config["ENTRYPOINT"], *(arguments.command or config["CMD"])]
    inside = ["chroot", f"--userspec={config['USER']}", str(out / LAST)]
    inside += ["env", "-i", f"PATH={PATH}", *variables, *arguments.env, *program]
    command = enter(out / LAST, arguments.volume, inside)
    os.execvp(command[0], command)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    making = commands.add_parser("make")
    making.add_argument("--proxima", type=pathlib.Path, required=True)
    making.set_defaults(act=make)
    running = commands.add_parser("run")
    running.add_argument("--volume", action="append", default=[], metavar="HERE:THERE")
    running.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    running.add_argument("command", nargs="*")
    running.set_defaults(act=start)
    for one in (making, running):
        one.add_argument("--out", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    arguments.act(arguments)


main()
