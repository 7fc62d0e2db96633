"""From the bytes of an answer to its facts: stream or body, decoded, whichever way they were cut up."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_addon.answer import MAX_DELTA, MAX_SCANT, AnswerFeed, AnswerReader
from gateway_addon.api import KINDS
from gateway_addon.api.base import Answer, RequestFacts
from gateway_addon.gateway.answers import AnswerChange
from gateway_addon.wire import encodings, jsontext
from gateway_addon.wire.headers import Headers
from gateway_addon.wire.sse import MAX_EVENT
from tests.chat_answers import CHUNK, COUNTS, ERROR, GOOD, SAYS, STOPS, WHOLE, stream
from tests.provider.delivery import aws_event_stream

CHAT = KINDS["chat_completions"]


def read(
    body: bytes,
    content_type: str = "text/event-stream",
    *,
    encoding: str | None = None,
    cuts: tuple[int, ...] = (),
    status: int = 200,
    **more: Any,
) -> tuple[AnswerFeed, Answer]:
    headers = {"content-type": content_type} | ({"content-encoding": encoding} if encoding else {})
    feed = AnswerFeed(CHAT, RequestFacts(), status, Headers(headers), **more)
    for start, end in zip((0, *cuts), (*cuts, len(body)), strict=True):
        feed.feed(body[start:end])
    return feed, feed.finish()


def test_a_stream():
    feed, answer = read(GOOD)
    assert feed.streamed
    assert feed.warning is None
    assert (answer.text, answer.finish_reason, answer.ended, answer.usage_final) == (
        "höher als gedacht",
        "stop",
        True,
        True,
    )
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (12, 3)


AWS = "application/vnd.amazon.eventstream"
PACKED = b"".join(aws_event_stream([stream(SAYS), stream(STOPS), stream(COUNTS)]))


@given(cuts=st.lists(st.integers(0, len(PACKED)), max_size=30).map(sorted).map(tuple))
def test_a_stream_of_aws_reads_as_any_other(cuts: tuple[int, ...]):
    feed, answer = read(PACKED, AWS, cuts=cuts)
    assert feed.streamed
    assert answer == read(GOOD)[1]


def test_a_body_labelled_as_a_stream_of_aws():
    feed, answer = read(json.dumps(WHOLE).encode(), AWS)
    assert (feed.streamed, answer.text) == (False, "höher")


def test_what_is_damaged_in_a_stream_of_aws_is_not_read():
    feed, answer = read(PACKED[:40] + b"?" + PACKED[41:], AWS)
    assert (feed.streamed, answer.recognised) == (True, False)


@given(cuts=st.lists(st.integers(0, len(GOOD)), max_size=30).map(sorted).map(tuple))
def test_any_cut_of_a_stream_reads_the_same(cuts: tuple[int, ...]):
    assert read(GOOD, cuts=cuts)[1] == read(GOOD)[1]


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, br"])
@given(share=st.floats(0, 1))
def test_any_encoding_reads_the_same(encoding: str, share: float):
    body = encodings.encode(GOOD, encoding)
    assert read(body, encoding=encoding, cuts=(int(share * len(body)),))[1] == read(GOOD)[1]


@pytest.mark.parametrize(
    ("body", "content_type", "streamed"),
    [
        pytest.param(json.dumps(WHOLE).encode(), "application/json", False, id="a whole answer"),
        pytest.param(json.dumps(WHOLE).encode(), "text/event-stream", False, id="announced as a stream"),
        pytest.param(b" \n " * 9000 + json.dumps(WHOLE).encode(), "application/json", False, id="padded"),
        pytest.param(b"\xef\xbb\xbf" + json.dumps(WHOLE).encode(), "application/json", False, id="byte order mark"),
        pytest.param(stream(WHOLE | SAYS, STOPS, COUNTS), "application/json", True, id="a stream unannounced"),
        pytest.param(b"\r\n" + stream(SAYS, STOPS, COUNTS), "", True, id="no content type"),
        pytest.param(b": wait\n\n" + stream(SAYS, STOPS, COUNTS), "text/plain", True, id="comment first"),
    ],
)
def test_the_first_bytes_tell_a_stream_from_a_body(body: bytes, content_type: str, streamed: bool):
    feed, answer = read(body, content_type)
    assert feed.streamed is streamed
    assert answer.ended
    assert answer.usage.input_tokens == 12


@pytest.mark.parametrize(
    ("body", "status", "message", "recognised"),
    [
        pytest.param(json.dumps(ERROR).encode(), 200, "no credit", True, id="JSON error in a 200"),
        pytest.param(stream(ERROR), 200, "no credit", True, id="only an error in a stream"),
        pytest.param(json.dumps(ERROR).encode(), 402, "no credit", True, id="JSON error"),
        pytest.param(b'{"detail": "not here"}', 404, "not here", True, id="another shape"),
        pytest.param(b"<html><title>502</title>Bad gateway</html>", 502, "502 Bad gateway", False, id="HTML"),
        pytest.param(b"slow down", 429, "slow down", False, id="plain text"),
        pytest.param(b"<p>Welcome</p>", 200, "Welcome", False, id="HTML with 200"),
        pytest.param(b"", 200, None, False, id="empty"),
        pytest.param(b"   \n", 200, None, False, id="blank"),
        pytest.param(b"[1]", 200, "[1]", False, id="an array"),
    ],
)
def test_errors_and_what_is_no_answer(body: bytes, status: int, message: str | None, recognised: bool):
    _, answer = read(body, "application/json", status=status)
    assert answer.error is not None
    assert answer.error.message == message
    assert answer.recognised is recognised
    assert not answer.text


def test_behind_done_figures_are_read_but_no_error_counts():
    """Gateways tell their price there; its client has stopped reading, with a whole answer."""
    behind = GOOD + stream({"error": {"message": "too late"}}, COUNTS | {"usage": {"prompt_tokens": 99}})
    _, answer = read(behind)
    assert (answer.ended, answer.error, answer.usage.input_tokens) == (True, None, 99)


def test_events_need_no_http_around_them():
    reader = AnswerReader(CHAT, RequestFacts())
    for event in (SAYS, "no object", [STOPS], COUNTS):
        reader.event(event)
    reader.done()
    answer = reader.finish()
    assert (answer.text, answer.ended, answer.usage.output_tokens) == ("höher als gedacht", True, 3)


def test_another_kinds_answer_is_read_as_what_it_says_it_is():
    message = {"type": "message", "role": "assistant", "id": "msg_1", "content": [], "stop_reason": "end_turn"}
    _, answer = read(json.dumps(message).encode(), "application/json")
    assert (answer.response_id, answer.finish_reason, answer.ended) == ("msg_1", "end_turn", True)


@pytest.mark.parametrize("encoding", ["compress", "gzip, rot13"])
def test_an_unknown_encoding_is_not_read(encoding: str):
    feed, answer = read(GOOD, encoding=encoding)
    assert feed.warning == "response_undecodable"
    assert not answer.ended


def test_what_came_before_damage_stays():
    body = encodings.encode(GOOD, "gzip", cut_off=True)
    feed, answer = read(body + b"\xff" * 50, encoding="gzip")
    assert feed.warning == "response_undecodable"
    assert answer.usage.input_tokens == 12


def test_a_body_that_is_too_long_is_given_up():
    feed, answer = read(b'{"x": "' + b"y" * 5000, "application/json", cuts=(100, 2000), max_body=1000)
    assert feed.warning == "response_too_large"
    assert not answer.recognised


@given(st.binary(max_size=300), st.sampled_from(["text/event-stream", "application/json", ""]), st.booleans())
def test_random_bytes_raise_nothing(body: bytes, content_type: str, encoded: bool):
    read(body, content_type, encoding="gzip" if encoded else None, cuts=(len(body) // 2,))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
        max_leaves=9,
    )
)
def test_random_json_raises_nothing(value: object):
    read(json.dumps(value).encode(), "application/json")
    read(stream(value, value))


FREE = AnswerChange(CHAT, public_model="acme/free")
PUBLIC = b"".join(piece.replace(b'"model": "m"', b'"model": "acme/free"') for piece in [GOOD])


def changed(
    body: bytes, content_type: str, change: AnswerChange = FREE, encoding: str = "", cuts: tuple[int, ...] = ()
) -> tuple[list[bytes], Answer]:
    """What the client gets, piece by piece, and what was read."""
    headers = Headers({"content-type": content_type, "content-encoding": encoding})
    feed = AnswerFeed(CHAT, RequestFacts(), 200, headers, change)
    out = []
    for start, end in zip((0, *cuts), (*cuts, len(body)), strict=True):
        out += feed.feed(body[start:end])
    return out + feed.end(), feed.finish()


@pytest.mark.parametrize("content_type", ["text/event-stream", "application/json", "text/plain", ""])
def test_a_changed_stream_leaves_event_by_event_whatever_its_label(content_type: str):
    ends = [end + 2 for end in range(len(GOOD) - 2) if GOOD[end : end + 2] == b"\n\n"]
    pieces, answer = changed(GOOD, content_type, cuts=tuple(ends))
    assert b"".join(pieces) == PUBLIC
    assert len(pieces) == len(ends) + 1
    assert (answer.model, answer.usage.input_tokens) == ("m", 12)


@pytest.mark.parametrize("content_type", ["text/event-stream", "application/json", "text/plain", ""])
def test_a_changed_body_leaves_whole_whatever_its_label(content_type: str):
    body = json.dumps(WHOLE).encode()
    pieces, answer = changed(body, content_type, cuts=(20, 50))
    assert pieces == [body.replace(b'"m"', b'"acme/free"')]
    assert answer.model == "m"


@given(
    cuts=st.lists(st.integers(0, len(GOOD)), max_size=30).map(sorted).map(tuple),
    encoding=st.sampled_from(["", "gzip", "zstd"]),
)
def test_how_a_changed_answer_is_cut_and_coded_does_not_matter(cuts: tuple[int, ...], encoding: str):
    body = encodings.encode(GOOD, encoding)
    pieces, answer = changed(body, "text/event-stream", encoding=encoding, cuts=tuple(min(c, len(body)) for c in cuts))
    assert b"".join(pieces) == PUBLIC
    assert b"" not in pieces
    assert answer == read(GOOD)[1]


@pytest.mark.parametrize("method", ["event", "goes_on"])
def test_a_changed_answer_goes_on_being_changed_where_reading_it_fails(method: str, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(f"gateway_addon.api.chat_completions._Reader.{method}", fail)
    headers = Headers({"content-type": "text/event-stream"})
    feed = AnswerFeed(CHAT, RequestFacts(), 200, headers, FREE)
    assert b"".join([*feed.feed(GOOD), *feed.end()]) == PUBLIC
    assert isinstance(feed.failure, RuntimeError)
    assert feed.warning == "reader_failed"


@pytest.mark.parametrize("content_type", ["application/json", "text/event-stream"])
def test_what_has_too_many_values_is_not_parsed(content_type: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jsontext, "MAX_VALUES", 1000)
    monkeypatch.setattr(jsontext, "parse_any", lambda data: pytest.fail("it was parsed"))
    dense = b'{"x":[' + b"[]," * 1000 + b"[]]}"
    body = b"data: " + dense + b"\n\n" if content_type == "text/event-stream" else dense
    feed, answer = read(body, content_type)
    assert feed.warning == "response_too_large"
    assert not answer.recognised


@pytest.mark.parametrize("size", [1, MAX_DELTA, 2 * MAX_DELTA])
def test_a_delta_may_have_any_size(size: int, monkeypatch: pytest.MonkeyPatch):
    """But a long one, which may be anything, is not read twice."""
    tried, goes_on = [], AnswerReader.goes_on

    def noted(reader: AnswerReader, data: bytes, name: str) -> bool:
        tried.append(len(data))
        return goes_on(reader, data, name)

    monkeypatch.setattr(AnswerReader, "goes_on", noted)
    feed, answer = read(stream(SAYS, CHUNK | {"choices": [{"index": 0, "delta": {"content": "," * size}}]}))
    assert (feed.warning, answer.text) == (None, "höher als gedacht" + "," * size)
    assert max(tried) <= MAX_DELTA


@pytest.mark.parametrize("cuts", [(), (1, 7, 500, 501)], ids=["in one piece", "in pieces"])
@pytest.mark.parametrize("marks", [999, 1000])
def test_the_values_of_a_body_are_counted_as_it_comes(
    marks: int, cuts: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(jsontext, "MAX_VALUES", 1000)
    feed = AnswerFeed(CHAT, RequestFacts(), 200, Headers({"content-type": "application/json"}))
    body = b'{"x":[0' + b",0" * (marks - 2) + b"]}"
    for start, end in zip((0, *cuts), (*cuts, len(body)), strict=True):
        feed.feed(body[start:end])
    # at its end there is enough to do
    monkeypatch.setattr(jsontext, "count_marks", lambda data: pytest.fail("it was counted again"))
    feed.end()
    assert feed.warning == ("response_too_large" if marks == 1000 else None)


SCANT = [b"data: {}\n\n", b"data: 1\n\n", b"data: [DONE]\n\n", b'data: {"a":1}\r\n\r\n', b"event: a\n\n", b"data:\n\n"]


@pytest.mark.parametrize("event", [*SCANT, b"data: " + b"x" * 50 + b"\n\n"])
def test_of_a_stream_that_says_nothing_little_is_read(event: bytes, monkeypatch: pytest.MonkeyPatch):
    parse, parsed = jsontext.parse_any, []

    def count(data: bytes) -> object:
        parsed.append(data)
        return parse(data)

    monkeypatch.setattr(jsontext, "parse_any", count)
    feed, answer = read(event * 10 * MAX_SCANT, cuts=(100_000,))
    assert feed.warning == "response_too_large"
    assert len(parsed) <= MAX_SCANT + 1
    assert not answer.text


@pytest.mark.parametrize("idle", [b"\n", b"\r\n", b": wait\n\n", b"id: 7\n\n", b"retry: 1\r\n\r\n"])
def test_any_number_of_comments_and_blank_lines_is_no_trouble(idle: bytes):
    feed, answer = read(GOOD[:-14] + idle * 10 * MAX_SCANT + GOOD, cuts=(*range(len(GOOD), 20_000, 50),))
    assert feed.warning is None
    assert answer.ended


@pytest.mark.parametrize("idle", [b"\n", b"\r", b": wait\n\n"])
def test_a_megabyte_of_nothing_at_once_is_too_much(idle: bytes):
    feed, answer = read(b"data: {}\n\n" + idle * 2_000_000 + GOOD)
    assert feed.warning == "response_too_large"
    assert not answer.ended


def test_a_list_of_one_object_is_an_event_like_any_other():
    feed, answer = read(stream(*[[SAYS]] * 2 * MAX_SCANT, [STOPS]))
    assert feed.warning is None
    assert answer.ended


def test_what_was_read_before_a_stream_said_nothing_more_stays():
    feed, answer = read(GOOD + b"data: {}\n\n" * 2 * MAX_SCANT + stream(COUNTS | {"usage": {"prompt_tokens": 99}}))
    assert feed.warning == "response_too_large"
    assert (answer.text, answer.usage.input_tokens) == ("höher als gedacht", 12)


def test_the_objects_of_a_list_count_as_events():
    feed, answer = read(b"data: [" + b'{"x": "a thing that nobody knows"},' * 2 * MAX_SCANT + b"{}]\n\n")
    assert feed.warning == "response_too_large"
    assert not answer.recognised


@pytest.mark.parametrize("size", [1000, 10_000_000])
@pytest.mark.parametrize("event", SCANT)
def test_a_changed_stream_that_says_nothing_is_withheld_or_passed_on(event: bytes, size: int):
    body = GOOD + event * 5 * MAX_SCANT + GOOD + b"data: {}"
    cuts = tuple(range(size, len(body), size))
    pieces, _ = changed(body, "text/event-stream", cuts=cuts)
    client = b"".join(pieces)
    assert client.startswith(PUBLIC)
    assert client.endswith(FREE.error_event())
    assert b'"m"' not in client

    pieces, _ = changed(body, "text/event-stream", AnswerChange(CHAT, hide_usage=True), cuts=cuts)
    hidden, _ = changed(GOOD, "text/event-stream", AnswerChange(CHAT, hide_usage=True))
    assert b"".join(pieces) == b"".join(hidden) + event * 5 * MAX_SCANT + GOOD + b"data: {}"


def test_an_event_too_large_to_be_read_is_told_of():
    """What comes behind it is read."""
    large = stream(SAYS | {"x": "y" * 2 * MAX_EVENT})
    feed, answer = read(large + GOOD, cuts=(*range(1000, len(large), 60_000),))
    assert feed.warning == "response_too_large"
    assert answer.usage_final
    assert answer.text == "höher als gedacht"
