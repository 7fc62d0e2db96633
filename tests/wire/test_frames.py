"""Messages of a WebSocket as the events of a stream, and back."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_addon.wire import sse
from gateway_addon.wire.frames import as_event, as_messages


@pytest.mark.parametrize("message", [b'{"type":"error"}', b"no JSON", '{"delta":"—\u2028"}'.encode()])
def test_a_message_is_the_data_of_one_event(message: bytes):
    (event,) = sse.EventParser().feed(as_event(message))
    assert event.data == message
    assert as_messages([as_event(message)]) == [message]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_line_ends_between_tokens_are_spaces(line_end: str):
    message = json.dumps({"type": "error", "message": "two\nlines"}, indent=2).replace("\n", line_end)
    (event,) = sse.EventParser().feed(as_event(message.encode()))
    assert json.loads(event.data) == json.loads(message)


def test_an_event_without_data_is_no_message():
    assert as_messages([b": alive\n\n", b"data: {}\n\ndata: []"]) == [b"{}", b"[]"]


@given(st.binary(max_size=40))
def test_any_message_is_one_event_at_most(message: bytes):
    assert len(sse.EventParser().feed(as_event(message))) == 1
