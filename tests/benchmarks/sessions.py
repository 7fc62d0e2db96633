"""A coding session that sends its history with every call, by the size of the request: CPU, and the loop blocked."""

import json
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path

from tests.benchmarks.proxies import VARIANTS, Client, Upstream, cpu_seconds, started
from tests.benchmarks.table import Figure
from tests.sessions import session

BOUNDS = (300_000, 1_000_000)
"""Bytes of a request, by which the calls are grouped."""

GOALS = {300_000: "1.5", 1_000_000: "1.6"}


def run(quick: bool) -> list[Figure]:
    turns, rounds = (40, 1) if quick else (130, 3)
    cpu: dict[tuple[int, str], list[float]] = defaultdict(list)
    blocked: dict[tuple[int, str], list[float]] = defaultdict(list)
    for number in range(rounds):
        for shift in range(len(VARIANTS)):
            variant = VARIANTS[(number + shift) % len(VARIANTS)]
            for bound, used, calls in _session(variant, turns):
                # of all calls of a size together: the system counts in hundredths of a second
                cpu[bound, variant].append(used / len(calls) * 1000)
                blocked[bound, variant] += calls
    figures = []
    for bound in sorted({bound for bound, _ in cpu}):
        median = {variant: statistics.median(cpu[bound, variant]) for variant in VARIANTS}
        name = f"a call of a session, to {bound // 1000} kB"
        figures.append(Figure(name, "ms CPU", median["bare"], median["ours"], median["null"], GOALS[bound]))
        for what, pick, goal in (("median", statistics.median, "2 ms"), ("worst", max, "8 ms")):
            values = {variant: pick(blocked[bound, variant]) for variant in VARIANTS}
            name = f"… loop blocked, {what}"
            figures.append(Figure(name, "ms", values["bare"], values["ours"], values["null"], goal))
    return figures


def _session(variant: str, turns: int) -> list[tuple[int, float, list[float]]]:
    """For each bound: seconds of CPU of its calls, and for each call the milliseconds the loop was blocked."""
    calls = [turn for turn in session("messages", turns) if len(turn.request) <= BOUNDS[-1]]
    answers = [json.dumps(turn.answer).encode() for turn in calls]
    upstream = Upstream(lambda body: ("application/json", [answers.pop(0)]))
    found = []
    with tempfile.TemporaryDirectory() as folder, started(variant, upstream, Path(folder), watched=True) as proxy:
        client = Client(proxy.url)
        # what the start of mitmproxy itself has blocked is told with the next answer
        client.post("/worst", b"")
        low = 0
        for bound in BOUNDS:
            group = [turn for turn in calls if low < len(turn.request) <= bound]
            low = bound
            client.post("/worst", b"")
            before, blocked = cpu_seconds(proxy.process.pid), []
            for turn in group:
                client.post("/v1/messages", turn.request)
                blocked.append(float(client.post("/worst", b"")))
            if group:
                found.append((bound, cpu_seconds(proxy.process.pid) - before, blocked))
    return found
