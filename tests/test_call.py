"""A request as it is read: what it says, and where reading ends before it costs too much."""

import gzip

import pytest

from gateway_addon import api, call
from gateway_addon.api import KINDS
from gateway_addon.call import Request, read_request
from gateway_addon.wire import encodings, jsontext
from gateway_addon.wire.elements import Memory
from gateway_addon.wire.headers import Headers
from tests.sessions import session

MANY = 20_000


@pytest.fixture(params=["remembering", "without a memory"])
def memory(request: pytest.FixtureRequest) -> Memory | None:
    return Memory(api.members) if request.param == "remembering" else None


@pytest.fixture
def bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsontext, "MAX_VALUES", MANY)


def read(body: bytes, memory: Memory | None, encoding: str = "") -> Request:
    return read_request("POST", "/v1/messages", Headers({"content-encoding": encoding}), body, memory)


DENSE = {
    "numbers": b'{"messages":[%s1]}' % (b"1," * MANY),
    "arrays": b'{"messages":[[%s[]]]}' % (b"[]," * MANY),
    "members": b'{"x":{%s"b":1}}' % (b'"a":1,' * MANY),
    "elements": b'{"messages":[%s{}]}' % (b"{}," * 9_000 + b'{"a":[1,2]},' * 900),
}


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("name", DENSE)
def test_a_body_of_too_many_values_is_not_parsed(name: str, memory: Memory | None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jsontext, "parse_object", lambda data: pytest.fail("it was parsed"))
    monkeypatch.setattr(jsontext, "MAX_VALUES", MANY if name != "elements" else 10_000)
    request = read(DENSE[name], memory)
    assert (request.body, request.json, request.warnings) == (None, None, ("request_too_large",))
    assert request.size == len(DENSE[name])


@pytest.mark.usefixtures("bounded")
def test_what_is_known_does_not_count(memory: Memory | None):
    """A long conversation is read as long as what is new in it is little."""
    if memory is None:
        pytest.skip("nothing is known")
    start = b'{"messages":["' + b"," * (MANY - 1000) + b'"'
    assert read(start + b"]}", memory).json
    longer = start + b',"' + b"," * (MANY - 1000) + b'"'
    assert read(longer + b"]}", memory).json
    assert read(longer + b"]}", None).warnings == ("request_too_large",)


def test_a_body_that_is_too_long(memory: Memory | None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(call, "MAX_REQUEST", 1000)
    request = read(gzip.compress(b'{"x":"%s"}' % (b"y" * 1000)), memory, "gzip")
    assert (request.body, request.warnings) == (None, ("request_too_large",))


def test_a_few_bytes_never_become_many(memory: Memory | None):
    """31 kB of gzip that would be 31 MB."""
    request = read(gzip.compress(bytes(31_000_000)), memory, "gzip")
    assert request.warnings == ("request_undecodable",)
    assert encodings.FREE_BYTES + encodings.MAX_RATIO * 31_000 < 11_000_000


@pytest.mark.parametrize("body", [b"no JSON", b"[1]", b"\xff", b'{"a":1}x', b""])
def test_what_is_no_object_is_kept_as_it_is(body: bytes, memory: Memory | None):
    request = read(body, memory)
    assert (request.body, request.json, request.warnings) == (body, None, ("request_unreadable",))


@pytest.mark.parametrize("kind", KINDS)
def test_a_session_reads_the_same_with_and_without_a_memory(kind: str):
    memory = Memory(api.members)
    for turn in session(kind, 30, scale=0.2):
        known, alone = read(turn.request, memory), read(turn.request, None)
        assert known.json == alone.json
        assert known.elements is not None
        assert known.json is not None
        assert KINDS[kind].read_request(known.json, known.elements.of) == KINDS[kind].read_request(known.json)
