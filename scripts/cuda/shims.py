#!/usr/bin/env python3
"""Makes a CUDA_HOME to link against whose programs start with and without a GPU.

    scripts/cuda/shims.py CUDA_HOME FOLDER

FOLDER gets the compiler and headers of CUDA_HOME as links, and in FOLDER/lib, for each library that
cudarc calls, an archive of small functions which open the real library at the first call (shim.c). Where
it is missing they answer with the library's own error code, so a program says that there is no CUDA
instead of not starting. The CUDA runtime, which candle's own kernels use, is linked statically.

Build with CUDA_HOME=FOLDER. Only for Linux on x86-64; needs the C compiler and cargo.
"""

import json
import os
import pathlib
import platform
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent

# Library: its module in cudarc, its files, and its codes for "not there" and "has no such function".
LIBRARIES = {
    # CUDA_ERROR_STUB_LIBRARY, CUDA_ERROR_NOT_FOUND
    "cuda": ("driver", ["libcuda.so.1", "libcuda.so"], 34, 500),
    # CUBLAS_STATUS_NOT_INITIALIZED, CUBLAS_STATUS_NOT_SUPPORTED
    "cublas": ("cublas", ["libcublas.so.{major}", "libcublas.so"], 1, 15),
    "cublasLt": ("cublaslt", ["libcublasLt.so.{major}", "libcublasLt.so"], 1, 15),
    # CURAND_STATUS_INITIALIZATION_FAILED, CURAND_STATUS_INTERNAL_ERROR
    "curand": ("curand", ["libcurand.so.10", "libcurand.so"], 203, 999),
    # NVRTC_ERROR_INTERNAL_ERROR
    "nvrtc": ("nvrtc", ["libnvrtc.so.{major}", "libnvrtc.so"], 11, 11),
}

# Registers that carry arguments; a slot is filled before the function sees them.
WORDS = ["rdi", "rsi", "rdx", "rcx", "r8", "r9"]
VECTORS = [f"xmm{index}" for index in range(8)]


def cudarc_sources() -> pathlib.Path:
    """Where cargo keeps the cudarc that the lock file names."""
    command = ["cargo", "metadata", "--format-version", "1", "--locked"]
    command += ["--features", "proxima/cuda", "--filter-platform", "x86_64-unknown-linux-gnu"]
    said = subprocess.run(command, cwd=HERE, check=True, stdout=subprocess.PIPE).stdout
    for package in json.loads(said)["packages"]:
        if package["name"] == "cudarc":
            return pathlib.Path(package["manifest_path"]).parent / "src"
    sys.exit("cargo knows no cudarc: is the feature cuda there?")


def functions(source: str) -> list[tuple[str, str]]:
    """The functions that a module declares as foreign, with the kind of what they return."""
    declared = r'extern "C" \{\s*(?:pub )?fn (\w+)\s*\([^;]*?\)\s*(?:->\s*([^;]+?))?\s*;'
    found = {}
    for name, returns in re.findall(declared, source):
        status = returns.endswith(("CUresult", "Status_t", "status_t", "nvrtcResult"))
        found[name] = "t" if "c_char" in returns else "s" if status else "z"
    return sorted(found.items())


