"""A loopback server that gives the answers of a flow file to whoever asks again, such as an agent that is offline.

mitmproxy's own server replay compares whole requests and cannot stream; agents change ids, dates and cache marks from
run to run. Here a call is matched by what it is, its model, and how far its conversation is the recorded one.
"""

import io
import re
import socketserver
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from itertools import islice, takewhile
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple
from urllib.parse import unquote

from mitmproxy import http
from wsproto import ConnectionState, ConnectionType
from wsproto.connection import Connection
from wsproto.events import CloseConnection, Event, Message, Ping, TextMessage
from wsproto.utilities import ProtocolError, generate_accept_token

from gateway_addon import api, call
from gateway_addon.api import turns
from gateway_addon.api.base import ApiKind, Json, Refusal
from gateway_addon.api.prompts import strip_wrappers
from gateway_addon.api.values import items, mapping, text
from gateway_addon.captures import flowfile, sockets
from gateway_addon.captures.notes import PACE
from gateway_addon.captures.pace import MAX_WAIT, schedule
from gateway_addon.gateway.replies import reply
from gateway_addon.wire import jsontext
from gateway_addon.wire.cut import CONVERSATION
from gateway_addon.wire.headers import Headers

NOT_REPEATED = frozenset(
    {"connection", "content-length", "keep-alive", "trailer", "transfer-encoding", "upgrade"}
    | {"access-control-allow-credentials", "access-control-allow-origin", "alt-svc", "set-cookie"}
    | {"strict-transport-security"}
)
"""Headers of a recorded answer that were about its own connection, or would let web pages read it here."""

LOOPBACK = re.compile(r"(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?", re.IGNORECASE)
"""What a `Host` header may say: with another name a web page has come here by way of its own."""

MODELS = re.compile(r"GET (?:/.*)?/models(?:/(?P<id>.+))?")
"""What asks for the list of models, or for one."""

QUOTED = 100
"""Characters of a turn that a message quotes."""

_NAME = re.compile(rb"[\w!#$%&'*+.^`|~-]+", re.ASCII)
_VALUE = re.compile(rb"[^\r\n\0]*")


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
    name: str = ""
    """How messages call it."""
    turn: int = 0
    """Which turn of the WebSocket that is there; 0: it is an HTTP call."""


class Match(NamedTuple):
    """A recording that a request gets the answer of."""

    recording: Recording
    why: str


def recordings(path: Path, progress: flowfile.Progress = lambda size: None) -> Iterator[Recording]:
    """The calls of a flow file, in its order. Raises `FlowFileError` after the last whole flow."""
    count = 0
    for offset, flow in flowfile.read_with_offsets(path, progress):
        if not isinstance(flow, http.HTTPFlow):
            continue
        if flow.websocket is not None:
            said = sockets.Histories()
            for turn in sockets.exchanges(flow):
                count += 1
                name = f"call {count} ({flow.id[:8]}/{turn.number})"
                body = said.complete(turn.body)
                yield Recording(offset, (_asked_in(body),), name=name, turn=turn.number)
                said.learn(body, [answer.content for answer in turn.answers])
            continue
        asked = [_asked(flow.request)]
        if flow.modified():
            flow.revert()
            asked.append(_asked(flow.request))
        count += 1
        yield Recording(offset, tuple(asked), name=f"call {count} ({flow.id[:8]})")


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


def choose_by_position(recorded: Iterable[Recording], asked: Asked) -> Recording | None:
    """The recording of the same kind that stands where the request does: whose conversation is as long, or nearest to.

    Of several the one with the same model counts, then the most turns in common, then what was used least, then the
    order of the file. Another length fits once only, as in `choose`.
    """
    fits = []
    for recording in recorded:
        for candidate in recording.asked:
            difference = abs(len(candidate.turns) - len(asked.turns))
            if candidate.what == asked.what and (difference == 0 or recording.uses == 0):
                other_model = candidate.model != asked.model
                alike = _turns_alike(candidate.turns, asked.turns)
                fits.append((difference, other_model, -alike, recording.uses, recording))
    return min(fits, key=lambda fit: fit[:4])[4] if fits else None


