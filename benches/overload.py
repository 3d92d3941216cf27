#!/usr/bin/env python3
"""Ten times the load that a server can answer: what small requests, refusals, throughput and a modest client make of it.

The server computes on one thread and is pinned to one core, this generator to another. Each run measures, one after the
other:

1. unloaded: small requests at a steady rate, then a modest client with 32 texts at a time, alone;
2. capacity: as many large requests as the server answers, from a few clients that wait for their answers;
3. overload: large requests at ten times that rate, whatever becomes of them, with the same small requests and the
   modest client, which sends one hundredth of the load, beside them.

Prints a table of all runs and of their medians, and whether the goals hold.
"""

import argparse
import concurrent.futures
import http.client
import json
import os
import random
import statistics
import sys
import threading
import time

from serving import Server, machine

WORDS = (
    "the cat dog market physics capital gravity embeddings vector stock shares running quickly over lazy "
    "price river mountain system program question work government number night point home water room"
).split()
BULK_TEXTS, MODEST_TEXTS = 64, 32
OVERLOAD = 10
GOALS = {
    "small requests, p99 against unloaded": ("at most", 3.0),
    "refusals, p99 in ms": ("at most", 20.0),
    "throughput against capacity": ("at least", 0.9),
    "modest client, p50 against alone": ("at most", 2.0),
}


def text(random_words, least, most):
    return " ".join(random_words.choice(WORDS) for _ in range(random_words.randint(least, most)))


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))] if values else float("nan")


class Client:
    """Sends requests with a key over connections that are kept; notes status, times and texts of each answer."""

    def __init__(self, address, key):
        self.address, self.key = address, key
        self.idle, self.answers, self.lock = [], [], threading.Lock()

    def send(self, body, texts):
        with self.lock:
            connection = self.idle.pop() if self.idle else None
        connection = connection or http.client.HTTPConnection(self.address, timeout=120)
        headers = {"content-type": "application/json", "authorization": f"Bearer {self.key}"}
        begun = time.perf_counter()
        connection.request("POST", "/embed", body, headers)
        response = connection.getresponse()
        response.read()
        ended = time.perf_counter()
        with self.lock:
            self.answers.append((response.status, begun, ended - begun, texts))
            if not response.will_close:
                self.idle.append(connection)
        return response.status

    def at_rate(self, make, texts, rate, seconds, pool):
        """Sends at a rate, whether or not answers come; gives what waits for them."""
        begun, sent = time.perf_counter(), []
        for turn in range(int(rate * seconds)):
            time.sleep(max(0.0, begun + turn / rate - time.perf_counter()))
            sent.append(pool.submit(self.send, make(), texts))
        return sent

    def took(self, status=200, since=0.0):
        return [took for got, begun, took, _ in self.answers if got == status and begun >= since]

    def texts_between(self, since, until):
        ended = ((begun + took, texts) for got, begun, took, texts in self.answers if got == 200)
        return sum(texts for end, texts in ended if since <= end < until)


