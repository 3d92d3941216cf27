"""A server under measurement: start it, wait for it, look at its memory, stop it; and what it runs on."""

import re
import signal
import subprocess
import sys
import threading
import time


def resident(process, field="VmRSS"):
    """Resident memory of a process in MB: now (VmRSS) or at its highest (VmHWM)."""
    with open(f"/proc/{process}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field)) // 1024


class Server:
    """`proxima serve` of one model on a free port."""

    def __init__(self, proxima, model, *flags):
        begun = time.perf_counter()
        self.process = subprocess.Popen(
            [proxima, "serve", "--model", str(model), "--port", "0", *flags],
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log, self.address = [], None
        for line in self.process.stderr:
            self.log.append(line.rstrip())
            found = re.search(r"ready on http://(\S+)", line)
            if found:
                self.address = found.group(1)
                break
        if self.address is None:
            sys.exit("\n".join([*self.log, f"the server ended with {self.process.wait()}"]))
        self.seconds_to_ready = time.perf_counter() - begun
        # Whatever it still logs must not fill the pipe.
        threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True).start()

    def memory(self, field="VmRSS"):
        return resident(self.process.pid, field)

    def stop(self):
        """Sends SIGTERM; gives exit status and seconds until the end."""
        begun = time.perf_counter()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=120), time.perf_counter() - begun


def machine():
    """Processor and threads of this machine."""
    with open("/proc/cpuinfo") as info:
        lines = info.read().splitlines()
    name = next((line.split(": ")[1] for line in lines if line.startswith("model name")), "unknown")
    return f"{name}, {sum(line.startswith('processor') for line in lines)} threads"


def synthetic(proxima, cache):
    """The synthetic Qwen3-Embedding-0.6B, written once into the cache."""
    folder = cache / "models" / "synthetic-qwen3-embedding-0.6b"
    if not folder.exists():
        tokenizer = cache / "tokenizers" / "qwen3"
        subprocess.run(
            [proxima, "synth", "qwen3-embedding-0.6b", "--out", folder, "--tokenizer", tokenizer],
            check=True,
        )
    return folder


def load(program, address, *flags):
    """Runs the load generator; gives its lines."""
    done = subprocess.run(
        [program, "--address", address, *map(str, flags)], capture_output=True, text=True
    )
    lines = done.stdout.splitlines()
    if done.returncode:
        sys.exit("\n".join(["the load met errors:", *lines, done.stderr]))
    return lines


def rate(lines):
    """Tokens a second, from the load generator's lines."""
    return int(re.search(r"([\d.]+) tokens/s", lines[0]).group(1))


def percentile(lines, share="p50"):
    """Milliseconds, from the load generator's last line."""
    return float(re.search(rf"{share} ([\d.]+) ms", lines[-1]).group(1))
