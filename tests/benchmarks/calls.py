"""Calls on their own: many short ones, one with a large new message, and how long a start takes."""

import json
import random
import statistics
import tempfile
import time
from pathlib import Path

from tests.benchmarks.proxies import Upstream, cpu_by_slice, interleaved, side_by_side, started
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
    short = _calls(4_000, 3 if quick else 30, 40)
    large = _calls(1_000_000, 3 if quick else 20, 3)
    start = interleaved(1 if quick else 3, _start)
    return [
        Figure("a short call (4 kB in, 1 kB out)", "ms CPU", short["bare"], short["ours"], short["null"], "1.6"),
        Figure("one new message of 1 MB", "ms CPU", large["bare"], large["ours"], large["null"], "2.5"),
        Figure("start until it listens", "s", start["bare"], start["ours"], start["null"], "bare + 0.8 s"),
    ]


def _calls(size: int, slices: int, calls: int) -> dict[str, float]:
    """Milliseconds of CPU a call, by variant: the median of some slices of a few calls, each with a new message."""
    chance = random.Random(size)
    upstream = Upstream(lambda body: ("application/json", [json.dumps(ANSWER).encode()]))
    bodies = [[_request(text(chance, size)) for _ in range(calls)] for _ in range(slices + 1)]
    with side_by_side(upstream) as proxies:
        # what the first calls of a process cost is told by other figures
        used = cpu_by_slice(proxies, bodies)
    return {variant: statistics.median(found[1:]) / calls for variant, found in used.items()}


def _request(prompt: str) -> bytes:
    return json.dumps({"model": "claude-sonnet-4-5", "messages": [{"role": "user", "content": prompt}]}).encode()


def _start(variant: str) -> float:
    upstream = Upstream(lambda body: ("application/json", [b"{}"]))
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        with started(variant, upstream, Path(folder)):
            return time.perf_counter() - begun
