"""In what two requests differ: table-driven, over all kinds."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_addon.api import KINDS
from gateway_addon.comparison import Asked, Change, compare

TOOL = {"name": "read", "description": "Read.", "input_schema": {"type": "object", "properties": {"path": {}}}}
FUNCTION = {"name": "read", "description": "Read.", "parameters": TOOL["input_schema"]}
MARK = {"cache_control": {"type": "ephemeral"}}
FOR_1H = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
HELLO = {"role": "user", "content": "hello"}
BASE: dict[str, dict[str, Any]] = {
    "messages": {"model": "m", "system": "Be brief.", "messages": [HELLO], "tools": [TOOL]},
    "chat_completions": {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}, HELLO],
        "tools": [{"type": "function", "function": FUNCTION}],
    },
    "responses": {
        "model": "m",
        "instructions": "Be brief.",
        "input": [HELLO],
        "tools": [FUNCTION | {"type": "function"}],
    },
}
SHELL = {"name": "shell", "input_schema": {}}


def between(before: dict[str, Any], after: dict[str, Any], kind: str = "messages"):
    return compare(Asked(api_kind=kind, body=before), Asked(api_kind=kind, body=after))


@pytest.mark.parametrize("kind", BASE)
def test_the_same_request_differs_in_nothing(kind: str):
    assert between(BASE[kind], BASE[kind], kind).is_empty


@pytest.mark.parametrize(
    ("kind", "further"),
    [
        ("messages", {"messages": [HELLO, {"role": "assistant", "content": "hi"}, HELLO]}),
        ("messages", {"metadata": {"user_id": "somebody"}}),
        ("chat_completions", {"messages": [{"role": "system", "content": "Be brief."}, HELLO, HELLO]}),
        ("chat_completions", {"user": "somebody"}),
        ("responses", {"input": [HELLO, HELLO]}),
        ("responses", {"previous_response_id": "r-1", "prompt_cache_key": "k"}),
    ],
)
def test_what_was_said_and_by_whom_is_no_difference(kind: str, further: dict[str, Any]):
    assert between(BASE[kind], BASE[kind] | further, kind).is_empty


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        ({}, {"max_tokens": 9}, Change(name="max_tokens", before=None, after=9)),
        ({"temperature": 1}, {}, Change(name="temperature", before=1, after=None)),
        (
            {"output_config": {"effort": "low"}},
            {"output_config": {"effort": "high"}},
            Change(name="output_config.effort", before="low", after="high"),
        ),
        ({}, {"model": "n"}, Change(name="model", before="m", after="n")),
        ({"stop": ["a"]}, {"stop": ["b"]}, Change(name="stop[0]", before="a", after="b")),
    ],
)
@pytest.mark.parametrize("kind", BASE)
def test_parameters(kind: str, before: dict[str, Any], after: dict[str, Any], change: Change):
    compared = between(BASE[kind] | before, BASE[kind] | after, kind)
    assert compared.parameters == [change]
    assert not compared.is_empty


def test_tools_come_go_and_change():
    described = TOOL | {"description": "Read a file.", "input_schema": {"type": "object", "properties": {"file": {}}}}
    compared = between(BASE["messages"], BASE["messages"] | {"tools": [SHELL, described]})
    assert (compared.tools.added, compared.tools.removed) == (["shell"], [])
    (changed,) = compared.changed_tools
    assert changed.name == "read"
    assert [(change.name, change.before, change.after) for change in changed.changes] == [
        ("description", "Read.", "Read a file."),
        ("input_schema.properties.path", {}, None),
        ("input_schema.properties.file", None, {}),
    ]


def test_the_same_tool_of_another_kind_is_no_change():
    asked = [Asked(api_kind=kind, body=body) for kind, body in BASE.items()]
    for before in asked:
        for after in asked:
            compared = compare(before, after)
            assert not compared.changed_tools
            assert not compared.system_prompt
            assert bool(compared.api_kind) == (before != after)


def test_the_tools_of_a_namespace_are_compared_one_by_one():
    def offering(*names: str) -> dict[str, Any]:
        members = [{"type": "function", "name": name} for name in names]
        return {"input": "hi", "tools": [{"type": "namespace", "name": "mcp__docs__", "tools": members}]}

    compared = between(offering("find", "read"), offering("find", "write"), "responses")
    assert (compared.tools.added, compared.tools.removed) == (["mcp__docs__.write"], ["mcp__docs__.read"])


def test_cache_markers_of_turns_are_counted_from_the_last():
    turn = {"role": "user", "content": [{"type": "text", "text": "hello"} | MARK]}
    short = BASE["messages"] | {"messages": [turn]}
    long = BASE["messages"] | {"messages": [HELLO, HELLO, turn]}
    assert between(short, long).is_empty
    marked = long | {"system": [{"type": "text", "text": "Be brief."} | FOR_1H], "tools": [TOOL | MARK]}
    compared = between(long, marked)
    assert compared.cache_markers.added == ["tools read", "system[0] 1h"]
    assert not compared.changed_tools
    assert not compared.system_prompt


def test_the_system_prompt_as_a_diff():
    before = BASE["messages"] | {"system": "one\ntwo\nthree\nfour"}
    after = BASE["messages"] | {"system": "one\ntwo\n3\nfour"}
    assert between(before, after).system_prompt == ["@@ -2,3 +2,3 @@", " two", "-three", "+3", " four"]


@pytest.mark.parametrize(
    ("before", "after", "added"),
    [
        (None, None, None),
        (None, frozenset({"a"}), None),
        (frozenset({"a"}), frozenset({"a", "b"}), ["b"]),
    ],
)
def test_betas(before: frozenset[str] | None, after: frozenset[str] | None, added: list[str] | None):
    body = BASE["messages"]
    compared = compare(
        Asked(api_kind="messages", body=body, betas=before), Asked(api_kind="messages", body=body, betas=after)
    )
    assert (compared.betas.added if compared.betas else None) == added


def test_betas_of_a_body():
    compared = between({"anthropic_beta": ["a"]}, {"anthropic_beta": ["b"]})
    assert compared.betas is not None
    assert (compared.betas.added, compared.betas.removed, compared.parameters) == (["b"], ["a"], [])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["type", "name", "tools", "content", "cache_control", "role"]), inner)
    ),
    max_leaves=12,
)
BODIES = st.dictionaries(st.sampled_from(["model", "system", "messages", "input", "instructions", "tools"]), JSON)


@given(st.sampled_from(list(KINDS)), BODIES, BODIES)
def test_never_raises_and_finds_no_difference_in_the_same(kind: str, before: dict[str, Any], after: dict[str, Any]):
    assert between(before, before, kind).is_empty
    there, back = between(before, after, kind), between(after, before, kind)
    assert there.is_empty == back.is_empty
    assert there.tools.added == back.tools.removed