class Bodies:
    """Bodies of requests; large ones are made ahead of time, as making them takes long."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.pools = {texts: [self.large(texts) for _ in range(24)] for texts in (BULK_TEXTS, MODEST_TEXTS)}

    def large(self, texts):
        inputs = [f"{text(self.random, 33, 200)} @@{index}" for index in range(texts)]
        return json.dumps({"inputs": inputs, "encoding_format": "base64"})

    def of(self, texts):
        # Others each time, so that nothing is answered with what is being computed.
        return self.random.choice(self.pools[texts]).replace("@@", str(self.random.randrange(10**9)))

    def small(self):
        return json.dumps({"inputs": text(self.random, 3, 25) + str(self.random.randrange(10**9))})


def capacity(address, bodies, seconds):
    """Texts a second that large requests get where nothing is refused, after a while to get going."""
    client, begun = Client(address, "flood"), time.perf_counter()
    since, until = begun + seconds / 4, begun + seconds
    made = threading.Lock()

    def work():
        while time.perf_counter() < until:
            with made:
                body = bodies.of(BULK_TEXTS)
            client.send(body, BULK_TEXTS)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return client.texts_between(since, until) / (until - since)


def run(proxima, model, options, seed):
    """One server, all three parts; gives the measures."""
    os.sched_setaffinity(0, {0})
    keys = [flag for key in ("small", "modest", "flood") for flag in ("--api-key", key)]
    server = Server(proxima, model, "--threads", "1", *keys)
    os.sched_setaffinity(0, {1})
    bodies = Bodies(seed)
    small, modest = Client(server.address, "small"), Client(server.address, "modest")
    with concurrent.futures.ThreadPoolExecutor(600) as pool:
        concurrent.futures.wait(small.at_rate(bodies.small, 1, options.rate, options.seconds, pool))
        concurrent.futures.wait(
            modest.at_rate(lambda: bodies.of(MODEST_TEXTS), MODEST_TEXTS, 0.5, 2 * options.seconds, pool)
        )
        accepted = capacity(server.address, bodies, options.overload)
        flood = Client(server.address, "flood")
        small_beside, modest_beside = Client(server.address, "small"), Client(server.address, "modest")
        offered, part = OVERLOAD * accepted, accepted * OVERLOAD / 100
        begun = time.perf_counter()
        parts = [
            (flood, lambda: bodies.of(BULK_TEXTS), BULK_TEXTS, (offered - part) / BULK_TEXTS),
            (modest_beside, lambda: bodies.of(MODEST_TEXTS), MODEST_TEXTS, part / MODEST_TEXTS),
            (small_beside, bodies.small, 1, options.rate),
        ]
        senders = [
            threading.Thread(target=client.at_rate, args=(make, texts, rate, options.overload, pool))
            for client, make, texts, rate in parts
        ]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        until = time.perf_counter()
        # From when the queue is full; requests that wait are answered, not measured.
        since = begun + options.overload / 4
        memory = server.memory("VmHWM")
        done = sum(client.texts_between(since, until) for client, *_ in parts)
    code, _ = server.stop()
    refused = flood.took(429)
    statuses = {status for client, *_ in parts for status, *_ in client.answers}
    return {
        "capacity, texts/s": accepted,
        "offered, texts/s": offered,
        "answered beside it, texts/s": done / (until - since),
        "small unloaded, p50 ms": 1e3 * percentile(small.took(), 0.5),
        "small unloaded, p99 ms": 1e3 * percentile(small.took(), 0.99),
        "small overloaded, p50 ms": 1e3 * percentile(small_beside.took(since=since), 0.5),
        "small overloaded, p99 ms": 1e3 * percentile(small_beside.took(since=since), 0.99),
        "refusals": len(refused),
        "refusals, p50 in ms": 1e3 * percentile(refused, 0.5),
        "refusals, p99 in ms": 1e3 * percentile(refused, 0.99),
        "modest alone, p50 ms": 1e3 * percentile(modest.took(), 0.5),
        "modest overloaded, p50 ms": 1e3 * percentile(modest_beside.took(since=since), 0.5),
        "small or modest refused": len(small_beside.took(429)) + len(modest_beside.took(429)),
        "other statuses": len(statuses - {200, 429}) + (code != 0),
        "resident at most, MB": memory,
        "small requests, p99 against unloaded": percentile(small_beside.took(since=since), 0.99)
        / percentile(small.took(), 0.99),
        "throughput against capacity": done / (until - since) / accepted,
        "modest client, p50 against alone": percentile(modest_beside.took(since=since), 0.5)
        / percentile(modest.took(), 0.5),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("proxima", help="the server's executable")
    parser.add_argument("model", help="a model's folder")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10, help="of small requests alone")
    parser.add_argument("--overload", type=float, default=30, help="seconds of capacity and of overload each")
    parser.add_argument("--rate", type=float, default=10, help="small requests a second")
    options = parser.parse_args()
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("two cores are needed: one for the server, one for this generator")
    runs = [run(options.proxima, options.model, options, seed) for seed in range(options.runs)]
    print(f"{machine()}; {OVERLOAD} times the load for {options.overload:.0f} s\n")
    print(f"| measure | {' | '.join(f'run {index + 1}' for index in range(len(runs)))} | median |")
    print(f"| --- |{' --- |' * (len(runs) + 1)}")
    medians = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    for name, median in medians.items():
        values = [*(run[name] for run in runs), median]
        print(f"| {name} | {' | '.join(f'{value:,.2f}' for value in values)} |")
    print()
    for name, (bound, goal) in GOALS.items():
        held = medians[name] <= goal if bound == "at most" else medians[name] >= goal
        print(f"{'held ' if held else 'SHORT'} {name}: {medians[name]:.2f}, {bound} {goal:g}")


if __name__ == "__main__":
    main()
