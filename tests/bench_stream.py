"""What the addon costs a stream: `python -m tests.bench_stream [--rounds N]` (Linux; not run by pytest).

Real mitmdump processes on loopback, in turns: our addon, and a script that only sets `stream = True`. Reported are
medians of the rounds: CPU of the mitmdump process per 10,000 chunks, each sent and read on its own, and the time from
sending a small request to the first byte of its answer's body, directly and through each.
"""

import argparse
import asyncio
import http.client
import json
import os
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from urllib.parse import urlsplit

from tests.mitmdump import ADDON, Mitmdump

CHUNKS = 10_000
BARE = """
def responseheaders(flow):
    flow.response.stream = True
"""

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def _event(data: object) -> bytes:
    event = f"data: {json.dumps(data)}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(event), event)


TOKEN = _event(
    {"id": "c1", "model": "bench", "choices": [{"index": 0, "delta": {"content": "a token "}}], "usage": None}
)
END = b"".join(
    (
        _event({"id": "c1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}),
        _event({"id": "c1", "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 10_000}}),
        b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n",
    )
)


class Upstream:
    """Sends as many chunks as the request's `max_tokens` says, each in a write of its own."""

    def __init__(self) -> None:
        self._ready = threading.Event()
        self.url = ""
        threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True).start()
        self._ready.wait(10)

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.url = "http://{}:{}".format(*server.sockets[0].getsockname())
        self._ready.set()
        await server.serve_forever()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                chunks = json.loads(await reader.readexactly(length))["max_tokens"]
                writer.write(HEAD)
                for _ in range(chunks):
                    writer.write(TOKEN)
                    await writer.drain()
                    # so that the proxy reads each chunk on its own, as it would from a model
                    await asyncio.sleep(0.0002)
                writer.write(END)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


def call(url: str, chunks: int) -> float:
    """Make one call and read it to its end; milliseconds to the first byte of the body."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=120)
    body = json.dumps({"model": "bench", "messages": [], "stream": True, "max_tokens": chunks})
    start = time.perf_counter()
    connection.request("POST", "/v1/chat/completions", body)
    response = connection.getresponse()
    response.read(1)
    first = time.perf_counter() - start
    response.read()
    connection.close()
    return first * 1000


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    upstream = Upstream()
    cpu: dict[str, list[float]] = defaultdict(list)
    first: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder, "bare.py")
        bare.write_text(BARE)
        for _ in range(rounds):
            first["direct"] += [call(upstream.url, 1) for _ in range(20)]
            for name, script in (("bare stream = True", bare), ("gateway-addon", ADDON)):
                options = {"gateway_db": Path(folder, "bench.db")} if script is ADDON else {}
                with Mitmdump(
                    upstream.url, confdir=Path(folder), addon=script, options=options, args=["--flow-detail", "0"]
                ) as proxy:
                    call(proxy.url, 100)
                    first[name] += [call(proxy.url, 1) for _ in range(20)]
                    before = cpu_seconds(proxy.process.pid)
                    call(proxy.url, CHUNKS)
                    cpu[name].append(cpu_seconds(proxy.process.pid) - before)
    for name, times in first.items():
        print(f"first byte, {name}: {statistics.median(times):.2f} ms")
    for name, seconds in cpu.items():
        print(f"CPU per {CHUNKS} chunks, {name}: {statistics.median(seconds):.2f} s")


if __name__ == "__main__":
    main()