def nearest(recorded: Iterable[Recording], asked: Asked) -> tuple[Recording, Asked] | None:
    """The recording of the same kind and model that has most in common with a request, fit or not."""
    calls = [
        (recording, candidate)
        for recording in recorded
        for candidate in recording.asked
        if (candidate.what, candidate.model) == (asked.what, asked.model)
    ]

    def distance(call: tuple[Recording, Asked]) -> tuple[int, int]:
        return -_common_turns(call[1].turns, asked.turns), abs(len(call[1].turns) - len(asked.turns))

    return min(calls, key=distance, default=None)


def read_request(method: str, path: str, body: Json | None) -> Asked:
    """What a request asks for. `path` may have a query; `body` is None if it is no JSON object.

    Raises ValueError for a conversation that cannot be read: nested too deeply, or with endless numbers.
    """
    kind = _kind(method, path, body)
    what = kind.NAME if kind else f"{method} {path.partition('?')[0]}"
    body = body or {}
    if body.get("generate") is False:
        # a WebSocket's, before the call with the same conversation
        what += " warm-up"
    try:
        turns = tuple(map(hash, conversation(body, kind)))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return Asked(what, text(body.get("model")), turns)


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
        role = text(mapping(turn).get("role")) or text(mapping(turn).get("type")) or "user"
        if role not in instructions and (words := "\n".join(_words(turn, volatile))):
            yield f"{role}: {words}"


