"""AWS's binary event stream: a byte stream in, events out.

A pure state machine like `wire.sse`, after the "Amazon Event Stream Specification" of Smithy
(https://smithy.io/2.0/aws/amazon-eventstream.html). Bedrock answers `invoke-with-response-stream` with it: each event
of the model's own API is packed into a `chunk` ("InvokeModelWithResponseStream" in the Amazon Bedrock API Reference).
"""

import base64
import struct
from binascii import crc32
from collections.abc import Iterator

from gateway_addon.wire import jsontext
from gateway_addon.wire.sse import MAX_EVENT, Event

CONTENT_TYPE = "application/vnd.amazon.eventstream"

STATUS_OF_EXCEPTION = {
    "validationException": 400,
    "modelTimeoutException": 408,
    "modelStreamErrorException": 424,
    "throttlingException": 429,
    "internalServerException": 500,
    "serviceUnavailableException": 503,
}
"""Bedrock's exceptions within a stream, and the HTTP status each stands for."""

# Total length, length of the headers, CRC of these two; headers and payload follow, then the CRC of all before it
_PRELUDE = struct.Struct(">III")
_CRC = struct.Struct(">I")
_FRAME = _PRELUDE.size + _CRC.size

_STRING = 7
# By the type of a header's value: how long it is, or None where two bytes in front of it say so (byte array, string);
# the others are true, false, byte, short, integer, long, timestamp, UUID
_VALUE_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 6: None, _STRING: None, 8: 8, 9: 16}


class EventParser:
    """Cuts a stream into events as it arrives, in any pieces. Never raises.

    An event's `name` is its `:event-type`, its `data` what a `chunk` packs, else the payload; an exception is an event
    named `error` whose data has Anthropic's form of one. Where a length or a checksum is wrong, nothing tells where the
    next message begins: from there on the bytes are passed on unread. So is a message over `max_event` bytes.
    """

    def __init__(self, max_event: int = MAX_EVENT) -> None:
        self.skipped = 0
        """Messages that could not be read so far."""
        self._max_event = max_event
        self._buffer = bytearray()  # begins with a message
        self._unread = 0  # bytes of a message over the limit that are still to come
        self._broken = False

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes."""
        self._buffer += data
        events: list[Event] = []
        while self._buffer and (event := self._next()):
            events.append(event)
            del self._buffer[: len(event.raw)]  # takes no time: a bytearray only moves its start
        return events

    def finish(self) -> list[Event]:
        """What the end of the data leaves: a message that is cut off."""
        event = Event("", b"", bytes(self._buffer))
        self._buffer.clear()
        return [event] if event.raw else []

    def _next(self) -> Event | None:
        """The event the buffer begins with, or a part of it that holds none; None if more must come first."""
        buffer = self._buffer
        if self._broken:
            return Event("", b"", bytes(buffer))
        if self._unread:
            part = bytes(buffer[: self._unread])
            self._unread -= len(part)
            return Event("", b"", part)
        if len(buffer) < _PRELUDE.size:
            return None
        size, headers_size, checksum = _PRELUDE.unpack_from(buffer)
        if crc32(buffer[: _PRELUDE.size - _CRC.size]) != checksum or size < headers_size + _FRAME:
            self._broken = True
            self.skipped += 1
            return self._next()
        if size > self._max_event:
            self._unread = size
            self.skipped += 1
            return self._next()
        if len(buffer) < size:
            return None
        raw = bytes(buffer[:size])
        if crc32(raw[: -_CRC.size]) != _CRC.unpack_from(raw, size - _CRC.size)[0]:
            self._broken = True
            self.skipped += 1
            return self._next()
        payload = _PRELUDE.size + headers_size
        return Event(*_read(dict(_headers(raw[_PRELUDE.size : payload])), raw[payload : -_CRC.size]), raw)


def content(raw: bytes) -> bytes | None:
    """What a whole message says: what a `chunk` packs, else its payload. None for bytes that are no whole message."""
    event = next(iter(EventParser(max_event=len(raw)).feed(raw)), None)
    if event is None or event.raw != raw or not raw or len(raw) < _FRAME or _PRELUDE.unpack_from(raw)[0] != len(raw):
        return None
    return event.data if event.name == "chunk" else _parts(raw)[1]


def with_content(raw: bytes, new: bytes) -> bytes:
    """A whole message that says something else, in the same form."""
    headers, payload = _parts(raw)
    if payload != content(raw):
        text = payload.decode()
        packed = next(member for member in jsontext.members(text) if member.key == "bytes")
        payload = f'{text[: packed.start]}"{base64.b64encode(new).decode()}"{text[packed.end :]}'.encode()
    else:
        payload = new
    lengths = _PRELUDE.pack(len(headers) + len(payload) + _FRAME, len(headers), 0)[: -_CRC.size]
    message = lengths + _CRC.pack(crc32(lengths)) + headers + payload
    return message + _CRC.pack(crc32(message))


def _parts(raw: bytes) -> tuple[bytes, bytes]:
    """Headers and payload of a whole message."""
    start = _PRELUDE.size + int(_PRELUDE.unpack_from(raw)[1])
    return raw[_PRELUDE.size : start], raw[start : -_CRC.size]


def _headers(block: bytes) -> Iterator[tuple[str, str]]:
    """The headers that are strings, up to the first that is not as the format says."""
    position = 0
    while position < len(block):
        name_end = position + 1 + block[position]
        size = _VALUE_SIZES.get(block[name_end], -1) if name_end < len(block) else -1
        start = name_end + 1
        if size is None:
            size, start = int.from_bytes(block[start : start + 2]), start + 2
        if size < 0 or start + size > len(block):
            return
        if block[name_end] == _STRING:
            yield _text(block[position + 1 : name_end]), _text(block[start : start + size])
        position = start + size


def _text(value: bytes) -> str:
    return value.decode(errors="replace")


def _read(headers: dict[str, str], payload: bytes) -> tuple[str, bytes]:
    """Name and data of the event in a message."""
    said = jsontext.parse_object(payload) or {}
    match headers.get(":message-type"):
        case "exception":
            return _error(headers.get(":exception-type"), said.get("message"))
        case "error":
            return _error(headers.get(":error-code"), headers.get(":error-message"))
    name = headers.get(":event-type", "")
    packed = said.get("bytes")
    if name == "chunk" and isinstance(packed, str):
        try:
            return name, base64.b64decode(packed, validate=True)
        except ValueError:
            pass
    return name, payload


def _error(kind: str | None, message: object) -> tuple[str, bytes]:
    error = {"type": kind, "message": message, "code": STATUS_OF_EXCEPTION.get(kind or "")}
    return "error", jsontext.dumps({"type": "error", "error": error}).encode()
