"""In process: a typical delta of each kind, from bytes to text, many at once or one by one, and rewritten for a free
model."""

import json
import time
from collections.abc import Callable

from mitmproxy.test import tflow

from gateway_addon.answer import AnswerFeed
from gateway_addon.api import KINDS
from gateway_addon.api.base import RequestFacts
from gateway_addon.call import Call, Passage, Request
from gateway_addon.clients import Client
from gateway_addon.gateway.answers import AnswerChange
from gateway_addon.proxy.tape import Tape
from gateway_addon.proxy.under_way import UnderWay, recorder
from gateway_addon.reading import Reading
from gateway_addon.sinks import Sinks
from gateway_addon.wire.headers import Headers
from tests.benchmarks.table import Figure

DELTAS: dict[str, dict[str, object]] = {
    "chat_completions": {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1_795_341_600,
        "model": "fake/coder",
        "choices": [{"index": 0, "delta": {"content": "a token "}, "finish_reason": None}],
    },
    "responses": {
        "type": "response.output_text.delta",
        "sequence_number": 7,
        "item_id": "msg_1",
        "output_index": 0,
        "content_index": 0,
        "delta": "a token ",
    },
    "messages": {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "text_delta", "text": "a token "},
    },
}
CHUNK = 1400
"""Bytes handed over at once."""


def event(kind: str) -> bytes:
    """A delta as it is sent."""
    data = json.dumps(DELTAS[kind], separators=(",", ":"))
    name = DELTAS[kind].get("type")
    return (f"event: {name}\n" if name else "").encode() + f"data: {data}\n\n".encode()


def run(quick: bool) -> list[Figure]:
    count = 10_000 if quick else 100_000
    return [figure for kind in KINDS for figure in _figures(kind, count)]


def _figures(kind: str, count: int) -> list[Figure]:
    change = AnswerChange(KINDS[kind], public_model="free/coder")
    read = _best(lambda: _read(kind, count)) / count
    recorded = _best(lambda: _record(kind, count)) / count
    rewritten = _best(lambda: _read(kind, count // 5, change)) / (count // 5)
    return [
        Figure(f"a delta read, {kind}", "µs", None, read, goal="3"),
        Figure(f"a delta as a chunk, {kind}", "µs", None, recorded, goal="3"),
        Figure(f"a delta rewritten, {kind}", "µs", None, rewritten, goal="20"),
    ]


def _read(kind: str, count: int, change: AnswerChange | None = None) -> None:
    body = event(kind) * count
    headers = Headers({"content-type": "text/event-stream"})
    feed = AnswerFeed(KINDS[kind], RequestFacts(streamed=True), 200, headers, change)
    for start in range(0, len(body), CHUNK):
        feed.feed(body[start : start + CHUNK])
    assert feed.finish().text.endswith("a token ")


def _record(kind: str, count: int) -> None:
    """As a proxy hands them over: each chunk on its own, and a copy is kept."""
    headers = Headers({"content-type": "text/event-stream"})
    request = Request(method="POST", path="/", headers=headers, size=0, body=None, json={})
    passage, facts = Passage(kind=KINDS[kind], destination=None), RequestFacts(streamed=True)
    call = Call(
        id="", run_id="", source="live", started=0, request=request, passage=passage, facts=facts, client=Client()
    )
    reading, tape = Reading(call), Tape(2**30)
    take = recorder(UnderWay(tflow.tflow(), reading, tape, Sinks([]), time.monotonic(), 0, is_live=True))
    reading.start(200, headers)
    chunk = event(kind)
    for _ in range(count):
        take(chunk)
    take(b"")
    assert reading.feed
    assert len(reading.feed.finish().text) == len("a token ") * count


def _best(measured: Callable[[], None]) -> float:
    """Microseconds of CPU, the best of five."""
    times = []
    for _ in range(5):
        start = time.process_time()
        measured()
        times.append(time.process_time() - start)
    return min(times) * 1e6
