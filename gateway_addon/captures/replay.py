"""A loopback server that gives the answers of a flow file to whoever asks again, such as an agent that is offline.

mitmproxy's own server replay compares whole requests and cannot stream; agents change ids, dates and cache marks from
run to run. Here a call is matched by what it is, its model, and how far its conversation is the recorded one.
"""

import socketserver
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from itertools import takewhile
from pathlib import Path
from threading import Lock
from typing import Any

from mitmproxy import http

from gateway_addon import api, call
from gateway_addon.api.base import ApiKind, Json, Refusal
from gateway_addon.api.prompts import strip_wrappers
from gateway_addon.api.values import items, mapping, text
from gateway_addon.captures import flowfile
from gateway_addon.captures.notes import PACE
from gateway_addon.gateway.replies import reply
from gateway_addon.wire.cut import CONVERSATION
from gateway_addon.wire.headers import Headers

MAX_WAIT = 3600
"""Seconds since the request; a recorded time beyond is not believed."""

NOT_REPEATED = frozenset(
    {"connection", "content-length", "keep-alive", "trailer", "transfer-encoding", "upgrade"}
    | {"access-control-allow-credentials", "access-control-allow-origin", "alt-svc", "set-cookie"}
    | {"strict-transport-security"}
)
"""Headers of a recorded answer that were about its own connection, or would let web pages read it here."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What of a request decides which answer it gets."""

    what: str
    """The API kind; method and path of anything else."""
    model: str | None
    turns: tuple[int, ...]
    """The conversation, a hash for each turn."""


@dataclass(slots=True)
class Recording:
    """A call in the file; its answer stays there until it is wanted."""

    offset: int
    asked: tuple[Asked, ...]
    """As it was sent and, if the gateway had rewritten it, as the client asked."""
    uses: int = 0


def recordings(path: Path, progress: flowfile.Progress = lambda size: None) -> Iterator[Recording]:
    """The HTTP calls of a flow file, in its order. Raises `FlowFileError` after the last whole flow."""
    for offset, flow in flowfile.read_with_offsets(path, progress):
        if isinstance(flow, http.HTTPFlow) and flow.websocket is None:
            asked = [_asked(flow.request)]
            if flow.modified():
                flow.revert()
                asked.append(_asked(flow.request))
            yield Recording(offset, tuple(asked))


def choose(recorded: Iterable[Recording], asked: Asked) -> Recording | None:
    """The recording that fits best, None if none does.

    Kind and model must be the same, and the first turn. Then the longest common beginning of the conversation counts,
    then the nearest length, then what was used least, then the order of the file. Another length fits once only:
    an agent that was given the same answer over and over would never end.
    """
    fits = []
    for recording in recorded:
        for candidate in recording.asked:
            if (candidate.what, candidate.model) != (asked.what, asked.model):
                continue
            common = _common_turns(candidate.turns, asked.turns)
            difference = abs(len(candidate.turns) - len(asked.turns))
            begins_alike = common > 0 or not (candidate.turns or asked.turns)
            if begins_alike and (difference == 0 or recording.uses == 0):
                fits.append((-common, difference, recording.uses, recording))
    return min(fits, key=lambda fit: fit[:3])[3] if fits else None


def read_request(method: str, path: str, body: Json | None) -> Asked:
    """What a request asks for. `path` may have a query; `body` is None if it is no JSON object."""
    kind = _kind(method, path, body)
    what = kind.NAME if kind else f"{method} {path.partition('?')[0]}"
    body = body or {}
    return Asked(what, text(body.get("model")), tuple(map(hash, conversation(body, kind))))


def conversation(body: Json, kind: ApiKind | None = None) -> Iterator[str]:
    """The turns of a conversation, each as its role and words: texts, tool calls and tool results.

    Instructions, what harnesses add to a turn, ids and marks are left out, and so are turns that hold nothing else.
    Without a kind it may be any kind's.
    """
    kinds = [kind] if kind else list(api.KINDS.values())
    members = [name for one in kinds for name, part in one.MEMBERS.items() if part == CONVERSATION]
    instructions = {role for one in kinds for role in one.SYSTEM_ROLES}
    volatile = frozenset(name for one in kinds for name in one.VOLATILE_MEMBERS)
    history = next((body[name] for name in members if name in body), None)
    for turn in [history] if isinstance(history, str) else items(history):
        role = mapping(turn).get("role") or mapping(turn).get("type") or "user"
        if role not in instructions and (words := "\n".join(_words(turn, volatile))):
            yield f"{role}: {words}"


def schedule(body: bytes, pace: object) -> list[tuple[float, bytes]]:
    """An answer's body in pieces, each with the seconds since the request when it came. `pace`: as under `PACE`.

    What of `pace` makes no sense is skipped; bytes it does not tell of follow the last piece at once.
    """
    pieces: list[tuple[float, bytes]] = []
    sent, seconds = 0, 0.0
    for entry in items(pace):
        match entry:
            case [int() | float() as milliseconds, int() as size] if sent < size and seconds <= milliseconds / 1000:
                seconds = min(milliseconds / 1000, MAX_WAIT)
                pieces.append((seconds, body[sent:size]))
                sent = size
    return [piece for piece in [*pieces, (seconds, body[sent:])] if piece[1]]