class ReplayServer(socketserver.ThreadingTCPServer):
    """Serves recordings on 127.0.0.1; `port` 0 is any free one, `paced` sends answers at their recorded pace, `lenient`
    matches by position where nothing fits. `told` hears a line for each request.

    Raises OSError if the port is taken.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        path: Path,
        recorded: list[Recording],
        port: int,
        *,
        paced: bool = False,
        lenient: bool = False,
        told: Callable[[str], object] = lambda line: None,
    ) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.paced = paced
        self._lenient = lenient
        self._path = path
        self._recorded = recorded
        self._told = told
        self._lock = Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        # an agent may drop its connection at any time; socketserver would print a traceback
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def tell(self, line: str) -> None:
        """Say what became of a request."""
        with self._lock, suppress(OSError):
            self._told(line)

    def models(self) -> list[str]:
        """The models that calls were made to, in the order of the file."""
        models = [call.model for recording in self._recorded for call in recording.asked if call.model]
        return list(dict.fromkeys(models))

    def find(self, asked: Asked, body: Json) -> tuple[http.HTTPFlow, Match] | Refusal:
        """The flow whose answer a request gets, or why there is none."""
        with self._lock:
            found = self._match(asked)
            if found is None:
                return Refusal(404, self._unknown(asked, body), "not_recorded")
            found.recording.uses += 1
        try:
            flow = flowfile.read_at(self._path, found.recording.offset)
        except flowfile.FlowFileError as error:
            return Refusal(500, str(error), "unreadable_recording")
        assert isinstance(flow, http.HTTPFlow)
        if found.recording.turn:
            turn = next(turn for turn in sockets.exchanges(flow) if turn.number == found.recording.turn)
            flow = sockets.as_http(flow, turn)
        if flow.error is None and (flow.response is None or flow.response.raw_content is None):
            return Refusal(404, f"{found.recording.name} was recorded without its answer", "not_recorded")
        if flow.response is not None and not 200 <= flow.response.status_code < 600:
            return Refusal(404, f"{found.recording.name} was recorded with no final answer", "not_recorded")
        return flow, found

    def _match(self, asked: Asked) -> Match | None:
        if chosen := choose(self._recorded, asked):
            alike = max(_common_turns(call.turns, asked.turns) for call in chosen.asked)
            return Match(chosen, f"{alike} of {len(asked.turns)} turns alike" if asked.turns else "the same request")
        if self._lenient and (chosen := choose_by_position(self._recorded, asked)):
            alike = max(_turns_alike(call.turns, asked.turns) for call in chosen.asked)
            return Match(chosen, f"by position, {alike} of {len(asked.turns)} turns alike")
        return None

    def _unknown(self, asked: Asked, body: Json) -> str:
        models = {call.model for recording in self._recorded for call in recording.asked if call.what == asked.what}
        if not models:
            return f"no {asked.what} call was recorded"
        if asked.model not in models:
            return f"no {asked.what} call to {asked.model} was recorded, only to {', '.join(sorted(map(str, models)))}"
        return (
            f"no {asked.what} call to {asked.model} was recorded with this conversation of {len(asked.turns)} turns: "
            + self._difference(asked, body)
        )

    def _difference(self, asked: Asked, body: Json) -> str:
        """What is the first to differ from the nearest recording."""
        call = nearest(self._recorded, asked)
        assert call
        recording, recorded = call
        common = _common_turns(recorded.turns, asked.turns)
        if common == len(recorded.turns) or common == len(asked.turns):
            given = ", and was given already" if recording.uses else ""
            return f"{recording.name} has {len(recorded.turns)}{given}"
        here = next(islice(conversation(body), common, None), "")
        return f"turn {common + 1} is {here[:QUOTED]!r}, in {recording.name} {self._turn(recording, common)!r}"

    def _turn(self, recording: Recording, number: int) -> str:
        with suppress(flowfile.FlowFileError, ValueError, RecursionError):
            flow = flowfile.read_at(self._path, recording.offset)
            assert isinstance(flow, http.HTTPFlow)
            body = _body(flow.request) if not recording.turn else _complete_body(flow, recording.turn)
            return next(islice(conversation(body or {}), number, None), "")[:QUOTED]
        return "another"


class _Handler(BaseHTTPRequestHandler):
    server: ReplayServer
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        started = time.monotonic()
        try:
            body = self._read_body()
            if refusal := self._stranger():
                self._refuse(refusal, body, f"{self.command} request")
                return
            if self.command == "GET" and self._is_upgrade():
                self._converse()
                return
            try:
                if body is None and _kind(self.command, self.path, None):
                    raise ValueError("no JSON object, or nested too deeply")
                asked = read_request(self.command, self.path, body)
            except ValueError as error:
                refusal = Refusal(400, f"the body cannot be read: {error}", "invalid_body")
                self._refuse(refusal, body, f"{self.command} request")
                return
            found = self.server.find(asked, body or {})
            if not isinstance(found, Refusal):
                flow, match = found
                status = flow.response.status_code if flow.response else "no answer"
                self.server.tell(f"{_named(asked)}: {status}, {match.recording.name}, {match.why}")
                if match.recording.turn and not mapping(body).get("stream"):
                    sockets.unstream(flow)
                self._repeat(flow, started)
            elif not self._list_models(asked):
                self._refuse(found, body, _named(asked))
        except (ConnectionError, ValueError, ProtocolError):
            # the client has left, or does not speak what it should
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def log_message(self, *args: Any) -> None:
        """Print nothing: a path may hold a key."""

    def _read_body(self) -> Json | None:
        """The request's JSON object, if it has one. Raises ValueError for broken framing."""
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            data = b"".join(iter(self._read_chunk, b""))
        else:
            data = self.rfile.read(_size(self.headers.get("content-length", "0"), 10))
        return call.read_request("", "", Headers(self.headers.items()), data).json

    def _read_chunk(self) -> bytes:
        size = _size(self.rfile.readline().partition(b";")[0].strip().decode("ascii"), 16)
        chunk = self.rfile.read(size)
        self.rfile.readline()
        return chunk

    def _stranger(self) -> Refusal | None:
        """Why somebody is not answered at all: the recordings are for programs on this machine, not for web pages."""
        if self.headers.get("origin") is not None:
            return Refusal(403, "web pages are not answered (origin)", "forbidden")
        if any(not LOOPBACK.fullmatch(host.strip()) for host in self.headers.get_all("host", [])):
            return Refusal(403, "this server is only called by a loopback name (host)", "forbidden")
        return None

    def _refuse(self, refusal: Refusal, body: Json | None, request: str) -> None:
        self.server.tell(f"{request}: {refusal.status}, {refusal.message}")
        self._send_json(*reply(refusal, _kind(self.command, self.path, body), Headers(self.headers.items())))

    def _list_models(self, asked: Asked) -> bool:
        """Answer a request for models from what was called; False if it is none, or for a model that was not."""
        found = MODELS.fullmatch(asked.what)
        models = {model: _model(model) for model in self.server.models()}
        if not found or (found["id"] and unquote(found["id"]) not in models):
            return False
        listed = {"object": "list", "data": list(models.values()), "has_more": False}
        listed |= {"first_id": next(iter(models), None), "last_id": next(reversed(models), None)}
        self.server.tell(f"{asked.what}: 200, the models that were called")
        self._send_json(200, jsontext.dumps(models[unquote(found["id"])] if found["id"] else listed).encode())
        return True

    def _is_upgrade(self) -> bool:
        head = call.Head(method=self.command, path=self.path, headers=Headers(self.headers.items()))
        return head.is_upgrade and self.path.partition("?")[0].endswith(turns.KIND.SUFFIX)

    def _converse(self) -> None:
        """Answer the turns of a WebSocket, one after the other."""
        key = self.headers.get("sec-websocket-key", "")
        self.send_response_only(101)
        self.send_header("upgrade", "websocket")
        self.send_header("connection", "Upgrade")
        self.send_header("sec-websocket-accept", generate_accept_token(key.encode("latin-1")).decode())
        self.end_headers()
        self.close_connection = True
        said = sockets.Histories()
        socket = _Socket(self.rfile, self.wfile)
        for message in socket:
            request = call.read_request("POST", self.path, Headers(), message)
            if request.json is not None and turns.creates(request.json) and not self._take_turn(request, said, socket):
                return

    def _take_turn(self, request: call.Request, said: sockets.Histories, socket: "_Socket") -> bool:
        """Answer a turn with what was recorded. Returns whether the connection goes on."""
        started = time.monotonic()
        body = said.complete(request.json or {})
        stream_id = turns.stream_of(body)
        try:
            asked = _read_turn(body)
        except ValueError as error:
            refusal = Refusal(400, f"the body cannot be read: {error}", "invalid_body")
            self.server.tell(f"turn of a WebSocket: {refusal.status}, {refusal.message}")
            socket.send(turns.error_message(refusal, stream_id))
            return True
        found = self.server.find(asked, body)
        if isinstance(found, Refusal):
            self.server.tell(f"{_named(asked)}: {found.status}, {found.message}")
            socket.send(turns.error_message(found, stream_id))
            return True
        flow, match = found
        status = flow.response.status_code if flow.response else "no answer"
        self.server.tell(f"{_named(asked)}: {status}, {match.recording.name}, {match.why}")
        sent: list[bytes] = []
        for seconds, message in sockets.messages(flow):
            if self.server.paced:
                _wait_until(started + seconds)
            socket.send(message)
            sent.append(message)
        said.learn(body, sent)
        return flow.error is None

    def _send_json(self, status: int, data: bytes) -> None:
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
        body = response.raw_content or b""
        if self.server.paced:
            _wait_until(started + _time_of_head(flow))
        has_body = self.command != "HEAD" and response.status_code not in BODILESS
        length = _length(response.headers.get("content-length"), body)
        self.send_response_only(response.status_code, _plain(response.reason))
        for name, value in response.headers.fields:
            # a recording may hold what no server can send: a line's end would begin another header, or another answer
            if name.decode("latin-1").lower() not in NOT_REPEATED and _NAME.fullmatch(name) and _VALUE.fullmatch(value):
                self.send_header(name.decode("latin-1"), value.decode("latin-1"))
        if response.status_code not in BODILESS:
            self.send_header(*(("transfer-encoding", "chunked") if length is None else ("content-length", str(length))))
        self.end_headers()
        if not has_body:
            return
        # it was cut off, whether or not somebody noted it
        self.close_connection = self.close_connection or (length or 0) > len(body)
        pace = flow.metadata.get(PACE) if self.server.paced else None
        for seconds, piece in schedule(body, pace):
            _wait_until(started + seconds)
            self.wfile.write(piece if length is not None else b"%x\r\n%b\r\n" % (len(piece), piece))
        if length is None and not was_cut:
            self.wfile.write(b"0\r\n\r\n")


