"""A coding session that sends its history with every call, by the size of the request: CPU, and the loop blocked."""

import json
import statistics
import tempfile
from collections import defaultdict
from itertools import batched, pairwise
from pathlib import Path

from tests.benchmarks.proxies import VARIANTS, Client, Upstream, cpu_by_slice, side_by_side, started, turned
from tests.benchmarks.table import Figure
from tests.sessions import session

BOUNDS = (300_000, 1_000_000)
"""Bytes of a request, by which the calls are grouped."""

GOALS = {300_000: "1.5", 1_000_000: "1.6"}


SLICE = 5
"""Calls, after which another proxy has its turn."""


def run(quick: bool) -> list[Figure]:
    turns, rounds = (40, 1) if quick else (130, 3)
    calls = [turn for turn in session("messages", turns) if len(turn.request) <= BOUNDS[-1]]
    answers = {turn.request: json.dumps(turn.answer).encode() for turn in calls}
    upstream = Upstream(lambda body: ("application/json", [answers[body]]))
    groups = {
        bound: [turn.request for turn in calls if low < len(turn.request) <= bound]
        for low, bound in pairwise((0, *BOUNDS))
    }
    cpu: dict[tuple[int, str], list[float]] = defaultdict(list)
    blocked: dict[tuple[int, str], list[float]] = defaultdict(list)
    for number in range(rounds):
        _add_cpu(upstream, groups, cpu)
        for variant in turned(number):
            _add_blocked(variant, upstream, groups, blocked)
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


def _add_cpu(upstream: Upstream, groups: dict[int, list[bytes]], found: dict[tuple[int, str], list[float]]) -> None:
    """Milliseconds of CPU a call, of all calls of a group in one session."""
    slices = [(bound, some) for bound, group in groups.items() for some in batched(group, SLICE, strict=False)]
    with side_by_side(upstream) as proxies:
        used = cpu_by_slice(proxies, [some for _, some in slices])
    for variant in VARIANTS:
        for bound, group in groups.items():
            if group:
                of_group = [one for (of, _), one in zip(slices, used[variant], strict=True) if of == bound]
                found[bound, variant].append(sum(of_group) / len(group))


def _add_blocked(
    variant: str, upstream: Upstream, groups: dict[int, list[bytes]], found: dict[tuple[int, str], list[float]]
) -> None:
    """For each call the milliseconds that the loop was blocked."""
    # one at a time, as the tasks that watch the loops would hinder each other
    with tempfile.TemporaryDirectory() as folder, started(variant, upstream, Path(folder), watched=True) as proxy:
        client = Client(proxy.url)
        # what the start of mitmproxy itself has blocked is told with the next answer
        client.post("/worst", b"")
        client.post("/worst", b"")
        for bound, group in groups.items():
            for body in group:
                client.post("/v1/messages", body)
                found[bound, variant].append(float(client.post("/worst", b"")))
