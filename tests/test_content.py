"""What reaches the disk under each value of `gateway_content`."""

from copy import deepcopy
from dataclasses import replace
from decimal import Decimal

import pytest

from gateway_addon.api.base import ToolCall, ToolResult
from gateway_addon.content import Content, arguments_valid, limited
from gateway_addon.record import Record, as_row
from gateway_addon.terms import Outcome
from gateway_addon.wire import jsontext
from tests.store.calls import make_record

RECORD = Record(
    id="call-1",
    run_id="run-1",
    started_at=1_795_341_600.0,
    source="live",
    api_kind="messages",
    outcome="stream_error",
    error_type="overloaded_error",
    error_message="too much at once",
    finish_detail="max_output_tokens",
    output_tokens=5,
    usage={"output_tokens": 5, "cost": Decimal("0.10")},
    cost_flags=("byok_unknown",),
    rewrites=(
        {"op": "replace", "path": "/url", "value": "https://api.example/v1"},
        {"op": "remove", "path": "/body/models"},
    ),
    warnings=("response_truncated",),
)

CONTENT = Content(
    system_prompt="be brief",
    user_prompt="what is new?",
    answer_text="not much",
    reasoning_text="let me see",
    tools=["bash", "edit"],
    tool_calls=[ToolCall("1", "bash", "tool_use", "client", '{"cmd": "ls"}')],
    tool_results=[ToolResult("0", "bash", "a file", True)],
    body=b'{"messages":["what is new?"]}',
)

BARE_CALLS = [ToolCall("1", "bash", "tool_use", "client", None, arguments_valid=True)]
BARE_RESULTS = [ToolResult("0", "bash", None, True)]


def changed(record: Record) -> dict[str, object]:
    return {name: value for name, value in as_row(record).items() if value != as_row(RECORD)[name]}


def test_full_keeps_everything():
    assert limited(RECORD, CONTENT, "full") == (RECORD, CONTENT)


def test_prompts_keeps_prompts_and_errors():
    record, content = limited(RECORD, CONTENT, "prompts")
    assert changed(record) == {}
    assert content == Content(
        system_prompt="be brief",
        user_prompt="what is new?",
        tools=["bash", "edit"],
        tool_calls=BARE_CALLS,
        tool_results=BARE_RESULTS,
    )


@pytest.mark.parametrize("mode", ["none", "a word nobody knows"])
def test_none_keeps_numbers_and_names(mode: str):
    record, content = limited(RECORD, CONTENT, mode)
    without_values = [{"op": "replace", "path": "/url"}, {"op": "remove", "path": "/body/models"}]
    assert changed(record) == {"error_message": None, "rewrites": jsontext.dumps(without_values)}
    assert content == Content(tools=["bash", "edit"], tool_calls=BARE_CALLS, tool_results=BARE_RESULTS)


@pytest.mark.parametrize("mode", ["full", "prompts", "none"])
def test_what_was_given_is_not_changed(mode: str):
    record, content = deepcopy(RECORD), deepcopy(CONTENT)
    limited(record, content, mode)
    assert (record, content) == (RECORD, CONTENT)


@pytest.mark.parametrize(
    ("mode", "outcome", "is_kept"),
    [
        ("full", "unreadable", True),
        ("prompts", "unreadable", False),
        ("none", "unreadable", False),
        ("prompts", "http_error", True),
        ("prompts", "upstream_cut", True),
        ("none", "http_error", False),
    ],
)
def test_the_text_of_an_unreadable_answer_may_be_a_models(mode: str, outcome: Outcome, is_kept: bool):
    given = replace(RECORD, outcome=outcome, error_message="Dear Ann, ...")
    record, _ = limited(given, Content(), mode)
    assert (record.outcome, record.error_message) == (outcome, "Dear Ann, ..." if is_kept else None)


def test_limiting_twice_is_limiting_once():
    once = limited(RECORD, CONTENT, "none")
    assert limited(*once, "none") == once


@pytest.mark.parametrize(
    ("arguments", "valid"),
    [
        pytest.param("{}", True, id="none"),
        pytest.param('{"path": "a.t', False, id="cut off"),
        pytest.param("", False, id="nothing"),
        pytest.param("[" * 100_000, False, id="too deep"),
        pytest.param('"text"', True, id="any JSON will do"),
        pytest.param(None, None, id="unknown"),
    ],
)
def test_arguments_are_json_or_not(arguments: str | None, valid: bool | None):
    assert arguments_valid(ToolCall("1", "read", "function", "client", arguments)) is valid


@pytest.mark.parametrize("kind_of_call", ["custom", "custom_tool_call", "code_interpreter_call"])
def test_free_text_is_neither(kind_of_call: str):
    assert arguments_valid(ToolCall("1", "patch", kind_of_call, "client", "*** Begin")) is None


def test_rewrites_keep_no_words_of_a_conversation():
    operations = [
        {"op": "replace", "path": "/url", "value": "https://a.example"},
        {"op": "replace", "path": "/body/messages/0/content", "value": "a secret word"},
        {"op": "remove", "path": "/body/models"},
    ]
    record = replace(RECORD, rewrites=tuple(operations))
    kept = {mode: list(limited(record, Content(), mode)[0].rewrites) for mode in ("full", "prompts", "none")}
    assert kept["full"] == operations
    assert kept["prompts"] == [operations[0], {"op": "replace", "path": "/body/messages/0/content"}, operations[2]]
    assert [operation.get("value") for operation in kept["none"]] == [None, None, None]


def test_none_keeps_no_words_of_an_upstream():
    record = make_record(
        error_type="the user asked for SECRETS",
        usage={"prompt_tokens": 5, "note": "SECRETS", "the SECRETS": 1, "details": [{"SECRETS here": 1}, "SECRETS", 2]},
        finish_reason="because of SECRETS",
        service_tier="SECRETS, of course",
        response_id="msg_01",
    )
    bare, _ = limited(record, Content(), "none")
    assert "SECRETS" not in repr(bare)
    assert bare.usage == {"prompt_tokens": 5, "details": [2]}
    assert bare.response_id == "msg_01"


@pytest.mark.parametrize("error_type", ["overloaded_error", "insufficient_quota", "server_error", "timeout", "dns"])
def test_none_keeps_the_usual_types_of_errors(error_type: str):
    bare, _ = limited(make_record(error_type=error_type), Content(), "none")
    assert bare.error_type == error_type
