"""Many streams at once, and many calls and chunks: how evenly chunks arrive, and what stays in memory."""

import asyncio
import json
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

from tests.benchmarks.calls import ANSWER
from tests.benchmarks.deltas import event
from tests.benchmarks.proxies import Client, Upstream, interleaved, started
from tests.benchmarks.table import Figure

STREAMS = 32
PACE = 0.02
"""Seconds between two chunks of a stream, as of a model."""

REQUEST = json.dumps({"model": "bench", "messages": [], "stream": True}).encode()
HEAD = b"POST /v1/messages HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"


def run(quick: bool) -> list[Figure]:
    rounds, chunks = (1, 100) if quick else (5, 500)
    gaps = interleaved(rounds, lambda variant: _paced(variant, chunks))
    rates = interleaved(rounds, lambda variant: _unpaced(variant, 1_000 if quick else 5_000))
    calls = interleaved(1, lambda variant: _growth_by_calls(variant, 200 if quick else 2_000))
    stream = interleaved(1, lambda variant: _growth_by_chunks(variant, 50_000 if quick else 1_000_000))
    return [
        Figure(f"{STREAMS} streams: p99 of the gap", "ms", gaps["bare"], gaps["ours"], gaps["null"], "bare + 3 ms"),
        Figure("… chunks a second", "", rates["bare"], rates["ours"], rates["null"], "0.95"),
        Figure("memory after many calls", "MB more", calls["bare"], calls["ours"], calls["null"], "flat"),
        Figure("… after a long stream", "MB more", stream["bare"], stream["ours"], stream["null"], "the kept copy"),
    ]


class _PacedUpstream(Upstream):
    """Sends each chunk when it is due, whatever became of those before."""

    async def _respond(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        _, chunks = self.answer(b"")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        begun = time.perf_counter()
        for number, chunk in enumerate(chunks):
            await asyncio.sleep(max(0.0, begun + number * PACE - time.perf_counter()))
            writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        writer.close()


async def _receive(url: str) -> list[float]:
    """When each piece of an answer arrived, in seconds."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(HEAD % len(REQUEST) + REQUEST)
    await reader.readuntil(b"\r\n\r\n")
    arrived = []
    while (data := await reader.read(65536)) and not data.endswith(b"0\r\n\r\n"):
        arrived.append(time.perf_counter())
    writer.close()
    return arrived


async def _receive_all(url: str) -> list[list[float]]:
    return await asyncio.gather(*(_receive(url) for _ in range(STREAMS)))


def _paced(variant: str, chunks: int) -> float:
    """Milliseconds between two chunks of a stream that one in a hundred exceeds."""
    upstream = _PacedUpstream(lambda _: ("", [event("messages")] * chunks))
    with tempfile.TemporaryDirectory() as folder, started(variant, upstream, Path(folder)) as proxy:
        arrivals = asyncio.run(_receive_all(proxy.url))
    gaps = [after - before for arrived in arrivals for before, after in pairwise(arrived)]
    return statistics.quantiles(gaps, n=100)[-1] * 1000


def _unpaced(variant: str, chunks: int) -> float:
    """Chunks a second, of all streams together."""
    upstream = Upstream(lambda _: ("text/event-stream", [event("messages")] * chunks))
    with tempfile.TemporaryDirectory() as folder, started(variant, upstream, Path(folder)) as proxy:
        begun = time.perf_counter()
        asyncio.run(_receive_all(proxy.url))
        return STREAMS * chunks / (time.perf_counter() - begun)


def _growth_by_calls(variant: str, count: int) -> float:
    upstream = Upstream(lambda _: ("application/json", [json.dumps(ANSWER).encode()]))
    with tempfile.TemporaryDirectory() as folder, started(variant, upstream, Path(folder)) as proxy:
        client = Client(proxy.url)
        for _ in range(count // 10):
            client.post("/v1/messages", REQUEST)
        before = _memory(proxy.process.pid)
        for _ in range(count):
            client.post("/v1/messages", REQUEST)
        return _memory(proxy.process.pid) - before


def _growth_by_chunks(variant: str, chunks: int) -> float:
    data = event("messages")
    # in larger pieces: it is their number that may grow, not the pace
    upstream = Upstream(lambda _: ("text/event-stream", [data * 100] * (chunks // 100)))
    with tempfile.TemporaryDirectory() as folder, started(variant, upstream, Path(folder)) as proxy:
        client = Client(proxy.url)
        client.post("/v1/messages", REQUEST)
        before = _memory(proxy.process.pid)
        client.post("/v1/messages", REQUEST)
        return _memory(proxy.process.pid) - before


def _memory(pid: int) -> float:
    """Of a process, in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 1_000_000
