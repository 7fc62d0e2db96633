"""From the bytes of an answer to its facts: stream or body, decoded, whichever way they were cut up."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_addon.answer import AnswerFeed
from gateway_addon.api import KINDS
from gateway_addon.api.base import Answer, RequestFacts
from gateway_addon.wire import encodings

CHAT = KINDS["chat_completions"]
CHUNK: dict[str, Any] = {"id": "c1", "object": "chat.completion.chunk", "model": "m"}
SAYS = CHUNK | {"choices": [{"index": 0, "delta": {"content": "höher als gedacht"}}]}
STOPS = CHUNK | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
COUNTS = CHUNK | {"choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": 3}}
WHOLE = {
    "id": "c1",
    "object": "chat.completion",
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "höher"}}],
    "usage": {"prompt_tokens": 12, "completion_tokens": 3},
}
ERROR = {"error": {"message": "no credit", "code": 402}}


def stream(*events: object) -> bytes:
    return b"".join(b"data: %s\n\n" % json.dumps(event, ensure_ascii=False).encode() for event in events)


GOOD = b": keep-alive\n\n" + stream(SAYS, STOPS, COUNTS) + b"data: [DONE]\n\n"


def read(
    body: bytes,
    content_type: str = "text/event-stream",
    *,
    encoding: str | None = None,
    cuts: tuple[int, ...] = (),
    status: int = 200,
) -> tuple[AnswerFeed, Answer]:
    feed = AnswerFeed(CHAT, RequestFacts(), content_type, encoding)
    for start, end in zip((0, *cuts), (*cuts, len(body)), strict=True):
        feed.feed(body[start:end])
    return feed, feed.finish(status)


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


@given(cuts=st.lists(st.integers(0, len(GOOD)), max_size=30).map(sorted).map(tuple))
def test_any_cut_of_a_stream_reads_the_same(cuts: tuple[int, ...]):
    assert read(GOOD, cuts=cuts)[1] == read(GOOD)[1]


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, br"])
@given(share=st.floats(0, 1))
def test_any_encoding_reads_the_same(encoding: str, share: float):
    """Trap 12."""
    body = encodings.encode(GOOD, encoding)
    assert read(body, encoding=encoding, cuts=(int(share * len(body)),))[1] == read(GOOD)[1]


@pytest.mark.parametrize(
    ("body", "content_type", "streamed"),
    [
        pytest.param(json.dumps(WHOLE).encode(), "application/json", False, id="a whole answer"),
        pytest.param(json.dumps(WHOLE).encode(), "text/event-stream", False, id="trap-19 announced as a stream"),
        pytest.param(b" \n " * 9000 + json.dumps(WHOLE).encode(), "application/json", False, id="trap-21 padded"),
        pytest.param(b"\xef\xbb\xbf" + json.dumps(WHOLE).encode(), "application/json", False, id="byte order mark"),
        pytest.param(stream(WHOLE | SAYS, STOPS, COUNTS), "application/json", True, id="trap-20 a stream unannounced"),
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
        pytest.param(json.dumps(ERROR).encode(), 200, "no credit", True, id="trap-36 JSON error in a 200"),
        pytest.param(stream(ERROR), 200, "no credit", True, id="trap-29 only an error in a stream"),
        pytest.param(json.dumps(ERROR).encode(), 402, "no credit", True, id="JSON error"),
        pytest.param(b'{"detail": "not here"}', 404, "not here", True, id="trap-35 another shape"),
        pytest.param(b"<html><title>502</title>Bad gateway</html>", 502, "502 Bad gateway", False, id="trap-22 HTML"),
        pytest.param(b"slow down", 429, "slow down", False, id="trap-22 plain text"),
        pytest.param(b"<p>Welcome</p>", 200, "Welcome", False, id="HTML with 200"),
        pytest.param(b"", 200, None, False, id="trap-22 empty"),
        pytest.param(b"   \n", 200, None, False, id="trap-21 blank"),
        pytest.param(b"[1]", 200, "[1]", False, id="an array"),
    ],
)
def test_errors_and_what_is_no_answer(body: bytes, status: int, message: str | None, recognised: bool):
    _, answer = read(body, "application/json", status=status)
    assert answer.error is not None
    assert answer.error.message == message
    assert answer.recognised is recognised
    assert not answer.text


def test_nothing_counts_behind_done():
    """Trap 27."""
    assert read(GOOD + stream(ERROR))[1] == read(GOOD)[1]


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
    """Trap 13."""
    body = encodings.encode(GOOD, "gzip", cut_off=True)
    feed, answer = read(body + b"\xff" * 50, encoding="gzip")
    assert feed.warning == "response_undecodable"
    assert answer.usage.input_tokens == 12


def test_a_body_that_is_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gateway_addon.answer.MAX_BODY", 1000)
    feed, answer = read(b'{"x": "' + b"y" * 5000, "application/json", cuts=(100, 2000))
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
