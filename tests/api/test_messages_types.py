"""Every type of Anthropic's SDK, and what Messages reads of it, told as tables by the `type` on the wire.

The values are made from the SDK's own type definitions: each string in them is the name of its place. A type that has
no line in its table fails the tests, so that a new SDK shows what is new.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import anthropic.types
import anthropic.types.beta
import pytest

from gateway_addon.api import messages
from gateway_addon.api.base import Answer, Json, Pass, RequestFacts, ToolCall, ToolResult, Usage
from gateway_addon.terms import Executor
from tests.api import sdk_types

if tuple(map(int, version("anthropic").split(".")[:2])) < (2, 14):
    pytest.skip("the tables tell of anthropic 2.14 and newer", allow_module_level=True)

NOTHING = ("nothing",)

RESULT_PARTS = (
    *("content", "content.0.title", "content.0.url", "content.0.text", "content.0.tool_name"),
    *("content.0.context", "content.0.content", "content.0.content.0.text"),
    *("content.0.source:text.data", "content.0.source:content.content", "content.0.source:content.content.0.text"),
    *("content.0.tabs.0.title", "content.0.tabs.0.url"),
    *("content.0.state_changes.0.url", "content.0.state_changes.0.error"),
)

BLOCKS = {
    "text": ("text", "text"),
    "compaction": ("text", "content"),
    "thinking": ("reasoning", "thinking"),
    "tool_use": ("client", "toolset_name", "name"),
    "server_tool_use": ("server", "name"),
    "mcp_tool_use": ("server", "name"),
    "tool_result": ("result", *RESULT_PARTS),
    "mcp_tool_result": ("result", "content", "content.0.text"),
    "web_search_tool_result": ("result", "content.0.title", "content.0.url", "content.error_code"),
    "web_fetch_tool_result": (
        "result",
        *("content.error_code", "content.url", "content.content.title", "content.content.context"),
        *("content.content.source:text.data", "content.content.source:content.content"),
        "content.content.source:content.content.0.text",
    ),
    "advisor_tool_result": ("result", "content.text", "content.error_code"),
    "code_execution_tool_result": ("result", "content.stdout", "content.stderr", "content.error_code"),
    "bash_code_execution_tool_result": ("result", "content.stdout", "content.stderr", "content.error_code"),
    "text_editor_code_execution_tool_result": (
        "result",
        *("content.content", "content.lines.0", "content.error_code", "content.error_message"),
    ),
    "tool_search_tool_result": (
        "result",
        *("content.error_code", "content.error_message", "content.tool_references.0.tool_name"),
    ),
    # no words: what only the server can read, files, and what is said of models and tools
    "redacted_thinking": NOTHING,
    "container_upload": NOTHING,
    "image": NOTHING,
    "document": NOTHING,
    "search_result": NOTHING,
    "fallback": NOTHING,
    "mcp_tool_listing": NOTHING,
    "tool_addition": NOTHING,
    "tool_removal": NOTHING,
}
"""Content blocks: what each is, and where it says so. `client` and `server` are calls, by who runs them; the parts of
their names follow. `source:text` is a `source` of that type."""

FAILURES = ("is_error", "content.error_code", "content.return_code")
"""Where a result tells a failure."""

DELTAS = {
    "text_delta": ("text", "text"),
    "compaction_delta": ("compaction", "content"),
    "thinking_delta": ("thinking", "thinking"),
    "input_json_delta": ("tool_use", "partial_json"),
    "citations_delta": ("text", None),
    "signature_delta": ("thinking", None),
}
"""Deltas: the block that each continues, and where the piece stands if there is one."""

EVENTS = {
    "message_start": "message.content.0",
    "message_delta": None,
    "message_stop": None,
    "content_block_start": "content_block",
    "content_block_delta": None,  # above
    "content_block_stop": None,
}
"""Events, and where a block stands in each."""

TOOLS: dict[str, tuple[str, ...] | str] = {
    "custom": ("name",),
    "bash_20241022": ("name",),
    "bash_20250124": ("name",),
    "memory_20250818": ("name",),
    "text_editor_20241022": ("name",),
    "text_editor_20250124": ("name",),
    "text_editor_20250429": ("name",),
    "text_editor_20250728": ("name",),
    "computer_20241022": ("name",),
    "computer_20250124": ("name",),
    "computer_20251124": ("name",),
    "web_search_20250305": ("name",),
    "web_search_20260209": ("name",),
    "web_search_20260318": ("name",),
    "web_fetch_20250910": ("name",),
    "web_fetch_20260209": ("name",),
    "web_fetch_20260309": ("name",),
    "web_fetch_20260318": ("name",),
    "code_execution_20250522": ("name",),
    "code_execution_20250825": ("name",),
    "code_execution_20260120": ("name",),
    "code_execution_20260521": ("name",),
    "tool_search_tool_bm25": ("name",),
    "tool_search_tool_bm25_20251119": ("name",),
    "tool_search_tool_regex": ("name",),
    "tool_search_tool_regex_20251119": ("name",),
    "advisor_20260301": ("name",),
    "mcp_toolset": ("mcp_server_name", "tools.0.name"),
    "computer_toolset_20260801": "computer",
    "browser_toolset_20260801": "browser",
}
"""Tools: where the names stand that they are offered by, or the name itself."""

TOOL_CHANGES: dict[str, tuple[str, ...] | None] = {
    "tool_reference": ("name",),
    "mcp_tool_reference": ("name",),
    "mcp_toolset_reference": ("server_name",),
    "tool_definition": None,  # of any tool above
}
"""What a `tool_addition` or `tool_removal` may name, and where."""

PASSES = {"message": "passes", "fallback_message": "passes", "compaction": "extra", "advisor_message": "extra"}
"""The `iterations` of a usage: whether its counts sum them up or leave them out."""


def values(*unions: str) -> Iterator[Any]:
    """An instance for every alternative in these unions of the SDK, as far as they are objects with a `type`."""
    for union in unions:
        module = anthropic.types.beta if union.startswith("Beta") else anthropic.types
        for member in sdk_types.members(getattr(module, union)).values():
            yield from (value[0] if isinstance(value, list) else value for value in sdk_types.instances(member))


def at(value: Any, place: str) -> Any:
    """What stands at a place, None if nothing does."""
    for step in place.split("."):
        key, _, kind = step.partition(":")
        if isinstance(value, list):
            value = value[int(key)] if key.isdigit() and value else None
        else:
            value = value.get(key) if isinstance(value, dict) else None
        if kind and not (isinstance(value, dict) and value["type"] == kind):
            return None
    return value


def words(block: Json, places: tuple[str, ...]) -> list[str]:
    return [found for place in places if isinstance(found := at(block, place), str) and found]


def expected(block: Json) -> Json:
    """What the table says of a block."""
    what, *places = BLOCKS[block["type"]]
    found = words(block, tuple(places))
    calls, results = [], []
    if what in ("client", "server"):
        executor: Executor = "client" if what == "client" else "server"
        arguments = json.dumps(block.get("input", {}), separators=(",", ":"))
        calls.append(ToolCall(block["id"], ".".join(found), block["type"], executor, arguments))
    if what == "result":
        has_failed = any(at(block, place) for place in FAILURES)
        if found or has_failed or block["type"] == "tool_result":
            results.append(ToolResult(block["tool_use_id"], None, "\n".join(sorted(found)), has_failed))
    text, reasoning = ("\n".join(found) if what == kind else "" for kind in ("text", "reasoning"))
    return {"text": text, "reasoning": reasoning, "tool_calls": calls, "tool_results": results}


def read(*events: Json) -> Answer:
    reader = messages.reader(RequestFacts())
    for event in events:
        reader.event(event)
    return reader.finish()


def sort_words(results: list[ToolResult]) -> list[ToolResult]:
    """The results, each with its lines in the order of the alphabet: the table promises no other."""
    return [replace(each, content="\n".join(sorted((each.content or "").split("\n")))) for each in results]


def seen(answer: Answer) -> Json:
    return {
        "text": answer.text,
        "reasoning": answer.reasoning,
        "tool_calls": answer.tool_calls,
        "tool_results": sort_words(answer.tool_results),
    }


def in_stream(block: Json, *deltas: Json) -> list[Json]:
    return [
        {"type": "message_start", "message": {"id": "msg_1", "type": "message", "content": []}},
        {"type": "content_block_start", "index": 0, "content_block": block},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}},
        {"type": "message_stop"},
    ]


@pytest.mark.parametrize("union", ["ContentBlock", "BetaContentBlock", "ToolsetToolUseBlock"])
def test_every_block_of_an_answer(union: str) -> None:
    for block in values(union):
        reader = messages.reader(RequestFacts())
        reader.body({"type": "message", "content": [block]})
        assert seen(reader.finish()) == expected(block), block
        events = in_stream(block)
        for length in range(2, len(events) + 1):
            assert seen(read(*events[:length])) == expected(block), block


@pytest.mark.parametrize("union", ["RawContentBlockDelta", "BetaRawContentBlockDelta"])
def test_every_delta(union: str) -> None:
    for delta in values(union):
        kind, place = DELTAS[delta["type"]]
        piece = (at(delta, place) if place else None) or ""
        events = in_stream({"type": kind, "id": "toolu_1", "name": "look"}, delta, delta)
        for length in range(2, len(events) + 1):
            answer = read(*events[:length])
            told = piece * min(length - 2, 2)
            if kind == "tool_use":
                assert [call.arguments for call in answer.tool_calls] == [told or "{}"], delta
            else:
                assert (answer.reasoning if kind == "thinking" else answer.text) == told, delta


@pytest.mark.parametrize("union", ["RawMessageStreamEvent", "BetaRawMessageStreamEvent"])
def test_every_event(union: str) -> None:
    for event in values(union):
        place = EVENTS[event["type"]]
        block = at(event, place) if place else None
        answer = read(event)
        assert answer.recognised
        if event["type"] != "content_block_delta":
            assert seen(answer) == (expected(block) if block else seen(Answer())), event
        for name, told in {
            "response_id": at(event, "message.id"),
            "finish_reason": at(event, "message.stop_reason") or at(event, "delta.stop_reason"),
        }.items():
            assert getattr(answer, name) == told, event


@pytest.mark.parametrize("union", ["ContentBlockParam", "BetaContentBlockParam"])
def test_every_block_of_a_request(union: str) -> None:
    for block in values(union):
        facts = messages.read_request({"messages": [{"role": "user", "content": [block]}]})
        told = expected(block)
        assert sort_words(facts.tool_results) == told["tool_results"], block
        assert facts.user_prompt == (block["text"] if block["type"] == "text" else None), block


def names(tool: Json) -> list[str]:
    line = TOOLS[tool.get("type") or "custom"]
    return [line] if isinstance(line, str) else words(tool, line)


@pytest.mark.parametrize("union", ["ToolUnionParam", "BetaToolUnionParam"])
def test_every_tool(union: str) -> None:
    for tool in values(union):
        assert messages.read_request({"tools": [tool], "messages": []}).tools == names(tool), tool


@pytest.mark.parametrize("union", ["BetaRequestToolAdditionBlockParam", "BetaRequestToolRemovalBlockParam"])
def test_every_change_of_tools(union: str) -> None:
    for block in values(union):
        tool = block["tool"]
        line = TOOL_CHANGES[tool["type"]]
        meant = words(tool, line) if line else names(tool["definition"])
        added = {"role": "system", "content": [block | {"type": "tool_addition"}]}
        changed = {"role": "system", "content": [block]}
        offered = meant if block["type"] == "tool_addition" else []
        assert messages.read_request({"messages": [added, changed]}).tools == offered, block


def test_every_pass() -> None:
    for iteration in values("BetaIterationsUsage"):
        counts = {"input_tokens": 3, "output_tokens": 1}  # the sum, as every count that is made of a type is 1
        answer = read(
            {"type": "message_start", "message": {"id": "msg_1", "model": iteration.get("model")}},
            {"type": "message_delta", "usage": counts | {"iterations": [iteration]}},
        )
        told = [Pass(iteration.get("model"), Usage(3, 1, 1, output_tokens=1))]
        is_summed = PASSES[iteration["type"]] == "passes"
        assert (answer.passes, answer.extra_passes) == ((told, []) if is_summed else ([], told)), iteration