class _Socket:
    """The server's end of a WebSocket: an iterator over the messages that its client sends."""

    def __init__(self, reader: io.BufferedIOBase, writer: io.BufferedIOBase) -> None:
        self._reader = reader
        self._writer = writer
        self._connection = Connection(ConnectionType.SERVER)

    def __iter__(self) -> Iterator[bytes]:
        """Ends when the client does, or when it sends too much at once."""
        pieces: list[bytes] = []
        while data := self._reader.read1(1 << 16):
            self._connection.receive_data(data)
            for event in self._connection.events():
                match event:
                    case Message():
                        pieces.append(event.data.encode() if isinstance(event.data, str) else bytes(event.data))
                        if sum(map(len, pieces)) > call.MAX_REQUEST:
                            return
                        if event.message_finished:
                            yield b"".join(pieces)
                            pieces = []
                    case Ping():
                        self._write(event.response())
                    case CloseConnection():
                        if self._connection.state is ConnectionState.REMOTE_CLOSING:
                            self._write(event.response())
                        return

    def send(self, message: bytes) -> None:
        self._write(TextMessage(message.decode("utf-8", "replace")))

    def _write(self, event: Event) -> None:
        self._writer.write(self._connection.send(event))


BODILESS = (204, 304)
"""Statuses of answers that end with their head."""


