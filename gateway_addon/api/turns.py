"""Responses over a WebSocket: which messages begin a turn and which end it. No I/O, and nothing raises for any bytes.

A client's `response.create` has the members of a request's body; the server answers with the events of a stream, each
a message. Turns follow one another, or run side by side where each message names its `stream_id` (OpenAI's guide to the
WebSocket mode of Responses).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway_addon.api import responses
from gateway_addon.api.base import Json, Refusal
from gateway_addon.api.refusals import openai_error_body
from gateway_addon.api.values import mapping, text
from gateway_addon.wire import jsontext
from gateway_addon.wire.headers import Headers

KIND = responses
"""What is spoken there."""

CREATE = "response.create"

LIMIT = "websocket_connection_limit_reached"
"""The `code` of the error that comes before a server ends a connection for its age, without any turn's fault."""

STEER = "response.steer"

_ASKS = re.compile(rb'"type"\s*:\s*"response\.(?:create|steer)"')
_ENDS = "|".join(responses.TERMINAL_STEPS)
_TELLING = re.compile(rb'"type"\s*:\s*"(?:error|response\.(?:created|%b))"|"stream_id"' % _ENDS.encode())
_END = re.compile(rf"response\.(?:{_ENDS})")

SENT_IN = "client_metadata"

SENT_WITH = "ws_request_header_"
"""How members of `client_metadata` begin that are headers of the turn: Codex sends no others once it is connected."""


def may_ask(message: bytes) -> bool:
    """Whether a client's message may begin a turn, or steer one; a look at its bytes alone."""
    return _ASKS.search(message) is not None


def creates(body: Json | None) -> bool:
    """Whether a message that `may_ask` begins a turn; what cannot be read does. `body`: the same, parsed."""
    return body is None or body.get("type") == CREATE


def steers(body: Json | None) -> bool:
    """Whether a message has the server break off its answer, and go on with another one by itself."""
    return body is not None and body.get("type") == STEER


def stream_of(body: Json | None) -> str | None:
    """The stream that a message names."""
    return text(body.get("stream_id")) if body else None


def headers_of(upgrade: Headers, body: Json | None) -> Headers:
    """The headers of a turn: the connection's own are as old as that, and `client_metadata` has some anew."""
    sent = {name: value for _, name, value in sent_with(body) if value}
    return Headers([*((name, value) for name, value in _fields(upgrade) if name not in sent), *sent.items()])


def sent_with(body: Json | None) -> Iterator[tuple[str, str, str | None]]:
    """The headers that a body's `SENT_IN` holds: the member, the header's name, its value."""
    for member, value in mapping((body or {}).get(SENT_IN)).items():
        if member.startswith(SENT_WITH):
            yield member, member.removeprefix(SENT_WITH).lower().replace("_", "-"), text(value)
        elif member.startswith("x-"):
            yield member, member.lower(), text(value)


def _fields(headers: Headers) -> Iterator[tuple[str, str]]:
    return ((name, headers.joined(name)) for name in headers)


@dataclass(slots=True, frozen=True)
class Said:
    """What a server's message says of the turn it belongs to."""

    begins: bool = False
    """It names the answer that begins with it."""
    ends: bool = False
    """Nothing more will come."""
    fails: bool = False
    """An error; of an answer that has begun more may come."""
    stream_id: str | None = None
    response_id: str | None = None
    """Of the answer that it names."""

    @property
    def refuses(self) -> bool:
        """An error instead of an answer."""
        return self.fails and self.ends

    def ends_turn(self, *, has_begun: bool) -> bool:
        """Whether it is the last message of a turn whose answer had been named before, or not."""
        return self.ends or (self.fails and not has_begun)


NOTHING = Said()


def read_message(message: bytes) -> Said:
    """What a server's message says. Most are parts of an answer, and told by a look at their bytes."""
    if not _TELLING.search(message):
        return NOTHING
    event = jsontext.parse_object(message)
    if event is None:
        return NOTHING
    kind = text(event.get("type")) or ""
    fails = kind == "error"
    return Said(
        begins=kind == "response.created",
        ends=_END.fullmatch(kind) is not None or (fails and "status" in event),
        fails=fails,
        stream_id=stream_of(event),
        response_id=text(mapping(event.get("response")).get("id")),
    )


class Opened(Protocol):
    """A turn that has begun and not ended."""

    @property
    def stream_id(self) -> str | None: ...

    @property
    def has_begun(self) -> bool:
        """Its answer has been named."""

    @property
    def response_id(self) -> str | None:
        """How."""


def turn_of[T: Opened](said: Said, there: Sequence[T]) -> T | None:
    """The turn that a message belongs to, of those that wait for an answer: the one whose answer it names; else the
    first of the stream that it names, or of those that name none, as they are answered in their order. None: an answer
    to none of them."""
    if said.response_id and (named := [turn for turn in there if turn.response_id == said.response_id]):
        return named[0]
    possible = [turn for turn in there if turn.stream_id == said.stream_id] or there
    if said.response_id:
        possible = [turn for turn in possible if turn.response_id is None]
    if said.begins or said.refuses:
        # who refuses a turn while another runs means the one it has not begun
        waiting = [turn for turn in possible if not turn.has_begun]
        possible = waiting if said.begins else waiting or possible
    return next(iter(possible), None)


def error_message(refusal: Refusal, stream_id: str | None) -> bytes:
    """The answer to a turn that is refused, while the connection goes on."""
    named = {"stream_id": stream_id} if stream_id else {}
    event = {"type": "error", "status": refusal.status, **openai_error_body(refusal), **named}
    return jsontext.dumps(event).encode()
