"""A long stream: CPU of the whole process for paced chunks, everything stored."""

import json
import tempfile
from pathlib import Path

from gateway_addon.api import KINDS
from tests.benchmarks.deltas import event
from tests.benchmarks.proxies import Client, Upstream, cpu_seconds, interleaved, started
from tests.benchmarks.table import Figure


def run(quick: bool) -> list[Figure]:
    chunks, rounds = (2_000, 1) if quick else (10_000, 5)
    figures = []
    for kind in KINDS:
        upstream = Upstream(lambda body, kind=kind: ("text/event-stream", [event(kind)] * json.loads(body)["n"]))  # type: ignore[misc]

        def measure(variant: str, kind: str = kind, upstream: Upstream = upstream) -> float:
            with tempfile.TemporaryDirectory() as folder, started(variant, upstream, Path(folder)) as proxy:
                client = Client(proxy.url)
                path = f"/v1{KINDS[kind].SUFFIX}"
                client.post(path, _request(100))
                before = cpu_seconds(proxy.process.pid)
                client.post(path, _request(chunks))
                return cpu_seconds(proxy.process.pid) - before

        found = interleaved(rounds, measure)
        name = f"{chunks:,} chunks, {kind}"
        figures.append(
            Figure(name, "s CPU", found["bare"], found["ours"], found["null"], "1.10 × bare + null's excess")
        )
    return figures


def _request(chunks: int) -> bytes:
    return json.dumps({"model": "bench", "messages": [], "input": [], "stream": True, "n": chunks}).encode()
