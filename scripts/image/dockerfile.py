"""Reads Dockerfiles as far as this project's own need it.

Must not know: how steps are carried out.
"""

import dataclasses
import json
import pathlib
import re
import shlex
import string


@dataclasses.dataclass(frozen=True)
class Step:
    """One instruction: its name, its flags without dashes, the rest of its text."""

    name: str
    flags: dict[str, str]
    text: str

    @property
    def words(self) -> list[str]:
        """The arguments, also where they are written as JSON."""
        return json.loads(self.text) if self.text.startswith("[") else shlex.split(self.text)


@dataclasses.dataclass(frozen=True)
class Stage:
    """What is between two FROMs."""

    base: str
    name: str
    steps: list[Step]


def lines(text: str) -> list[str]:
    """Instructions, one a line: without comments, with what goes on in the next line."""
    kept = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(kept))
    return [line.strip() for line in joined.splitlines() if line.strip()]


def step(line: str) -> Step:
    """An instruction of its line."""
    name, _, rest = line.partition(" ")
    flags = {}
    while flag := re.match(r"--([a-z-]+)=(\S+)\s+", rest := rest.strip()):
        flags[flag[1]] = flag[2]
        rest = rest[flag.end() :]
    # HEALTHCHECK has its command after the word CMD.
    if name == "HEALTHCHECK":
        rest = rest.removeprefix("CMD").strip()
    return Step(name, flags, rest)


def stages(path: pathlib.Path) -> dict[str, Stage]:
    """The stages of a file by their names."""
    found: dict[str, Stage] = {}
    current = None
    for one in map(step, lines(path.read_text())):
        if one.name == "FROM":
            base, _, name = one.text.partition(" AS ")
            current = found[name] = Stage(base, name, [])
        elif current is not None:
            current.steps.append(one)
    return found


def pairs(one: Step) -> dict[str, str]:
    """What ENV, LABEL and ARG set; an ARG without a value is empty."""
    return {key: value for key, _, value in (word.partition("=") for word in one.words)}


def expanded(text: str, values: dict[str, str]) -> str:
    """With variables in place; those that are not known stay."""
    return string.Template(text).safe_substitute(values)