def _plain(reason: str) -> str:
    return reason if reason.isascii() and reason.isprintable() else ""


def _wait_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def _time_of_head(flow: http.HTTPFlow) -> float:
    """Seconds from the request to the head of its answer, as recorded."""
    begun = flow.response.timestamp_start if flow.response else None
    seconds = (begun or 0.0) - flow.request.timestamp_start
    return min(seconds, MAX_WAIT) if seconds > 0 else 0.0


def _length(declared: str | None, body: bytes) -> int | None:
    """The length to declare: as recorded if the body is not longer, or what is behind it would be another answer."""
    if declared is None:
        return None
    known = re.fullmatch(r"[0-9]{1,15}", declared)
    return max(int(declared), len(body)) if known else len(body)


def _size(digits: str, base: int) -> int:
    """The bytes of a body or chunk that a client announces. Raises ValueError for nonsense, and for too many."""
    size = int(digits, base)
    if not 0 <= size <= call.MAX_REQUEST:
        raise ValueError("no such size")
    return size


def _model(model: str) -> Json:
    """An entry of the list of models, with what OpenAI's and Anthropic's clients look for."""
    return {
        "id": model,
        "object": "model",
        "type": "model",
        "display_name": model,
        "created": 0,
        "created_at": "1970-01-01T00:00:00Z",
        "owned_by": "recorded",
    }


def _named(asked: Asked) -> str:
    model = f" to {asked.model}" if asked.model else ""
    turns = f" with {len(asked.turns)} turns" if asked.turns else ""
    return f"{asked.what}{model}{turns}"


def _asked(request: http.Request) -> Asked:
    body = _body(request)
    try:
        return read_request(request.method, request.path, body)
    except ValueError:
        # nobody can ask this again
        return Asked(f"{request.method} {request.path}", None, ())


def _asked_in(body: Json) -> Asked:
    try:
        return _read_turn(body)
    except ValueError:
        # nobody can ask this again
        return Asked(turns.CREATE, None, ())


def _read_turn(body: Json) -> Asked:
    """What a turn of a WebSocket asks for. `body`: with all its history."""
    return read_request("POST", turns.KIND.SUFFIX, body)


def _complete_body(flow: http.HTTPFlow, number: int) -> Json | None:
    """The request of a turn with all its history."""
    said = sockets.Histories()
    for turn in sockets.exchanges(flow):
        body = said.complete(turn.body)
        if turn.number == number:
            return body
        said.learn(body, [answer.content for answer in turn.answers])
    return None


def _body(request: http.Request) -> Json | None:
    headers = Headers(request.headers.items(multi=True))
    return call.read_request("", "", headers, request.raw_content).json


def _kind(method: str, path: str, body: Json | None) -> ApiKind | None:
    kind = api.kind_of_path(path) if method == "POST" else None
    return api.kind_of_request(kind, body) if kind else None


def _common_turns(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _turns_alike(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """How many turns are the same in the same place."""
    return sum(a == b for a, b in zip(one, other, strict=False))


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
