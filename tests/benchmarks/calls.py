"""Calls on their own: many short ones, one with a large new message, and how long a start takes."""

import json
import random
import tempfile
import time
from pathlib import Path

from tests.benchmarks.proxies import Client, Upstream, cpu_seconds, interleaved, started
from tests.benchmarks.table import Figure
from tests.sessions import text

ANSWER = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5",
    "content": [{"type": "text", "text": "an answer. " * 70}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 1000, "output_tokens": 250},
}


def run(quick: bool) -> list[Figure]:
    rounds = 1 if quick else 3
    short = interleaved(rounds, lambda variant: _calls(variant, 4_000, 100 if quick else 400))
    large = interleaved(rounds, lambda variant: _calls(variant, 1_000_000, 10 if quick else 30))
    start = interleaved(rounds, _start)
    return [
        Figure("a short call (4 kB in, 1 kB out)", "ms CPU", short["bare"], short["ours"], short["null"], "1.6"),
        Figure("one new message of 1 MB", "ms CPU", large["bare"], large["ours"], large["null"], "2.5"),
        Figure("start until it listens", "s", start["bare"], start["ours"], start["null"], "bare + 0.8 s"),
    ]


def _calls(variant: str, size: int, count: int) -> float:
    """Milliseconds of CPU a call."""
    chance = random.Random(size)
    upstream = Upstream(lambda body: ("application/json", [json.dumps(ANSWER).encode()]))
    bodies = [_request(text(chance, size)) for _ in range(count)]
    with tempfile.TemporaryDirectory() as folder, started(variant, upstream, Path(folder)) as proxy:
        client = Client(proxy.url)
        client.post("/v1/messages", _request("hello"))
        before = cpu_seconds(proxy.process.pid)
        for body in bodies:
            client.post("/v1/messages", body)
        return (cpu_seconds(proxy.process.pid) - before) / count * 1000


def _request(prompt: str) -> bytes:
    return json.dumps({"model": "claude-sonnet-4-5", "messages": [{"role": "user", "content": prompt}]}).encode()


def _start(variant: str) -> float:
    upstream = Upstream(lambda body: ("application/json", [b"{}"]))
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        with started(variant, upstream, Path(folder)):
            return time.perf_counter() - begun
