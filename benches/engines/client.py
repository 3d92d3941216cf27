"""Clients that send requests over HTTP as fast as they are answered, as cheaply as Python can."""

import http.client
import itertools
import json
import statistics
import threading
import time
from collections.abc import Iterator

from .workload import Texts, Work, batches


class Api:
    """How a server wants texts, and how it gives vectors."""

    def __init__(self, address: str, path: str) -> None:
        self.address, self.path = address, path
        self.field = "input" if path.startswith("/v1") else "inputs"

    def body(self, batch: list[str]) -> bytes:
        return json.dumps({self.field: batch}).encode()

    def vectors(self, answer: bytes) -> list[list[float]]:
        content = json.loads(answer)
        return [item["embedding"] for item in content["data"]] if self.field == "input" else content

    def connect(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(self.address, timeout=3600)
        connection.connect()
        return connection

    def send(self, connection: http.client.HTTPConnection, body: bytes) -> bytes:
        connection.request("POST", self.path, body, {"content-type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"status {answer.status}: {content[:200].decode(errors='replace')}")
        return content


def work_off(api: Api, bodies: Iterator[bytes], errors: list[Exception]) -> None:
    """One client: takes the next body until none is left."""
    connection = api.connect()
    try:
        for body in bodies:
            api.send(connection, body)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        errors.append(error)
    finally:
        connection.close()


def seconds(api: Api, bodies: list[bytes], clients: int) -> float:
    """Time until so many clients have sent all bodies and read all answers."""
    shared, errors = iter(bodies), []
    threads = [threading.Thread(target=work_off, args=(api, shared, errors)) for _ in range(clients)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - begun
    if errors:
        raise errors[0]
    return took


def one_by_one(api: Api, items: list[str]) -> list[float]:
    """Latencies of texts that are sent alone, over one connection."""
    connection = api.connect()
    times = []
    for body in [api.body([item]) for item in items]:
        begun = time.perf_counter()
        api.send(connection, body)
        times.append(time.perf_counter() - begun)
    connection.close()
    return times


def vectors(api: Api, work: Work, run: Texts) -> list[float]:
    """All vectors of the texts that are compared, one after the other."""
    connection = api.connect()
    rest = run.checked()[len(run.passages) :]
    answers = [
        api.vectors(api.send(connection, api.body(batch)))
        for batch in [*batches(run.passages, work.batch), *([item] for item in rest)]
    ]
    connection.close()
    return list(itertools.chain.from_iterable(itertools.chain.from_iterable(answers)))


def measure(api: Api, work: Work, runs: list[Texts]) -> tuple[list[float], list[float], list[float]]:
    """Seconds of the passages, of a query, of a document."""
    passages, query, document = [], [], []
    for run in runs:
        bodies = [api.body(batch) for batch in batches(run.passages, work.batch)]
        passages.append(seconds(api, bodies, work.clients))
        query.append(statistics.median(one_by_one(api, run.queries)))
        document.extend(one_by_one(api, run.documents))
    return passages, query, document
