"""What each kind's request says, in its order: the same conversation reads the same in all of them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_addon.api import KINDS
from gateway_addon.api.base import HistoryItem
from tests.histories import PICTURE, SAME, URL, Json


def said(kind: str, body: Json) -> list[tuple[str, str, str]]:
    """Role, sort and words of each item."""
    return [(item.role, *_told(item)) for item in KINDS[kind].history(body)]


def _told(item: HistoryItem) -> tuple[str, str]:
    if item.tool_call:
        return "call", f"{item.tool_call.name} {item.tool_call.call_id} {item.tool_call.arguments}"
    if item.tool_result:
        result = item.tool_result
        return "result", f"{result.name} {result.call_id} {result.content} {result.is_error}"
    found = [(sort, words) for sort in ("text", "reasoning", "note") if (words := getattr(item, sort))]
    return found[0] if found else ("nothing", "")


@pytest.mark.parametrize("kind", SAME)
def test_a_conversation_reads_the_same_in_every_kind(kind: str):
    *before, (role, sort, note) = said(kind, SAME[kind])
    verdict = False if kind == "messages" else None
    assert before == [
        ("system", "text", "Be brief."),
        ("user", "text", "Why?"),
        ("assistant", "reasoning", "Hm."),
        ("assistant", "text", "Let me look."),
        ("assistant", "call", 'bash c-1 {"cmd":"ls"}'),
        ("tool", "result", f"bash c-1 a.txt {verdict}"),
        ("assistant", "text", "One file."),
        ("user", "text", "And this?"),
    ]
    assert (role, sort) == ("user", "note")
    assert note.endswith("image/png, 8 bytes")


@pytest.mark.parametrize("kind", SAME)
def test_each_item_says_which_message_it_is_from(kind: str):
    numbers = [item.message for item in KINDS[kind].history(SAME[kind])]
    assert numbers == sorted(numbers)
    assert numbers[0] == (0 if kind == "chat_completions" else -1)
    assert max(numbers) == len(SAME[kind].get("messages") or SAME[kind]["input"]) - 1


def of_messages(role: str, *blocks: object) -> Json:
    return {"messages": [{"role": role, "content": list(blocks)}]}


@pytest.mark.parametrize(
    ("kind", "body", "told"),
    [
        ("messages", {"system": "Be brief."}, ("system", "text", "Be brief.")),
        ("messages", {"messages": [{"role": "assistant", "content": []}]}, ("assistant", "nothing", "")),
        ("messages", of_messages("assistant", {"type": "redacted_thinking", "data": "AAAA"}),
         ("assistant", "note", "redacted_thinking, 3 bytes")),
        ("messages", of_messages("assistant", {"type": "tool_use", "id": "c", "name": "sh", "input": "ls"}),
         ("assistant", "call", "sh c ls")),
        ("messages", of_messages("assistant", {"type": "tool_use", "id": "c", "name": "sh", "input": {}}),
         ("assistant", "call", "sh c {}")),
        ("messages", of_messages("user", {"type": "tool_result", "tool_use_id": "c", "is_error": True, "content": [
            {"type": "text", "text": "broken"},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PICTURE}},
        ]}), ("tool", "result", "None c broken\n[image, image/png, 8 bytes] True")),
        ("messages", of_messages("assistant", {"type": "mcp_tool_result", "tool_use_id": "c", "content": "found"}),
         ("assistant", "result", "None c found False")),
        ("messages", of_messages("user", {"type": "document", "title": "Notes", "source": {
            "type": "text", "data": "A garden."}}), ("user", "text", "Notes\nA garden.")),
        ("messages", of_messages("user", {"type": "document", "source": {"type": "file", "file_id": "file_1"}}),
         ("user", "note", "document, file, file_1")),
        ("messages", of_messages("assistant", {"type": "compaction", "content": "All of it."}),
         ("assistant", "text", "All of it.")),
        ("chat_completions", {"messages": [{"role": "assistant", "refusal": "No."}]}, ("assistant", "text", "No.")),
        ("chat_completions", {"messages": [{"role": "assistant", "function_call": {
            "name": "sh", "arguments": {"cmd": "ls"}}}]}, ("assistant", "call", 'sh None {"cmd":"ls"}')),
        ("chat_completions", {"messages": [{"role": "function", "name": "sh", "content": "a"}]},
         ("tool", "result", "sh None a None")),
        ("chat_completions", {"messages": [{"role": "tool", "tool_call_id": "c", "content": [
            {"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}
        ]}]}, ("tool", "result", "None c a\n[image_url, https://x.example/a.png] None")),
        ("chat_completions", of_messages("user", {"type": "input_audio", "input_audio": {
            "data": "AAAA", "format": "wav"}}), ("user", "note", "input_audio, 3 bytes, wav")),
        ("responses", {"input": "Why?"}, ("user", "text", "Why?")),
        ("responses", {"input": ["Why?"]}, ("user", "text", "Why?")),
        ("responses", {"prompt": {"id": "pmpt_1"}}, ("system", "note", "prompt, pmpt_1")),
        ("responses", {"input": [{"type": "item_reference", "id": "msg_1"}]},
         ("assistant", "note", "item_reference, msg_1")),
        ("responses", {"input": [{"type": "reasoning", "summary": [], "encrypted_content": "AAAA"}]},
         ("assistant", "note", "reasoning, 3 bytes")),
        ("responses", {"input": [{"type": "local_shell_call", "id": "c", "action": {"command": ["ls"]}}]},
         ("assistant", "call", 'local_shell c {"command":["ls"]}')),
        ("responses", {"input": [{"type": "function_call_output", "call_id": "c", "output": [
            {"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": URL}
        ]}]}, ("tool", "result", "None c a\n[input_image, image/png, 8 bytes] None")),
    ],
)  # fmt: skip
def test_what_else_a_request_may_say(kind: str, body: Json, told: tuple[str, str, str]):
    assert said(kind, body) == [told]


def test_what_a_server_ran_is_the_assistants():
    body = {"input": [{"type": "mcp_call", "id": "m", "name": "find", "arguments": '{"q":1}', "output": "found"}]}
    assert said("responses", body) == [
        ("assistant", "call", 'find m {"q":1}'),
        ("assistant", "result", "find m found False"),
    ]


WORDS = st.sampled_from([
    *("system", "user", "assistant", "tool", "developer", "text", "input_text", "output_text", "image", "image_url"),
    *("tool_use", "tool_result", "mcp_tool_result", "thinking", "document", "base64", "function", "custom", "message"),
    *("function_call", "function_call_output", "reasoning", "mcp_call", "shell_call_output", "item_reference", URL),
    *("\ud800", "\0", "", "x" * 300, "openrouter:bash"),
])  # fmt: skip
KEYS = st.sampled_from([
    *("role", "type", "content", "text", "thinking", "id", "name", "input", "source", "data", "tool_use_id", "output"),
    *("tool_calls", "function", "arguments", "function_call", "tool_call_id", "call_id", "summary", "image_url"),
    *("instructions", "system", "messages", "prompt", "tools", "namespace", "refusal", "reasoning_details", "url"),
])  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=25,
)
BODIES = st.dictionaries(KEYS, VALUES, max_size=5)
CONVERSATIONS = st.lists(st.dictionaries(KEYS, VALUES, max_size=6), max_size=6)


@pytest.mark.parametrize("kind", KINDS)
@given(body=BODIES, conversation=CONVERSATIONS)
def test_anything_can_be_read(kind: str, body: Json, conversation: list[Json]):
    for item in KINDS[kind].history(body | {"messages": conversation, "input": conversation}):
        words = [item.text, item.reasoning, item.note]
        words.append(item.tool_call.arguments if item.tool_call else None)
        words.append(item.tool_result.content if item.tool_result else None)
        assert sum(part is not None for part in words) <= 1
        # fit for a database
        assert not any("\0" in part for part in words if part)
        "".join(filter(None, words)).encode()


@pytest.mark.parametrize("key", ["content", "input", "arguments", "output", "source"])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_too_deep(kind: str, key: str):
    deep: Any = "x"
    for _ in range(5_000):
        deep = [{key: deep, "type": "tool_use"}]
    list(KINDS[kind].history({"messages": deep, "input": deep, "system": deep, "instructions": deep}))
