"""wire/aws_events.py: what the format says, whatever pieces it comes in, and what happens where it is not kept."""

import base64
import json
import struct
from binascii import crc32
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_addon.api import messages
from gateway_addon.api.base import Problem, RequestFacts
from gateway_addon.wire.aws_events import EventParser
from gateway_addon.wire.sse import Event


def header(name: str, value: bytes | str, kind: int = 7) -> bytes:
    """A string's header, or one of another kind whose value is given as on the wire."""
    if isinstance(value, str):
        value = struct.pack(">H", len(value.encode())) + value.encode()
    return bytes([len(name.encode())]) + name.encode() + bytes([kind]) + value


def message(payload: bytes, *headers: bytes) -> bytes:
    block = b"".join(headers)
    prelude = struct.pack(">II", 16 + len(block) + len(payload), len(block))
    whole = prelude + struct.pack(">I", crc32(prelude)) + block + payload
    return whole + struct.pack(">I", crc32(whole))


def event(payload: bytes, name: str = "chunk") -> bytes:
    return message(payload, header(":event-type", name), header(":message-type", "event"))


def chunk(data: bytes) -> bytes:
    return event(json.dumps({"bytes": base64.b64encode(data).decode(), "p": "abcd"}).encode())


def exception(kind: str, payload: bytes) -> bytes:
    return message(payload, header(":exception-type", kind), header(":message-type", "exception"))


def parsed(*pieces: bytes, max_event: int = 10_000) -> list[Event]:
    parser = EventParser(max_event)
    events = [each for piece in pieces for each in parser.feed(piece)]
    return events + parser.finish()


def read(*pieces: bytes, **limits: int) -> list[tuple[str, bytes]]:
    """Names and data of the events, without the bytes that hold none."""
    return [(each.name, each.data) for each in parsed(*pieces, **limits) if (each.name, each.data) != ("", b"")]


STOP = b'{"type":"message_stop"}'
EVERY_HEADER = [
    header("yes", b"", 0),
    header("no", b"", 1),
    header("byte", b"\x01", 2),
    header("short", bytes(2), 3),
    header("integer", bytes(4), 4),
    header("long", bytes(8), 5),
    header("bytes", b"\x00\x03abc", 6),
    header("time", bytes(8), 8),
    header("uuid", bytes(16), 9),
    header(":event-type", "chunk"),
]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        pytest.param(b"", [], id="nothing"),
        pytest.param(chunk(STOP), [("chunk", STOP)], id="a chunk"),
        pytest.param(chunk(b"1") + chunk(b"2"), [("chunk", b"1"), ("chunk", b"2")], id="two chunks"),
        pytest.param(message(b'{"bytes":"MQ=="}', *EVERY_HEADER), [("chunk", b"1")], id="headers of every type"),
        pytest.param(message(STOP), [("", STOP)], id="no headers"),
        pytest.param(event(b"", "done"), [("done", b"")], id="no payload"),
        pytest.param(event(STOP, "other"), [("other", STOP)], id="another event's payload stands for itself"),
        pytest.param(event(STOP), [("chunk", STOP)], id="a chunk that packs nothing"),
        pytest.param(event(b'{"bytes":"?"}'), [("chunk", b'{"bytes":"?"}')], id="no base64"),
        pytest.param(event('{"bytes":"é"}'.encode()), [("chunk", '{"bytes":"é"}'.encode())], id="not even ASCII"),
        pytest.param(event(b'{"bytes":5}'), [("chunk", b'{"bytes":5}')], id="bytes that are no string"),
        pytest.param(message(b"x", header(":event-type", "a") + b"\xff"), [("a", b"x")], id="headers that end early"),
        pytest.param(message(b"x", header("a", b"", 77)), [("", b"x")], id="a header of no known type"),
        pytest.param(message(b"x", header(":event-type", b"\0\x09done")), [("", b"x")], id="a header without its end"),
        pytest.param(message(b"x", header(":event-type", b"\0")), [("", b"x")], id="a header without its length"),
        pytest.param(chunk(b"1") + chunk(b"2")[:-1], [("chunk", b"1")], id="cut off"),
        pytest.param(chunk(b"1") + b"\0" * 12 + chunk(b"2"), [("chunk", b"1")], id="no message between messages"),
    ],
)
def test_events(stream: bytes, events: list[tuple[str, bytes]]):
    assert read(stream) == events


