"""Inputs made to stall a proxy: how long the event loop was blocked at a stretch."""

import gzip
import json
import tempfile
from pathlib import Path

from tests.benchmarks.calls import ANSWER
from tests.benchmarks.proxies import Client, Upstream, started
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
    figures = []
    for name, body in bodies().items():
        packed = gzip.compress(body, 6)
        figures.append(_figure(f"request: {name}", "/v1/messages", body, ""))
        if quick:
            continue
        figures.append(_figure(f"request, gzip: {name}", "/v1/messages", packed, "gzip"))
        figures.append(_figure(f"answer: {name}", "/v1/messages", None, body.decode()))
    bomb = gzip.compress(HEAD + b'"' + b"x" * 31 * MB + b'",' + TAIL)
    figures.append(_figure("request: 31 MB from 31 kB of gzip", "/v1/messages", bomb, "gzip"))
    return figures


def _figure(name: str, path: str, body: bytes | None, extra: str) -> Figure:
    """`body` None: a short request whose answer is `extra`; else `extra` is the request's content encoding."""
    answer = extra.encode() if body is None else json.dumps(ANSWER).encode()
    upstream = Upstream(lambda _: ("application/json", [answer]))
    found = {}
    for variant in ("bare", "ours"):
        with tempfile.TemporaryDirectory() as folder, started(variant, upstream, Path(folder), watched=True) as proxy:
            client = Client(proxy.url)
            client.post("/v1/messages", b'{"model":"m","messages":[]}')
            client.post("/worst", b"")
            encoding = {"content-encoding": extra} if body is not None and extra else {}
            client.post(path, body or b'{"model":"m","messages":[]}', **encoding)
            found[variant] = float(client.post("/worst", b""))
    return Figure(name, "ms", found["bare"], found["ours"], goal="20 ms; 50 above 4 MB")
