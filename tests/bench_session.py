"""What the addon costs a coding session: `python -m tests.bench_session [--turns N]` (Linux; not run by pytest).

The calls of `tests.sessions`, which re-send a growing history, go through a real mitmdump, with our addon and without
any. Reported are medians by size of the request: CPU of the mitmdump process, and how long its event loop was blocked
at a stretch during the call, as a task in it measures that asks to be woken every millisecond.
"""

import argparse
import http.client
import json
import statistics
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from tests.bench_stream import cpu_seconds
from tests.mitmdump import ADDON, Mitmdump, rows
from tests.sessions import session

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
BOUNDS = (100_000, 300_000, 1_000_000, 4_000_000)
"""Bytes of a request, by which the calls are grouped."""


class Upstream(BaseHTTPRequestHandler):
    """Answers with what it finds in `answers`, in order."""

    protocol_version = "HTTP/1.1"
    answers: list[bytes] = []  # noqa: RUF012

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        answer = self.answers.pop(0)
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


def run(kind: str, path: str, turns: int, *, addon: Path | None) -> dict[int, list[tuple[float, float]]]:
    """Milliseconds of CPU and of blocked event loop for each call, by the bound of its size."""
    calls = list(session(kind, turns))
    Upstream.answers = [json.dumps(turn.answer).encode() for turn in calls]
    server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    measured: dict[int, list[tuple[float, float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        watch = folder / "watch.py"
        watch.write_text(WATCH)
        options = {"gateway_db": folder / "bench.db"} if addon else {}
        url = f"http://127.0.0.1:{server.server_port}"
        arguments = {"args": ["-s", str(watch), "--flow-detail", "0"], "options": options}
        with Mitmdump(url, confdir=folder, addon=addon, **arguments) as proxy:  # type: ignore[arg-type]
            ask = _client(proxy.url)
            for turn in calls:
                ask("/worst", b"")
                before = cpu_seconds(proxy.process.pid)
                ask(path, turn.request)
                cpu = cpu_seconds(proxy.process.pid) - before
                bound = next(bound for bound in BOUNDS if len(turn.request) <= bound)
                measured[bound].append((cpu * 1000, float(ask("/worst", b""))))
            assert proxy.stop() == 0
        if addon:
            assert rows(folder / "bench.db", "SELECT COUNT(*) AS n FROM requests") == [{"n": turns}]
    server.shutdown()
    return measured


def _client(url: str) -> Callable[[str, bytes], bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)

    def ask(path: str, body: bytes) -> bytes:
        connection.request("POST", path, body, {"content-type": "application/json"})
        return connection.getresponse().read()

    return ask


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--turns", type=int, default=60)
    turns = parser.parse_args().turns
    print("request up to   calls   CPU ms: none, addon   blocked ms, median (worst): none, addon")
    without = run("messages", "/v1/messages", turns, addon=None)
    with_addon = run("messages", "/v1/messages", turns, addon=ADDON)
    for bound, plain in sorted(without.items()):
        ours = with_addon[bound]
        cpu = [statistics.fmean(cpu for cpu, _ in calls) for calls in (plain, ours)]
        blocked = [[blocked for _, blocked in calls] for calls in (plain, ours)]
        spans = [f"{statistics.median(ms):.1f} ({max(ms):.1f})" for ms in blocked]
        print(f"{bound:>11,}   {len(plain):>7}   {cpu[0]:>10.1f}, {cpu[1]:.1f}   {spans[0]:>20}, {spans[1]}")


if __name__ == "__main__":
    main()
