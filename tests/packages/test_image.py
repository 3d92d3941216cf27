"""The image: what goes into its build, and what its Dockerfile promises. No Docker is needed."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
from conftest import ROOT, run

sys.path.insert(0, str(ROOT / "scripts/image"))
from dockerfile import pairs, stages  # noqa: E402

STAGES = stages(ROOT / "docker/Dockerfile")
# Those that are pushed.
IMAGES = ("cpu", "cuda")
# Larger than all sources, smaller than any build, model or record of benchmarks.
CONTEXT_BYTES_MAX = 8_000_000


def pattern(text):
    """A line of .dockerignore as a regular expression over a path or one of its folders."""
    parts = {"**/": "(.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    cut = re.split(r"(\*\*/|\*\*|\*|\?)", text)
    return re.compile("".join(parts.get(part, re.escape(part)) for part in cut))


def context():
    """The files that Docker sends to a build: the last line that matches a path decides."""
    rules = []
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            rules.append((line.startswith("!"), pattern(line.strip().lstrip("!"))))
    taken = []
    for folder, folders, names in os.walk(ROOT):
        # Never looked into, however they may be named in rules: the walk would take minutes.
        folders[:] = [name for name in folders if name not in (".git", "target")]
        for name in names:
            path = os.path.relpath(os.path.join(folder, name), ROOT)
            parts = path.split("/")
            above = ["/".join(parts[: end + 1]) for end in range(len(parts))]
            kept = True
            for keeps, rule in rules:
                if any(rule.fullmatch(one) for one in above):
                    kept = keeps
            if kept:
                taken.append(path)
    return taken


@pytest.fixture(scope="module")
def sent():
    return set(context())


def test_rules_match_as_docker_says():
    assert pattern("*/tests").fullmatch("models/tests")
    assert not pattern("*/tests").fullmatch("server/engine/tests")
    assert pattern("**/.env").fullmatch(".env") and pattern("**/.env").fullmatch("a/b/.env")
    assert not pattern("docker/*.sh").fullmatch("docker/monitoring/a.sh")


def test_context_has_what_a_build_reads(sent):
    tracked = run("git", "-C", ROOT, "ls-files").splitlines()
    # tests/candle is a package outside the workspace.
    manifests = [path for path in tracked if path.endswith("Cargo.toml") and not path.startswith("tests/")]
    builders = [path for path in tracked if path.endswith("build.rs")]
    sources = [path for path in tracked if re.match(r"[a-z/]+/src/", path)]
    assert sent.issuperset({"Cargo.lock", *manifests, *builders, *sources})


def test_context_has_what_sources_include(sent):
    included = re.compile(r'include_(?:str|bytes)!\(\s*"([^"]+)"')
    found = 0
    for path in sorted(path for path in sent if path.endswith(".rs")):
        for name in included.findall((ROOT / path).read_text()):
            found += 1
            assert os.path.normpath(os.path.join(os.path.dirname(path), name)) in sent, path
    assert found > 0


def test_cargo_takes_the_context(sent, tmp_path):
    if shutil.which("cargo") is None:
        pytest.skip("cargo is not here")
    for path in sent:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--offline", "--no-deps"]
    told = json.loads(run(*command, cwd=tmp_path))
    assert "proxima" in {package["name"] for package in told["packages"]}


def test_context_has_nothing_else(sent):
    tops = {path.split("/")[0] for path in sent}
    folders = {"docker", "kernels", "models", "openapi", "server"}
    assert tops == {"Cargo.toml", "Cargo.lock", "LICENSE"} | folders
    assert not [path for path in sent if "/tests/" in path and "/src/" not in path]
    assert sum((ROOT / path).stat().st_size for path in sent) < CONTEXT_BYTES_MAX


def test_stages_copy_what_is_there(sent):
    for stage in STAGES.values():
        for step in stage.steps:
            if step.name != "COPY":
                continue
            source = step.words[0]
            if "from" not in step.flags:
                assert source == "." or source in sent, source
            elif not step.flags["from"].startswith("rust:"):
                made = " ".join(one.text for one in STAGES[step.flags["from"]].steps)
                assert source in made, f"{stage.name} copies {source}"


@pytest.mark.parametrize("name", IMAGES)
def test_images_are_as_promised(name):
    steps = {step.name: step for step in STAGES[name].steps}
    # Kubernetes can tell only of a number that it is not root.
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", steps["USER"].text)
    # The shell form would need a shell, and a variable in it would be that of the build.
    assert steps["HEALTHCHECK"].words == ["proxima", "health"]
    assert steps["ENTRYPOINT"].words == ["proxima"]
    assert steps["CMD"].words[0] == "serve"
    labels = {key.removeprefix("org.opencontainers.image.") for key in pairs(steps["LABEL"])}
    assert labels >= {"title", "description", "licenses", "version", "revision", "created"}
    # Nothing runs in it while it is built, so any machine builds it for any other.
    assert "RUN" not in steps
    sources = [one.flags["from"] for one in STAGES[name].steps if one.name == "COPY"]
    assert "ffmpeg" in sources


def test_ffmpeg_has_every_decoder_that_is_asked_for():
    asked = (ROOT / "server/src/media/ffmpeg/mod.rs").read_text()
    listed = re.search(r'DECODERS: &str = "([^"]+)"', asked)[1]
    decoders = set(re.sub(r"\\\s+", "", listed).split(","))
    script = (ROOT / "docker/ffmpeg.sh").read_text()
    built = set(re.search(r"--enable-decoder=(\S+)", script)[1].split(","))
    # `av1` is a decoder of graphics cards and the name of what libdav1d decodes; other libraries
    # decode what is decoded already.
    assert decoders - built == {"av1", "libaom-av1", "libvpx", "libvpx-vp9"}
    assert built <= decoders


def test_rust_is_new_enough():
    workspace = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]
    needed = workspace["package"]["rust-version"]
    text = (ROOT / "docker/Dockerfile").read_text()
    used = set(re.findall(r"rust:(\d+\.\d+)-slim", text))
    assert len(used) == 1
    numbers = [[int(part) for part in one.split(".")[:2]] for one in (*used, needed)]
    assert numbers[0] >= numbers[1]


def test_bake_file_makes_stages_that_are_there():
    text = (ROOT / "docker/docker-bake.hcl").read_text()
    targets = re.findall(r"^\s*target\s*=\s*\"(\w+)\"", text, re.MULTILINE)
    assert sorted(targets) == sorted(IMAGES) and set(targets) <= set(STAGES)
    arguments = re.search(r"args = \{([^}]*)\}", text)[1]
    for name in re.findall(r"(\w+)\s*=", arguments):
        for image in IMAGES:
            assert name in {key for step in STAGES[image].steps for key in pairs_of_arg(step)}
    machines = set(re.findall(r"linux/(\w+)", text))
    script = (ROOT / "docker/toolchain.sh").read_text()
    assert all(f"    {machine}) " in script for machine in machines)


def pairs_of_arg(step):
    return pairs(step) if step.name == "ARG" else {}


def test_hadolint_finds_nothing():
    program = os.path.join(os.path.dirname(sys.executable), "hadolint")
    command = [program, "--config", ROOT / "docker/hadolint.yaml", ROOT / "docker/Dockerfile"]
    run(*command)


@pytest.mark.parametrize("script", ["ffmpeg.sh", "toolchain.sh"])
def test_scripts_are_of_any_shell(script):
    done = subprocess.run(["sh", "-n", ROOT / "docker" / script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_no_image_has_curl():
    for name in IMAGES:
        for step in STAGES[name].steps:
            assert not re.search(r"\b(curl|wget)\b", step.text)
