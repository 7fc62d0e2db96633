"""One message of a call as a person reads it at a glance. How whole calls read: `proxy/test_views.py`."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_addon import glance
from gateway_addon.api import KINDS
from gateway_addon.api.base import ApiKind
from tests.store.calls import make_record

MESSAGES = KINDS["messages"]
MEMBER = {"chat_completions": "messages", "responses": "input", "messages": "messages"}


def body(messages: list[Any], **more: Any) -> bytes:
    return json.dumps({"model": "m"} | more | {"messages": messages}).encode()


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def test_a_request_has_parameters_tools_and_a_folded_system_prompt():
    tools = [{"name": name, "input_schema": {"type": "object"}} for name in ("read", "edit")]
    system = "\n".join(f"Rule {n}." for n in range(100))
    text = glance.request(MESSAGES, body([user("Why?")], max_tokens=5, system=system, tools=tools))
    assert text == (
        "model m · max_tokens 5\n2 tools: read, edit\n\n"
        "── system prompt\nRule 0.\nRule 1.\nRule 2.\n… 866 more characters\n\n── user\nWhy?"
    )


def test_of_a_long_conversation_the_end_is_shown_and_how_much_is_not():
    text = glance.request(MESSAGES, body([user(f"number {n}") for n in range(1000)], system="Be brief."))
    assert "── system prompt\nBe brief.\n\n… 800 earlier messages\n" in text
    assert "number 799" not in text
    assert text.endswith("number 999")


def test_long_lines_are_wrapped_below_where_they_begin():
    """mitmweb wraps none. A word stays whole, as a path or a key has to."""
    result = {"type": "tool_result", "tool_use_id": "1", "content": "word " * 50 + "x" * 150}
    lines = glance.request(MESSAGES, body([user("so " * 60), {"role": "user", "content": [result]}])).splitlines()
    assert all(len(line) <= glance.WIDTH for line in lines if "x" * 150 not in line)
    assert sum(line.startswith("so so") for line in lines) == 2
    assert sum(line.startswith("  │ word") for line in lines) == 3
    assert lines[-1] == "  │ " + "x" * 150


def test_what_is_seen_by_nobody_is_spelled_out():
    """Such as a bidirectional override, by which a path reads as another."""
    text = glance.request(MESSAGES, body([user("rm \u202efdp.x\u202c \u2066a\u2069 \u200b \U000e0041 \x1b[2J \ud800")]))
    assert "rm \\u202efdp.x\\u202c \\u2066a\\u2069 \\u200b \\U000e0041 \\x1b[2J �" in text


def test_the_row_tells_how_a_call_ended_what_it_cost_and_why_not():
    record = make_record(
        outcome="stream_error",
        http_status=200,
        error_status=529,
        error_type="overloaded_error",
        error_message="Come back.",
        request_model="public",
        upstream_model="real",
        input_tokens=1200,
        cache_read_tokens=1000,
        output_tokens=3,
        usage_is_lower_bound=True,
        cost_flags=("cut",),
        duration_ms=1500.0,
    )
    assert glance.response(MESSAGES, b"", 200, "text/event-stream", record).splitlines()[:5] == [
        "stream_error · 200 · public → real",
        "529 overloaded_error: Come back.",
        "input ≥1,200 · cache read ≥1,000 · output ≥3",
        "cost $? (cut)",
        "1.50 s",
    ]


def test_the_end_of_a_stream_that_is_not_read_is_counted():
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "so "}}
    stream = b"data: " + json.dumps(delta).encode() + b"\n\n"
    text = glance.response(MESSAGES, stream * 100_000, 200, "text/event-stream", None)
    assert "── assistant\nso so so" in text
    assert text.splitlines()[-1].endswith(" more bytes of the stream")


BIG = 2_000_000
HOSTILE = {
    "one text": [user("hello world, " * (BIG // 13))],
    "blank lines": [user("\n" * (BIG // 2))],
    "no letters": [user("\u202e" * (BIG // 6))],
    "messages": [user("hello")] * (BIG // 40),
    "empty messages": [{}] * (BIG // 4),
    "blocks": [{"role": "user", "content": [{"type": "text", "text": "x"}] * (BIG // 34)}],
    "unknown blocks": [{"role": "user", "content": [{"type": "zzz", "a": ["x"] * 100_000}]}],
    "arguments": [
        {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "x", "input": ["b"] * 99_999}]}
    ],
    "results": [
        {"role": "user", "content": [{"type": "tool_result", "content": [{"type": "text", "text": "x"}] * 30_000}]}
    ],
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_two_megabytes_hold_the_text_is_short(kind: str, name: str, monkeypatch: pytest.MonkeyPatch):
    """And so is the work: as many values are looked at as of a message of a few kilobytes."""
    seen = 0
    history = KINDS[kind].history

    def counted(told: Any) -> Any:
        nonlocal seen
        seen += json.dumps(told).count(",")
        return history(told)

    monkeypatch.setattr(KINDS[kind], "history", counted)
    text = glance.request(KINDS[kind], json.dumps({"model": "m", MEMBER[kind]: HOSTILE[name]}).encode())
    assert len(text) <= glance.MAX_CHARACTERS
    assert text.count("\n") <= glance.MAX_LINES
    assert seen <= 2 * glance.MAX_NODES or name == "one text"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("type", "role", "content", "text", "input", "messages", "tools", "name", "id", "usage", "output"),
                    *("choices", "delta", "message", "system", "error", "arguments", "response", "item", "index"),
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(kind=st.sampled_from([*KINDS.values()]), value=JSON, noise=st.binary(max_size=20))
def test_nothing_raises(kind: ApiKind, value: Any, noise: bytes):
    data = json.dumps(value).encode()
    for some in (data, b"data: " + data + b"\n\n", noise, data + noise):
        glance.request(kind, some)
        glance.response(kind, some, 200, "text/event-stream", None)
        glance.response(kind, some, 500, "application/json", make_record())
        glance.message(kind, some, from_client=True)
        glance.message(kind, some, from_client=False)


@pytest.mark.parametrize("depth", [100, 5_000, 200_000])
def test_depth_is_no_trouble(depth: int):
    for data in (b"[" * depth, b'{"messages":' + b"[" * depth + b"]" * depth + b"}"):
        glance.request(MESSAGES, data)
        glance.response(MESSAGES, data, 200, "application/json", None)