class ReplayServer(socketserver.ThreadingTCPServer):
    """Serves recordings on 127.0.0.1; `port` 0 is any free one, `paced` sends bodies at their recorded pace.

    Raises OSError if the port is taken.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, path: Path, recorded: list[Recording], port: int, *, paced: bool = False) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.paced = paced
        self._path = path
        self._recorded = recorded
        self._lock = Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        # an agent may drop its connection at any time; socketserver would print a traceback
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def find(self, method: str, path: str, body: Json | None) -> http.HTTPFlow | Refusal:
        """The flow whose answer a request gets, or why there is none."""
        asked = read_request(method, path, body)
        with self._lock:
            chosen = choose(self._recorded, asked)
            if chosen is None:
                kind = _kind(method, path, body)
                return Refusal(404, self._unknown(asked, conversation(body or {}, kind)), "not_recorded")
            chosen.uses += 1
        try:
            flow = flowfile.read_at(self._path, chosen.offset)
        except flowfile.FlowFileError as error:
            return Refusal(500, str(error), "unreadable_recording")
        assert isinstance(flow, http.HTTPFlow)
        if flow.error is None and (flow.response is None or flow.response.raw_content is None):
            return Refusal(404, f"this {asked.what} call was recorded without its answer", "not_recorded")
        return flow

    def _unknown(self, asked: Asked, turns: Iterator[str]) -> str:
        models = {call.model for recording in self._recorded for call in recording.asked if call.what == asked.what}
        if not models:
            return f"no {asked.what} call was recorded"
        if asked.model not in models:
            return f"no {asked.what} call to {asked.model} was recorded, only to {', '.join(sorted(map(str, models)))}"
        first = next(turns, "")
        return (
            f"no {asked.what} call to {asked.model} was recorded with this conversation of {len(asked.turns)} turns,"
            f" which begins {first[:100]!r}"
        )


class _Handler(BaseHTTPRequestHandler):
    server: ReplayServer
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        started = time.monotonic()
        try:
            body = self._read_body()
            found = self.server.find(self.command, self.path, body)
            if isinstance(found, Refusal):
                self._refuse(found, body)
            else:
                self._repeat(found, started)
        except (ConnectionError, ValueError):
            # the client has left, or does not speak HTTP
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def log_message(self, *args: Any) -> None:
        """Print nothing: a path may hold a key."""

    def _read_body(self) -> Json | None:
        """The request's JSON object, if it has one. Raises ValueError for broken framing."""
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            data = b"".join(iter(self._read_chunk, b""))
        else:
            data = self.rfile.read(int(self.headers.get("content-length", 0)))
        return call.read_request("", "", Headers(self.headers.items()), data).json

    def _read_chunk(self) -> bytes:
        size = int(self.rfile.readline().partition(b";")[0], 16)
        chunk = self.rfile.read(size)
        self.rfile.readline()
        return chunk

    def _refuse(self, refusal: Refusal, body: Json | None) -> None:
        status, data = reply(refusal, _kind(self.command, self.path, body), Headers(self.headers.items()))
        self.send_response_only(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _repeat(self, flow: http.HTTPFlow, started: float) -> None:
        """Send a recorded answer. One that was cut off is cut off at the same place."""
        was_cut = flow.error is not None
        self.close_connection = self.close_connection or was_cut
        response = flow.response
        if response is None:
            return
        declared = response.headers.get("content-length")
        self.send_response_only(response.status_code, response.reason)
        for name, value in response.headers.items(multi=True):
            if name.lower() not in NOT_REPEATED:
                self.send_header(name, value)
        self.send_header(*(("transfer-encoding", "chunked") if declared is None else ("content-length", declared)))
        self.end_headers()
        if self.command == "HEAD":
            return
        pace = flow.metadata.get(PACE) if self.server.paced else None
        for seconds, piece in schedule(response.raw_content or b"", pace):
            time.sleep(max(0.0, started + seconds - time.monotonic()))
            self.wfile.write(piece if declared is not None else b"%x\r\n%b\r\n" % (len(piece), piece))
        if declared is None and not was_cut:
            self.wfile.write(b"0\r\n\r\n")


def _asked(request: http.Request) -> Asked:
    headers = Headers(request.headers.items(multi=True))
    return read_request(request.method, request.path, call.read_request("", "", headers, request.raw_content).json)


def _kind(method: str, path: str, body: Json | None) -> ApiKind | None:
    kind = api.kind_of_path(path) if method == "POST" else None
    return api.kind_of_request(kind, body) if kind else None


def _common_turns(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _words(value: object, volatile: frozenset[str]) -> Iterator[str]:
    """The words in a turn, however it is built: a string is the same as a list with one part of text."""
    match value:
        case None:
            return
        case str():
            if words := strip_wrappers(value).strip():
                yield words
        case dict():
            for name in sorted(value.keys() - volatile):
                yield from _words(value[name], volatile)
        case list():
            for item in value:
                yield from _words(item, volatile)
        case _:
            yield str(value)