@pytest.mark.parametrize(
    ("stream", "problem"),
    [
        pytest.param(
            exception("throttlingException", b'{"message":"Slow down."}'),
            Problem("Slow down.", "throttlingException", 429),
            id="an exception",
        ),
        pytest.param(
            exception("dreamException", b'{"message":"Woken."}'), Problem("Woken.", "dreamException"), id="unknown"
        ),
        pytest.param(exception("validationException", b"?"), Problem(None, "validationException", 400), id="no words"),
        pytest.param(message(b"", header(":message-type", "exception")), Problem(), id="not even a type"),
        pytest.param(
            message(
                b"",
                header(":message-type", "error"),
                header(":error-code", "InternalError"),
                header(":error-message", "Gone."),
            ),
            Problem("Gone.", "InternalError"),
            id="an error that the service's model does not have",
        ),
    ],
)
def test_exceptions_read_as_errors(stream: bytes, problem: Problem):
    [(name, data)] = read(stream)
    reader = messages.reader(RequestFacts())
    reader.event(json.loads(data), name)
    assert reader.finish().error == problem


def test_a_chunk_is_read_like_the_event_it_packs():
    reader = messages.reader(RequestFacts())
    for name, data in read(chunk(b'{"type":"content_block_start","content_block":{"type":"text","text":"Hi."}}')):
        reader.event(json.loads(data), name)
    assert reader.finish().text == "Hi."


@pytest.mark.parametrize("place", range(len(chunk(b"22"))))
def test_a_wrong_byte_anywhere_ends_the_reading(place: int):
    """Also a length that promises more than ever comes: its own checksum tells at once."""
    broken = bytearray(chunk(b"22"))
    broken[place] ^= 1
    stream = chunk(b"1") + broken + chunk(b"3")
    assert read(stream) == [("chunk", b"1")]
    assert b"".join(each.raw for each in parsed(stream)) == stream
    parser = EventParser()
    assert b"".join(each.raw for each in parser.feed(stream)) == stream, "nothing is held back"


@pytest.mark.parametrize(("size", "headers"), [(15, 0), (0, 0), (20, 5), (16, 2**32 - 1)])
def test_lengths_that_cannot_be(size: int, headers: int):
    prelude = struct.pack(">II", size, headers)
    stream = prelude + struct.pack(">I", crc32(prelude)) + bytes(8)
    assert parsed(stream) == [Event("", b"", stream)]


def test_a_message_over_the_limit_is_passed_on_unread_and_at_once():
    big = chunk(b"x" * 500)
    parser = EventParser(max_event=len(big) - 1)
    assert parser.feed(chunk(b"1") + big[:100])[1:] == [Event("", b"", big[:100])]
    assert parser.feed(big[100:] + chunk(b"2")) == [Event("", b"", big[100:]), Event("chunk", b"2", chunk(b"2"))]
    assert read(chunk(b"1"), big, chunk(b"2"), max_event=len(big))[1] == ("chunk", b"x" * 500)


MESSAGES = st.one_of(
    st.builds(chunk, st.binary(max_size=20)),
    st.builds(event, st.binary(max_size=20), st.text(max_size=5)),
    st.builds(exception, st.text(max_size=5), st.sampled_from([b"", b'{"message":"No."}', b'{"message":[]}'])),
    st.builds(lambda block, payload: message(payload, block), st.binary(max_size=20), st.binary(max_size=20)),
)
STREAMS = st.lists(MESSAGES | st.binary(max_size=30), max_size=4).map(b"".join)


@st.composite
def pieces(draw: st.DrawFn) -> list[bytes]:
    stream = draw(STREAMS)
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    return [stream[start:end] for start, end in pairwise([0, *cuts, len(stream)])]


@given(pieces(), st.sampled_from([20, 60, 10_000]))
def test_any_pieces_give_the_same_events_and_every_byte(pieces: list[bytes], max_event: int):
    stream = b"".join(pieces)
    assert read(*pieces, max_event=max_event) == read(stream, max_event=max_event)
    assert b"".join(each.raw for each in parsed(*pieces, max_event=max_event)) == stream


@given(st.lists(st.binary(max_size=20), max_size=4))
def test_what_is_packed_comes_out(packed: list[Any]):
    assert read(b"".join(map(chunk, packed))) == [("chunk", data) for data in packed]


def test_time_is_linear():
    """A stream of small messages that comes at once, and a big message that comes byte by byte."""
    assert len(parsed(chunk(b"1") * 20_000)) == 20_000
    assert len(parsed(*(bytes([byte]) for byte in chunk(b"x" * 200_000)), max_event=10**6)) == 1
