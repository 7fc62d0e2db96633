"""Inputs made to stall a proxy: how long the event loop was blocked at a stretch, and memory at its highest."""

import gzip
import json
import tempfile
from pathlib import Path

from tests.benchmarks.calls import ANSWER
from tests.benchmarks.proxies import Client, Upstream, peak_memory, started
from tests.benchmarks.table import Figure

MB = 1_000_000
HEAD, TAIL = b'{"model":"m","max_tokens":1,"messages":[', b"0]}"


def bodies() -> dict[str, bytes]:
    """By name; all are JSON objects."""
    return {
        "4 MB of empty lists": HEAD + b"[]," * (4 * MB // 3) + TAIL,
        "4 MB of numbers": HEAD + b"1," * (2 * MB) + TAIL,
        "as many values as are read": HEAD + b"[" + b"[]," * 80_000 + b"0]," + TAIL,
        "4 MB of one text": HEAD + b'{"role":"user","content":"' + b"a, <b> " * (4 * MB // 7) + b'"},' + TAIL,
        "30 MB of one text": HEAD + b'{"role":"user","content":"' + b"a b c d " * (30 * MB // 8) + b'"},' + TAIL,
        "4 MB of backslashes": HEAD + b'"' + b"\\\\" * (2 * MB) + b'",' + TAIL,
    }


def run(quick: bool) -> list[Figure]:
    figures, peaks = [], []

    def measure(name: str, body: bytes | None, extra: str) -> None:
        blocked, peak = _measured(name, body, extra)
        figures.append(blocked)
        peaks.append(peak)

    for name, body in bodies().items():
        measure(f"request: {name}", body, "")
        if not quick:
            measure(f"request, gzip: {name}", gzip.compress(body, 6), "gzip")
            measure(f"answer: {name}", None, body.decode())
    measure("request: 31 MB from 31 kB of gzip", gzip.compress(HEAD + b'"' + b"x" * 31 * MB + b'",' + TAIL), "gzip")
    if not quick:
        measure("request: 60 MB of one text", HEAD + b'"' + b"a b c d " * (60 * MB // 8) + b'",' + TAIL, "")
        measure("answer: 20 MB of one text", None, (HEAD + b'"' + b"a b c d " * (20 * MB // 8) + b'",' + TAIL).decode())
    return [*figures, max(peaks, key=lambda peak: peak.ours or 0)]


def _measured(name: str, body: bytes | None, extra: str) -> tuple[Figure, Figure]:
    """How long the loop was blocked, and memory at its highest, which is that of the start and what the input took.

    `body` None: a short request whose answer is `extra`; else `extra` is the request's content encoding.
    """
    answer = extra.encode() if body is None else json.dumps(ANSWER).encode()
    upstream = Upstream(lambda _: ("application/json", [answer]))
    found, peaks = {}, {}
    for variant in ("bare", "ours"):
        with tempfile.TemporaryDirectory() as folder, started(variant, upstream, Path(folder), watched=True) as proxy:
            client = Client(proxy.url)
            client.post("/v1/messages", b'{"model":"m","messages":[]}')
            client.post("/worst", b"")
            encoding = {"content-encoding": extra} if body is not None and extra else {}
            client.post("/v1/messages", body or b'{"model":"m","messages":[]}', **encoding)
            found[variant] = float(client.post("/worst", b""))
            peaks[variant] = peak_memory(proxy.process.pid)
    return (
        Figure(name, "ms", found["bare"], found["ours"], goal="20 ms; 50 above 4 MB"),
        Figure(f"memory at its highest ({name})", "MB", peaks["bare"], peaks["ours"], goal="256 MB more than before"),
    )
