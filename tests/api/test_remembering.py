"""What a request says is the same, whether its history is known or not, and whatever has happened to it meanwhile."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway_addon import api
from gateway_addon.api import KINDS
from gateway_addon.wire import jsontext
from gateway_addon.wire.elements import Memory

WORDS = "some words of a person or a model, " * 20
"""So that bodies are long enough to be remembered."""

MESSAGES: dict[str, list[Any]] = {
    "chat_completions": [
        {"role": "user", "content": WORDS},
        {"role": "user", "content": [{"type": "text", "text": WORDS}]},
        {"role": "assistant", "content": WORDS, "tool_calls": [{"id": "c1", "function": {"name": "read"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": WORDS},
        {"role": "system", "content": WORDS},
        *(None, 7, WORDS),
    ],
    "responses": [
        {"role": "user", "content": WORDS},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": WORDS}]},
        {"type": "function_call", "call_id": "c1", "name": "read", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": WORDS},
        {"role": "developer", "content": WORDS},
        # text alone is a message, too
        *(WORDS, None, 7),
    ],
    "messages": [
        {"role": "user", "content": WORDS},
        {"role": "user", "content": [{"type": "text", "text": WORDS, "cache_control": {"type": "ephemeral"}}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "read", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": WORDS}]},
        {"role": "user", "content": [{"type": "tool_addition", "tool": {"name": "write"}}]},
        {"role": "system", "content": WORDS},
        *(None, 7, WORDS),
    ],
}
TOOLS: dict[str, Any] = {
    "chat_completions": {"type": "function", "function": {"name": "read"}},
    "responses": {"type": "function", "name": "read"},
    "messages": {"name": "read", "input_schema": {}},
}

SORT = st.integers(0, 8)
CHANGES = st.lists(st.tuples(st.integers(0, 3), st.lists(SORT, max_size=4), st.integers(0, 40)), max_size=8)
"""What happens between two calls: so many messages are cut off at the end, and others are added, of which the first
stands where a number says."""


def body(kind: str, messages: list[Any], tools: int) -> bytes:
    name = "input" if kind == "responses" else "messages"
    return json.dumps({"tools": [TOOLS[kind]] * tools, name: messages, "model": "m"}).encode()


@pytest.mark.parametrize("kind", KINDS)
@given(first=st.lists(SORT, min_size=8, max_size=20), later=CHANGES, tools=st.integers(0, 2))
# in the middle of others, so that the ends are as they were
@example(first=[0] * 10 + [5] + [0] * 10, later=[(0, [1], 40)], tools=1)
def test_what_is_known_changes_nothing(kind: str, first: list[int], later: list[Any], tools: int):
    sorts, memory = MESSAGES[kind], Memory(api.members)
    messages = [sorts[sort % len(sorts)] for sort in first]
    for cut, added, place in [(0, [], 0), *later]:
        messages = messages[: len(messages) - cut]
        new = [sorts[sort % len(sorts)] for sort in added]
        messages += new[1:]
        messages[place:place] = new[:1]
        sent = body(kind, messages, tools)
        read = memory.read(sent)
        assert KINDS[kind].read_request(read.json, read.of) == KINDS[kind].read_request(jsontext.parse(sent))
