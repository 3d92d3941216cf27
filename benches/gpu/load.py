"""Closed-loop clients over HTTP. Run as a program it is one client, told by lines what to do (see `Load`).

Clients are processes of their own: threads would wait for each other's interpreter lock, and the latency of
the client would be in the figures of the server.
"""

import base64
import json
import math
import pathlib
import socket
import statistics
import subprocess
import sys
import time

from limits import GROUP, Failed, end, reason
from texts import Source

# No answer takes longer; parts have limits of their own, which are shorter.
ANSWER_SECONDS = 120


class Connection:
    """One kept connection: a request is one write, and an answer is not looked into before its time is taken."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self):
        self.socket.close()

    def send(self, message):
        """Sends a request that is ready; gives head and content of the answer."""
        self.socket.sendall(message)
        got = b""
        while (at := got.find(b"\r\n\r\n")) < 0:
            got += self.some()
        head, content = got[:at].decode("latin-1").lower(), bytearray(got[at + 4 :])
        if header(head, "transfer-encoding") == "chunked":
            return head, self.pieces(content)
        length = int(header(head, "content-length") or 0)
        while len(content) < length:
            content += self.some()
        return head, content

    def pieces(self, got):
        """The content of a large answer, which comes in pieces that each say how long they are."""
        content, at = bytearray(), 0
        while True:
            while (end_of_line := got.find(b"\r\n", at)) < 0:
                got += self.some()
            begin = end_of_line + 2
            end = begin + int(got[at:end_of_line], 16)
            while len(got) < end + 2:
                got += self.some()
            if end == begin:
                return content
            content += got[begin:end]
            at = end + 2

    def some(self):
        got = self.socket.recv(1 << 20)
        if not got:
            raise Failed("the server closed the connection")
        return got


def header(head, name):
    """A header's value."""
    at = head.find(f"\r\n{name}:")
    return head[at:].split("\r\n", 2)[1].split(":", 1)[1].strip() if at >= 0 else None


def message(path, body):
    """A request, ready to send."""
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {len(content)}"
    return head.encode() + b"\r\n\r\n" + content


def checked(head, content):
    """Tokens of an answer, if it is one."""
    status = head.split(" ", 2)[1]
    if status != "200":
        raise Failed(f"status {status}: {content[:200].decode(errors='replace')}")
    return int(header(head, "x-compute-tokens") or 0)


def post(connection, path, body):
    """Sends a request; gives its answer, read, and its tokens."""
    head, content = connection.send(message(path, body))
    tokens = checked(head, content)
    return json.loads(content), tokens


def vectors(connection, texts):
    """The vectors of texts in one request, as bytes of float32 numbers."""
    answer, _ = post(connection, "/embed", {"inputs": texts, "encoding_format": "base64"})
    return [base64.b64decode(vector) for vector in answer]


def embed_message(source, spec):
    texts = source.texts(spec["batch"], spec["words"])
    return message("/embed", {"inputs": texts, "encoding_format": "base64"})


def rerank_message(source, spec):
    body = {"query": source.text(*spec["query_words"]), "documents": source.texts(spec["batch"], spec["words"])}
    return message("/rerank", body)


MAKERS = {"embed": embed_message, "rerank": rerank_message}


class Load:
    """Clients that send requests as fast as answers come.

    Each client is told `{"count": N}` or `{"seconds": S}`, makes its requests, says `ready`, waits for a line, sends
    them and gives what it measured. So all of them begin at once, and making texts is in no figure.
    """

    def __init__(self, address, clients, **spec):
        spec = {"kind": "embed", "address": address, **spec}
        self.spec, self.turn, self.processes = spec, 0, []
        for client in range(clients):
            words = [sys.executable, pathlib.Path(__file__).resolve(), json.dumps({**spec, "client": client})]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            self.processes.append(subprocess.Popen(words, **pipes, **GROUP, text=True))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.wait()

    def line(self, process):
        line = process.stdout.readline()
        if not line:
            end(process, patience=0.1)
            raise Failed(f"a client ended: {reason(process.stderr.read())}")
        return line

    def run(self, orders):
        """One run: an order for each client; gives texts and tokens a second, and latencies in seconds."""
        for process, order in zip(self.processes, orders):
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
        for process in self.processes:
            self.line(process)
        for process in self.processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        found = [json.loads(self.line(process)) for process in self.processes]
        errors = [answer["error"] for answer in found if "error" in answer]
        if errors:
            raise Failed(errors[0])
        took = max(answer["ended"] for answer in found) - min(answer["begun"] for answer in found)
        latencies = sorted(latency for answer in found for latency in answer["latencies"])
        texts = self.spec["batch"] * len(latencies)
        tokens = sum(answer["tokens"] for answer in found)
        return {
            "seconds": took,
            "requests": len(latencies),
            "texts_per_second": texts / took,
            "tokens_per_second": tokens / took,
            "tokens_per_text": tokens / texts,
            "p50_ms": at(latencies, 0.5) * 1e3,
            "p99_ms": at(latencies, 0.99) * 1e3,
        }

    def measure(self, warm, seconds, runs, requests_max=100_000):
        """Warms up, then measures runs of equal work that take about so long each; gives medians and all runs."""
        clients = len(self.processes)
        self.run([{"seconds": warm / 2}] * clients)
        found = self.run([{"seconds": warm / 2}] * clients)
        rate = found["requests"] / found["seconds"]
        each = min(max(2, math.ceil(rate * seconds / clients)), requests_max)
        return medians([self.run([{"count": each}] * clients) for _ in range(runs)])


def medians(runs):
    """Each figure's median, and the runs themselves."""
    middle = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    return {**middle, "runs": runs}


def at(ordered, share):
    """The number that this share of ordered ones does not exceed."""
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


def client(spec):
    """One client: orders come by lines, see `Load`."""
    source = Source(f"{spec.get('seed', 0)} {spec['client']}")
    make = MAKERS[spec["kind"]]
    connection = Connection(spec["address"])
    for line in sys.stdin:
        order = json.loads(line)
        ready = [make(source, spec) for _ in range(order.get("count", 4))]
        print("ready", flush=True)
        if not sys.stdin.readline():
            break
        latencies, tokens = [], 0
        begun = ended = time.perf_counter()
        try:
            while ready and ("count" in order or ended - begun < order["seconds"]):
                request = ready.pop(0)
                started = time.perf_counter()
                head, content = connection.send(request)
                ended = time.perf_counter()
                latencies.append(ended - started)
                tokens += checked(head, content)
                if "seconds" in order:
                    ready.append(make(source, spec))
            found = {"begun": begun, "ended": ended, "latencies": latencies, "tokens": tokens}
        except (Failed, OSError) as error:
            found = {"error": str(error) or type(error).__name__}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    client(json.loads(sys.argv[1]))
