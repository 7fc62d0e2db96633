"""All that a flow says, as texts to look through: heads with their queries, bodies, the messages of WebSockets and of
bare connections, names asked for. What cannot be read is named instead. No I/O.

Bodies of model calls that have a row are left out: the database has their texts, each once.
"""

import codecs
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mitmproxy.dns import DNSFlow
from mitmproxy.flow import Flow
from mitmproxy.http import HTTPFlow, Message
from mitmproxy.tcp import TCPFlow
from mitmproxy.udp import UDPFlow

from gateway_addon.captures import notes
from gateway_addon.captures.finder import deltas
from gateway_addon.captures.redaction import decoded
from gateway_addon.store import passages
from gateway_addon.store.passages import Passage
from gateway_addon.times import MAX_TIME, timestamp
from gateway_addon.wire import aws_events, sse
from gateway_addon.wire.headers import Headers, media_type

MAX_TEXT = 4_000_000
"""Characters of a text that are looked through at a time."""
OVERLAP = 64_000
"""Characters of which two neighbouring pieces of a longer one share."""

type Unread = Callable[[str], object]
"""Told what could not be looked into."""


def flow_of(flow: Flow) -> passages.Flow:
    address = flow.server_conn.address
    started, host = flow.timestamp_created, address[0] if address else None
    if isinstance(flow, HTTPFlow):
        started, host = flow.request.timestamp_start, flow.request.host
    return passages.Flow(flow.id, timestamp(started if 0 <= started < MAX_TIME else 0.0), host)


def said_in(flow: Flow, unread: Unread, *, is_call: bool) -> Iterator[Passage]:
    """The texts of a flow. `is_call`: the database has its request's body."""
    match flow:
        case HTTPFlow():
            said = _http(flow, unread, is_call=is_call)
        case TCPFlow() | UDPFlow():
            said = _messages(flow, unread)
        case DNSFlow():
            said = _names(flow)
        case _:
            unread(f"{flow.type} flow")
            return
    for passage in said:
        yield from (passage._replace(text=piece) for piece in _pieces(passage.text))


def _pieces(text: str) -> Iterator[str]:
    for start in range(0, max(1, len(text) - OVERLAP), MAX_TEXT - OVERLAP) if len(text) > MAX_TEXT else (0,):
        yield text[start : start + MAX_TEXT]


def _http(flow: HTTPFlow, unread: Unread, *, is_call: bool) -> Iterator[Passage]:
    noted = notes.read(flow)
    left = flow.is_replay != "response" and not (noted and noted.outcome == "rejected")
    request, response = flow.request, flow.response
    head = "\n".join([f"{request.method} {request.path}", *_fields(request)])
    yield Passage("request head", head, left, is_head=True)
    if not is_call:
        yield from _body("request body", request, left, unread)
    if response:
        yield Passage("answer head", "\n".join([str(response.status_code), *_fields(response)]), False, is_head=True)
        yield from _body("answer body", response, False, unread)
    if flow.error:
        yield Passage("error", flow.error.msg, False)
    if flow.websocket:
        for from_client in (True, False):
            contents = [message.content for message in flow.websocket.messages if message.from_client == from_client]
            place = "WebSocket message" if from_client else "WebSocket answer"
            for content in contents:
                _check(content, "binary WebSocket message", unread)
            yield from _events(place, list(map(_decode, contents)), left and from_client)


def _fields(message: Message) -> Iterator[str]:
    for fields in (message.headers, message.trailers):
        for name, value in fields.items(multi=True) if fields else ():
            yield f"{name}: {value}"


def _body(place: str, message: Message, was_sent: bool, unread: Unread) -> Iterator[Passage]:
    content = message.raw_content
    if not content:
        if content is None:
            unread(f"{place} not saved")
        return
    headers = Headers(message.headers.items(multi=True))
    encoding = headers.joined("content-encoding")
    plain, cut_off = decoded(content, encoding)
    if cut_off:
        unread(f"{place} in the encoding {encoding!r}, damaged or unknown")
        plain = plain or content
    label = media_type(headers)
    if label == aws_events.CONTENT_TYPE:
        raw = [event.raw for event in aws_events.EventParser(max_event=len(plain)).feed(plain)]
        yield from _events(place, [_decode(aws_events.content(message) or message) for message in raw], was_sent)
        return
    if sse.is_stream(plain, is_labelled=label == sse.MEDIA_TYPE):
        parser = sse.EventParser(max_event=len(plain), max_lines=len(plain))
        yield from _events(place, [_decode(event.data) for event in (*parser.feed(plain), *parser.finish())], was_sent)
        return
    for mark, name in _UTF_16.items():
        if plain.startswith(mark):
            yield Passage(place, plain.decode(name, "replace"), was_sent)
            return
    _check(plain, f"{place} of {label or 'no type'}: no text, searched as it is", unread)
    yield Passage(place, _decode(plain), was_sent)


_UTF_16 = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def _events(place: str, events: list[str], was_sent: bool) -> Iterator[Passage]:
    """Events that go on where another ended are one text: a secret may be spread over them."""
    spread: set[int] = set()
    for pieces in deltas(events):
        if len(pieces) > 1:
            spread.update(piece.event for piece in pieces)
            yield Passage(place, "".join(piece.inside.text for piece in pieces), was_sent)
    whole = [event for number, event in enumerate(events) if number not in spread and event]
    for event in whole:
        yield Passage(place, event, was_sent)


def _messages(flow: TCPFlow | UDPFlow, unread: Unread) -> Iterator[Passage]:
    for from_client in (True, False):
        said = b"".join(message.content for message in flow.messages if message.from_client == from_client)
        if said:
            _check(said, f"{flow.type.upper()} connection: no text, searched as it is", unread)
            yield Passage(f"{flow.type.upper()} {'data' if from_client else 'answer'}", _decode(said), from_client)


def _names(flow: DNSFlow) -> Iterator[Passage]:
    names: Iterable[Any] = flow.request.questions
    yield Passage("DNS question", "\n".join(question.name for question in names), True)


def _check(data: bytes, what: str, unread: Unread) -> None:
    if b"\0" in data:
        unread(what)
        return
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data)
    except UnicodeDecodeError:
        unread(what)


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
