"""Real mitmdump processes to compare, an upstream for them, and what a process has cost (Linux)."""

import asyncio
import http.client
import os
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

from tests.mitmdump import ADDON, Mitmdump

BARE = """
def responseheaders(flow):
    flow.response.stream = True
"""

# Asked for at `/worst`: how long the event loop was blocked at a stretch since it was asked last, in milliseconds, as a
# task in it measures that asks to be woken every millisecond
WATCH = """
import asyncio, time
from mitmproxy import http

worst = 0.0
watching = None

async def watch():
    global worst
    while True:
        asked = time.perf_counter()
        await asyncio.sleep(0.001)
        worst = max(worst, time.perf_counter() - asked - 0.001)

def running():
    global watching
    watching = asyncio.get_running_loop().create_task(watch())

def request(flow):
    global worst
    if flow.request.path == "/worst":
        flow.response = http.Response.make(200, str(worst * 1000))
        worst = 0.0
"""

VARIANTS = ("bare", "ours", "null")

PAUSE = 0.0002
"""Seconds between chunks, so that the proxy reads each on its own, as it would from a model."""


class Upstream:
    """Answers each request with what `answer` makes of its body: (content type, chunks, each sent on its own)."""

    def __init__(self, answer: Callable[[bytes], tuple[str, list[bytes]]]) -> None:
        self.answer = answer
        self.url = ""
        self._ready = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True).start()
        self._ready.wait(10)

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._respond, "127.0.0.1", 0, limit=2**26)
        self.url = "http://{}:{}".format(*server.sockets[0].getsockname())
        self._ready.set()
        await server.serve_forever()

    async def _respond(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                content_type, chunks = self.answer(await reader.readexactly(length))
                kind = content_type.encode()
                if len(chunks) == 1:
                    size = len(chunks[0])
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n" % (kind, size))
                    writer.write(chunks[0])
                    continue
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n\r\n" % kind)
                for chunk in chunks:
                    writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
                    await writer.drain()
                    await asyncio.sleep(PAUSE)
                writer.write(b"0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


class Client:
    """A client that keeps its connection."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=120)

    def post(self, path: str, body: bytes, **headers: str) -> bytes:
        self._connection.request("POST", path, body, {"content-type": "application/json"} | headers)
        return self._connection.getresponse().read()


@contextmanager
def started(variant: str, upstream: Upstream, folder: Path, *, watched: bool = False) -> Iterator[Mitmdump]:
    """A mitmdump of one of `VARIANTS` in front of an upstream."""
    bare, watch = folder / "bare.py", folder / "watch.py"
    bare.write_text(BARE)
    watch.write_text(WATCH)
    db = folder / f"{os.urandom(4).hex()}.db"
    ours = variant == "ours"
    args = ["--flow-detail", "0", *(["-s", str(watch)] if watched else [])]
    options = {"gateway_db": db} if ours else {}
    with Mitmdump(upstream.url, confdir=folder, addon=ADDON if ours else bare, options=options, args=args) as proxy:
        yield proxy


@contextmanager
def side_by_side(upstream: Upstream) -> Iterator[dict[str, Mitmdump]]:
    """A mitmdump of each of `VARIANTS` at the same time."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        yield {variant: running.enter_context(started(variant, upstream, Path(folder))) for variant in VARIANTS}


def cpu_by_slice(proxies: Mapping[str, Mitmdump], slices: Sequence[Sequence[bytes]]) -> dict[str, list[float]]:
    """Milliseconds of CPU that the calls of each slice took in each proxy, by variant.

    A slice goes through one proxy after the other, so that whatever else the machine is doing falls on all of them.
    What a proxy still does for a slice while the others have theirs counts; so that this holds for the last one, it
    goes through once more, which is not told.
    """
    clients = {variant: Client(proxy.url) for variant, proxy in proxies.items()}
    marks: dict[str, list[float]] = {variant: [] for variant in proxies}
    for number, bodies in enumerate((*slices, slices[-1])):
        for variant in turned(number):
            marks[variant].append(cpu_seconds(proxies[variant].process.pid))
            for body in bodies:
                clients[variant].post("/v1/messages", body)
    return {variant: [(after - before) * 1000 for before, after in pairwise(found)] for variant, found in marks.items()}


def turned(number: int) -> list[str]:
    """`VARIANTS` in another order each time."""
    return [VARIANTS[(number + shift) % len(VARIANTS)] for shift in range(len(VARIANTS))]


def cpu_seconds(pid: int) -> float:
    """Of all threads of a process, also those that have ended."""
    # what clock_getcpuclockid(3) makes of a process, which Python has for threads only
    return time.clock_gettime((~pid << 3) | 2)


def peak_memory(pid: int) -> float:
    """The most that a process has taken so far, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1_000_000


def interleaved(rounds: int, measure: Callable[[str], float]) -> dict[str, float]:
    """The median of the rounds for each of `VARIANTS`, measured in turns; the order changes with every round."""
    found: dict[str, list[float]] = defaultdict(list)
    for number in range(rounds):
        for variant in turned(number):
            found[variant].append(measure(variant))
    return {variant: statistics.median(values) for variant, values in found.items()}
