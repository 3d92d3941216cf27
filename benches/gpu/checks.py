"""What is checked before anything is measured: the device, the program, and its tests on the device."""

import concurrent.futures
import glob
import os
import pathlib
import re
import shutil
import sys
import time

from limits import Failed, command, reason

LIBRARIES = ("libcuda.so.1", "libcublas.so.13", "libcublasLt.so.13", "libcurand.so.10", "libcudart.so.13")
# Needs weights that are not carried along.
NEEDS_MINILM = "the_real_minilm"
TESTS_AT_A_TIME = 4


def library_folders(python):
    """Folders of CUDA's libraries: those of Python's packages, of a toolkit, of the driver; and which is where.

    What the system finds by itself is left to it: a second copy of the driver's library would not match the driver.
    """
    _, known = command([shutil.which("ldconfig") or "/sbin/ldconfig", "-p"], 10)
    _, paths = command([python, "-c", "import sys; print(*sys.path, sep='\\n')"], 10)
    places = [f"{path}/nvidia/{part}" for path in paths.splitlines() if path for part in ("cu13/lib", "*/lib")]
    places += ["/usr/local/cuda/lib64", "/usr/local/cuda-13*/lib64", "/usr/local/cuda/targets/x86_64-linux/lib"]
    places += ["/usr/local/nvidia/lib64", "/usr/local/nvidia/lib"]
    found = {}
    for name in LIBRARIES:
        if re.search(rf"^\s*{re.escape(name)} ", known, re.MULTILINE):
            continue
        for place in places:
            files = sorted(glob.glob(f"{place}/{name}"))
            if files:
                found[name] = str(pathlib.Path(files[0]).parent)
                break
    return list(dict.fromkeys(found.values())), found


def smi(query, what="gpu"):
    """Lines of nvidia-smi's answer, or none."""
    if shutil.which("nvidia-smi") is None:
        return []
    status, output = command(["nvidia-smi", f"--query-{what}={query}", "--format=csv,noheader,nounits"], 10)
    return output.strip().splitlines() if status == 0 else []


def gpu_memory():
    """MB of the first GPU that are in use, by all processes."""
    lines = smi("memory.used")
    return int(lines[0]) if lines else None


def machine(bench):
    """The program, the GPU, the driver, the processor."""
    status, output = command([bench.proxima, "--version"], 20, env=bench.environment)
    if status != 0:
        raise Failed(f"{bench.proxima} does not start: {reason(output)}")
    gpus = smi("name,driver_version,memory.total,compute_cap")
    with open("/proc/cpuinfo") as info:
        names = re.findall(r"model name\s*: (.*)", info.read())
    found = {
        "proxima": output.strip(),
        "gpu": gpus[0] if gpus else None,
        "processor": f"{names[0] if names else 'unknown'}, {os.cpu_count()} threads",
        "libraries": bench.libraries,
        "gpu_memory_before_mb": gpu_memory(),
        "command": sys.argv,
    }
    return found


def programs(folder):
    """Test executables of a folder, the quickest to fail first."""
    files = sorted(path for path in pathlib.Path(folder).iterdir() if path.is_file() and os.access(path, os.X_OK))
    return sorted(files, key=lambda path: not path.name.startswith("cuda"))


def listed(program, environment):
    """Names of a program's tests."""
    status, output = command([program, "--list", "--format", "terse"], 20, env=environment)
    if status != 0:
        raise Failed(f"{program.name} does not start: {reason(output)}")
    return [line.removesuffix(": test") for line in output.splitlines() if line.endswith(": test")]


def run_test(program, name, environment, folder, seconds):
    """One test in a process of its own: an error that stays with a CUDA context spoils no other test."""
    begun = time.monotonic()
    words = [program, "--exact", name, "--nocapture", "--test-threads", "1"]
    status, output = command(words, seconds, env=environment, cwd=folder)
    how = "passed" if status == 0 else "failed"
    # Tests of the device end well where they find none.
    if status == 0 and ("skipped:" in output or "no CUDA device here" in output):
        how = "skipped"
    said = "" if how == "passed" else f"not done after {seconds:.0f} s" if status is None else told(output)
    log = "" if how == "passed" else output[-3000:]
    return {"test": f"{program.name} {name}", "how": how, "said": said, "seconds": time.monotonic() - begun, "log": log}


def told(output):
    """What a failed test says: the line behind that of its panic."""
    lines = output.splitlines()
    for place, line in enumerate(lines):
        if "panicked at" in line:
            return " ".join(part.strip() for part in lines[place + 1 : place + 3]).replace("|", "/")[:160]
        if line.startswith("skipped:") or line.startswith("no CUDA device here"):
            return line.removeprefix("skipped: ")[:160]
    return reason(output)


def tests(bench, seconds):
    """Every test of every program, the first alone: it has the driver compile what the others then find."""
    if bench.tests is None:
        raise Failed("no tests given (--tests)")
    environment = {**bench.environment, "PROXIMA_TEST_DEVICE": bench.device, "PROXIMA_CACHE": str(bench.cache)}
    until = time.monotonic() + seconds
    todo, results, left_out = [], [], []
    for program in programs(bench.tests):
        try:
            todo += [(program, name) for name in listed(program, environment)]
        except Failed as failure:
            results.append({"test": program.name, "how": "failed", "said": str(failure), "seconds": 0, "log": ""})
    if not (bench.cache / "models" / "all-MiniLM-L6-v2" / "model.safetensors").exists():
        left_out = [name for _, name in todo if name == NEEDS_MINILM]
        todo = [one for one in todo if one[1] != NEEDS_MINILM]

    def one(work):
        left = min(bench.test_seconds, until - time.monotonic())
        if left < 1:
            return {"test": f"{work[0].name} {work[1]}", "how": "not run", "said": "no time", "seconds": 0, "log": ""}
        return run_test(*work, environment, bench.temporary, left)

    if todo:
        results.append(one(todo[0]))
    with concurrent.futures.ThreadPoolExecutor(TESTS_AT_A_TIME) as pool:
        results += pool.map(one, todo[1:])
    return {"tests": results, "left_out": left_out}


def sanitizer(bench, seconds):
    """compute-sanitizer over the tests of attention."""
    tool = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if not pathlib.Path(tool).exists():
        raise Failed("compute-sanitizer is not installed")
    if bench.tests is None:
        raise Failed("no tests given (--tests)")
    program = pathlib.Path(bench.tests) / "cuda_ops"
    names = [name for name in listed(program, bench.environment) if "attention" in name]
    if not names:
        raise Failed("cuda_ops has no test of attention")
    words = [tool, "--tool", "memcheck", "--error-exitcode", "86", program, "--exact", *names, "--nocapture"]
    status, output = command([*words, "--test-threads", "1"], seconds, env=bench.environment, cwd=bench.temporary)
    summary = [line.strip("= ").strip() for line in output.splitlines() if "ERROR SUMMARY" in line]
    first = [line.strip("= ").strip() for line in output.splitlines() if line.startswith("=========")][:12]
    return {"status": status, "summary": summary[-1] if summary else None, "first": first, "log": output[-6000:]}


def lay_out_goldens(root, given):
    """Puts golden files where tests look for them: at the path that they were compiled at."""
    place = pathlib.Path(root) / "tests" / "golden"
    if place.exists() or not given.exists():
        return
    # Their path leads through this folder and out of it.
    (pathlib.Path(root) / "models").mkdir(parents=True, exist_ok=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_symlink():
        place.unlink()
    place.symlink_to(given)
