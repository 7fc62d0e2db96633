"""Which messages of a WebSocket begin and end a turn."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_addon.api import responses
from gateway_addon.api.base import Refusal, RequestFacts
from gateway_addon.api.turns import NOTHING, Said, creates, error_message, headers_of, may_ask, read_message, steers
from gateway_addon.wire import jsontext
from gateway_addon.wire.headers import Headers


def message(**event: Any) -> bytes:
    return json.dumps(event).encode()


@pytest.mark.parametrize(
    ("sent", "begins", "steering"),
    [
        (b'{"type":"response.create","model":"m"}', True, False),
        (b'{"model":"m", "type" : "response.create"}', True, False),
        (b'{"type":"response.steer"}', False, True),
        (b'{"type":"response.cancel"}', False, False),
        (b'{"input":"\\"type\\":\\"response.create\\""}', False, False),
        (b'{"type":"other","item":{"type":"response.create"}}', False, False),
        pytest.param(b'{"type":"response.create",', True, False, id="what cannot be read is taken for one"),
    ],
)
def test_what_a_client_begins(sent: bytes, begins: bool, steering: bool):
    body = jsontext.parse_object(sent)
    assert (may_ask(sent) and creates(body)) == begins
    assert (may_ask(sent) and steers(body)) == steering


@pytest.mark.parametrize("step", ["completed", "incomplete", "failed", "cancelled", "done"])
def test_a_terminal_event_ends_a_turn(step: str):
    assert read_message(message(type=f"response.{step}", response={})) == Said(ends=True)


@pytest.mark.parametrize(
    ("event", "said"),
    [
        ({"type": "response.output_text.delta", "delta": "so"}, NOTHING),
        ({"type": "response.output_text.delta", "delta": '"type":"response.completed"'}, NOTHING),
        ({"type": "response.output_item.done", "item": {"type": "error"}}, NOTHING),
        ({"type": "response.created", "response": {}}, Said(begins=True)),
        ({"type": "error", "status": 429, "error": {}}, Said(ends=True, fails=True)),
        ({"type": "error", "code": "server_error"}, Said(fails=True)),
        ({"type": "response.output_text.delta", "stream_id": "s"}, Said(stream_id="s")),
        ({"type": "response.completed", "stream_id": 7}, Said(ends=True)),
    ],
)
def test_what_a_server_says(event: dict[str, Any], said: Said):
    assert read_message(message(**event)) == said


@given(st.binary() | st.from_regex(rb'\{"type":"(error|response\.(done|created))"[^\n]{0,20}', fullmatch=True))
def test_nothing_raises(sent: bytes):
    read_message(sent)
    creates(jsontext.parse_object(sent))


UPGRADE = Headers([("user-agent", "codex_exec/1"), ("x-codex-turn-metadata", "{}"), ("a", "1"), ("A", "2")])


def test_headers_of_a_turn_are_the_connections():
    assert dict(headers_of(UPGRADE, {"input": []})) == {
        "user-agent": "codex_exec/1",
        "x-codex-turn-metadata": "{}",
        "a": "1, 2",
    }


def test_what_a_turn_says_of_itself_goes_before_what_the_connection_did():
    metadata = {
        "x-codex-turn-metadata": '{"request_kind":"turn"}',
        "ws_request_header_traceparent": "00-1-2-01",
        "ws_request_header_x_openai_subagent": "review",
        "thread_id": "no header",
        "x-odd": 7,
    }
    told = headers_of(UPGRADE, {"client_metadata": metadata})
    assert told["x-codex-turn-metadata"] == '{"request_kind":"turn"}'
    assert (told["traceparent"], told["x-openai-subagent"]) == ("00-1-2-01", "review")
    assert {"thread_id", "x-odd"}.isdisjoint(told)


@pytest.mark.parametrize("metadata", [None, [], "x", {"": 1}])
def test_odd_metadata_changes_nothing(metadata: object):
    assert dict(headers_of(UPGRADE, {"client_metadata": metadata})) == dict(headers_of(UPGRADE, None))


@pytest.mark.parametrize("stream_id", [None, "s1"])
def test_a_refusal_is_an_error_that_ends_the_turn(stream_id: str | None):
    sent = error_message(Refusal(404, "no such model", "model_not_found"), stream_id)
    assert read_message(sent) == Said(ends=True, fails=True, stream_id=stream_id)
    event = json.loads(sent)
    assert event["error"]["code"] == "model_not_found"
    problem = read(event)
    assert (problem.status, problem.type, problem.message) == (404, "invalid_request_error", "no such model")


def read(event: dict[str, Any]) -> Any:
    reader = responses.reader(RequestFacts())
    reader.event(event)
    return reader.finish().error