def assembly(name: str, listed: list[tuple[str, str]]) -> str:
    """A jump through a slot for each function, and the way that a slot is filled."""
    lines = ["    .text"]
    for index, (function, _) in enumerate(listed):
        lines += [
            f"    .globl {function}",
            f"    .hidden {function}",
            f"    .type {function}, @function",
            f"{function}:",
            f"    jmp *{name}_slots+{8 * index}(%rip)",
            f"    .size {function}, .-{function}",
            f".Lfill{index}:",
            f"    movl ${index}, %eax",
            "    jmp .Lfill",
        ]
    # Six words and the frame pointer leave the stack aligned to 16 bytes, as the call wants it.
    lines += [".Lfill:", "    push %rbp", "    mov %rsp, %rbp"]
    lines += [f"    push %{word}" for word in WORDS]
    lines.append(f"    sub ${16 * len(VECTORS)}, %rsp")
    lines += [f"    movups %{vector}, {16 * at}(%rsp)" for at, vector in enumerate(VECTORS)]
    lines += ["    mov %eax, %edi", f"    call {name}_resolve", "    mov %rax, %r11"]
    lines += [f"    movups {16 * at}(%rsp), %{vector}" for at, vector in enumerate(VECTORS)]
    lines.append(f"    add ${16 * len(VECTORS)}, %rsp")
    lines += [f"    pop %{word}" for word in reversed(WORDS)]
    lines += ["    pop %rbp", "    jmp *%r11"]

    tables = {"slots": [f"    .quad .Lfill{index}" for index in range(len(listed))]}
    tables["names"] = [f"    .quad .Lname{index}" for index in range(len(listed))]
    lines += ['    .section .data.rel, "aw", @progbits', "    .balign 8"]
    for table, entries in tables.items():
        lines += [f"    .globl {name}_{table}", f"    .hidden {name}_{table}", f"{name}_{table}:"]
        lines += entries
    lines += ["    .section .rodata", f"    .globl {name}_kinds", f"    .hidden {name}_kinds"]
    lines.append(f'{name}_kinds: .ascii "{"".join(kind for _, kind in listed)}"')
    lines += [f'.Lname{index}: .asciz "{function}"' for index, (function, _) in enumerate(listed)]
    lines.append('    .section .note.GNU-stack, "", @progbits')
    return "\n".join(lines) + "\n"


def archive(library: str, sources: pathlib.Path, major: str, lib: pathlib.Path) -> int:
    """Writes the archive of a library, and a linker script in its name; returns its functions."""
    module, files, absent, missing = LIBRARIES[library]
    listed = functions((sources / module / "sys" / "mod.rs").read_text())
    if not listed:
        sys.exit(f"cudarc declares no functions of {library}: its sources are laid out anew")
    name = f"shim_{library}"
    (lib / f"{name}.S").write_text(assembly(name, listed))
    names = ",".join(f'"{file.format(major=major)}"' for file in files)
    macros = {"NAME": name, "FILES": names, "ABSENT": absent, "MISSING": missing}
    compiler = [os.environ.get("CC", "cc"), "-O2", "-fPIC", "-c"]
    defined = [f"-D{macro}={value}" for macro, value in macros.items()]
    subprocess.check_call([*compiler, *defined, HERE / "shim.c", "-o", lib / f"{name}_c.o"])
    subprocess.check_call([*compiler, lib / f"{name}.S", "-o", lib / f"{name}_s.o"])
    target = lib / f"lib{library}.a"
    target.unlink(missing_ok=True)
    objects = [lib / f"{name}_c.o", lib / f"{name}_s.o"]
    subprocess.check_call(["ar", "rcs", target, *objects])
    for path in [*objects, lib / f"{name}.S"]:
        path.unlink()
    # Cargo asks the linker for a shared library; this sends it to the archive.
    (lib / f"lib{library}.so").write_text(f"GROUP ( {target} )\n")
    return len(listed)


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    if platform.machine() != "x86_64" or sys.platform != "linux":
        sys.exit("these are written for Linux on x86-64: link against the libraries themselves")
    home, folder = (pathlib.Path(path).resolve() for path in sys.argv[1:])
    version = (home / "include" / "cuda.h").read_text()
    major = str(int(re.search(r"#define CUDA_VERSION (\d+)", version).group(1)) // 1000)
    lib = folder / "lib"
    lib.mkdir(parents=True, exist_ok=True)
    for part in ("bin", "include", "nvvm"):
        if (home / part).exists() and not (folder / part).is_symlink():
            (folder / part).symlink_to(home / part)
    if not (folder / "lib64").is_symlink():
        (folder / "lib64").symlink_to("lib")
    sources = cudarc_sources()
    counted = {library: archive(library, sources, major, lib) for library in LIBRARIES}
    runtime = next(path for path in (home / "lib64", home / "lib") if path.exists())
    runtime = (runtime / "libcudart_static.a").resolve()
    (lib / "libcudart.so").write_text(f"GROUP ( {runtime} -ldl -lpthread -lrt )\n")
    print(", ".join(f"{library}: {count}" for library, count in counted.items()))
    print(f"CUDA_HOME={folder}")


if __name__ == "__main__":
    main()
