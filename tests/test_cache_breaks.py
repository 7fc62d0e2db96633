"""Where a request first differs from the turn before it, and what that is called."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_addon.cache_breaks import LOOKBACK, Difference, first_difference

MARK = {"cache_control": {"type": "ephemeral"}}

type Change = Callable[[dict[str, Any]], object]


def request() -> dict[str, Any]:
    """A turn of a conversation on Messages."""
    return {
        "model": "claude-sonnet-4-6",
        "max_tokens": 1000,
        "tools": [{"name": "bash", "description": "Run it."}, {"name": "edit", "description": "Change it."}],
        "system": [
            {"type": "text", "text": "x-anthropic-billing-header: cch=1a;"},
            {"type": "text", "text": "Be brief.", **MARK},
        ],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Why is the tie wrong?"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "Let me look."}]},
            {"role": "user", "content": [{"type": "text", "text": "Go on.", **MARK}]},
        ],
    }


def following() -> dict[str, Any]:
    """The next turn: the billing line has changed, and the marker is where the conversation now ends."""
    body = request()
    body["system"][0]["text"] = "x-anthropic-billing-header: cch=2b;"
    body["messages"][2]["content"] = "Go on."
    body["messages"] += [
        {"role": "assistant", "content": "It is the sort."},
        {"role": "user", "content": [{"type": "text", "text": "Fix it.", **MARK}]},
    ]
    return body


def difference(change: Change) -> Difference | None:
    after = following()
    change(after)
    return first_difference(json.dumps(request()).encode(), json.dumps(after).encode())


def first_text(body: dict[str, Any], text: str) -> None:
    body["messages"][0]["content"][0]["text"] = text


def without_markers(body: dict[str, Any]) -> None:
    del body["messages"][-1]["content"][0]["cache_control"]


def far_away(body: dict[str, Any]) -> None:
    answers = [{"role": "assistant", "content": f"Step {number}."} for number in range(LOOKBACK)]
    body["messages"][4:4] = answers


def test_a_turn_that_goes_on_where_the_other_ended_does_not_differ():
    assert difference(lambda body: None) is None


@pytest.mark.parametrize(
    ("change", "segment", "cause"),
    [
        pytest.param(lambda body: body.update(model="claude-opus-4-6"), "model", "other model", id="model"),
        pytest.param(lambda body: body["tools"].reverse(), "tools", "changed text", id="tools in another order"),
        pytest.param(lambda body: body["tools"].pop(), "tools", "removed", id="a tool less"),
        pytest.param(lambda body: body["tools"].append({"name": "read"}), "tools", "added", id="a tool more"),
        pytest.param(lambda body: body["system"][1].update(text="Be long."), "system", "changed text", id="system"),
        pytest.param(lambda body: body.update(thinking={"type": "adaptive"}), "thinking", "other effort", id="effort"),
        pytest.param(
            lambda body: body.update(output_config={"effort": "low"}), "output_config", "other effort", id="2"
        ),
        pytest.param(lambda body: body.update(reasoning_effort="low"), "reasoning_effort", "other effort", id="chat"),
        pytest.param(
            lambda body: body.update(tool_choice={"type": "any"}), "tool_choice", "other tool choice", id="choice"
        ),
        pytest.param(lambda body: first_text(body, "Why?"), "message 0", "changed text", id="a message"),
        pytest.param(lambda body: body["messages"].pop(0), "message 0", "changed text", id="a message less"),
        pytest.param(lambda body: body.update(messages=body["messages"][:1]), "message 1", "removed", id="cut short"),
        pytest.param(without_markers, "message 2", "moved marker", id="no marker"),
        pytest.param(far_away, "message 2", "moved marker", id="a marker beyond what is looked back for"),
    ],
)
def test_what_differs(change: Change, segment: str, cause: str):
    found = difference(change)
    assert found is not None
    assert (found.segment, found.cause) == (segment, cause)


def test_of_several_changes_the_first_in_the_prompt_counts():
    def change(body: dict[str, Any]) -> None:
        first_text(body, "Why?")
        body["system"][1]["text"] = "Be long."

    found = difference(change)
    assert found is not None
    assert found.segment == "system"


def test_where_shows_both_texts_from_a_little_before_the_place():
    found = difference(lambda body: body["system"][1].update(text="Be long."))
    assert found is not None
    assert found.where == 'character 26: ":"text","text":"Be brief."} → ":"text","text":"Be long."}'


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda body: body.update(max_tokens=5), id="the limit"),
        pytest.param(lambda body: body.update(stream=True), id="streaming"),
        pytest.param(lambda body: body.update(metadata={"user_id": "u"}), id="metadata"),
    ],
)
def test_what_a_cache_does_not_depend_on(change: Change):
    assert difference(change) is None


def test_a_text_is_the_same_as_a_string_and_as_a_block():
    text = {"system": "Be brief.", "messages": [{"role": "user", "content": "Why?"}]}
    block = {
        "system": [{"type": "text", "text": "Be brief.", **MARK}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Why?"}]}],
    }
    assert first_difference(json.dumps(text).encode(), json.dumps(block).encode()) is None


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_system_prompt_among_the_messages_is_one(role: str):
    bodies = [{"messages": [{"role": role, "content": text}]} for text in ("Be brief.", "Be long.")]
    before, after = (json.dumps(body).encode() for body in bodies)
    found = first_difference(before, after)
    assert found is not None
    assert found.segment == "system"


@pytest.mark.parametrize(
    ("before", "after", "segment"),
    [
        (b'{"instructions": "Be brief.", "input": "a"}', b'{"instructions": "Be long.", "input": "a"}', "system"),
        (
            b'{"input": [{"type": "reasoning", "id": "1"}]}',
            b'{"input": [{"type": "reasoning", "id": "2"}]}',
            "message 0",
        ),
    ],
)
def test_responses(before: bytes, after: bytes, segment: str):
    found = first_difference(before, after)
    assert found is not None
    assert found.segment == segment


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b'{"messages": [', b"[" * 100_000])
def test_a_body_that_is_no_request_differs_from_nothing(body: bytes):
    whole = json.dumps(request()).encode()
    assert first_difference(body, whole) is None
    assert first_difference(whole, body) is None


VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.sampled_from(list(request())), values, max_size=3),
    max_leaves=8,
)
BODIES = st.dictionaries(st.sampled_from([*request(), "input", "thinking"]), VALUES).map(
    lambda body: json.dumps(body).encode()
)


@given(BODIES, BODIES)
def test_never_raises_and_nothing_differs_from_itself(before: bytes, after: bytes):
    first_difference(before, after)
    assert first_difference(before, before) is None
