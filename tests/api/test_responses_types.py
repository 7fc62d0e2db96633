"""Every type of the newest SDK's Responses API: what each item, part, tool and event says, and where.

The tables are kept by hand. A type without a line fails, so that a new SDK release shows what is new: read its
definition, decide what it says, and add the line.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from gateway_addon.api import responses
from gateway_addon.api.base import Answer, Json, RequestFacts
from gateway_addon.wire.jsontext import dumps
from tests.api.sdk_types import instance, instances, members

pytest.importorskip("openai", minversion="3.57", reason="the tables are of the newest SDK")
from openai.types import beta
from openai.types import responses as stable

ITEMS_OF_ANSWERS = (
    stable.ResponseOutputItem,
    stable.ResponseItem,
    beta.BetaResponseOutputItem,
)
ITEMS_OF_REQUESTS = (
    stable.ResponseInputItem,
    stable.ResponseInputItemParam,
    beta.BetaResponseInputItem,
    beta.BetaResponseInputItemParam,
)
TOOLS_OFFERED = (stable.Tool, stable.ToolParam, beta.BetaTool, beta.BetaToolParam)
PARTS_GIVEN = (
    stable.ResponseInputContent,
    beta.BetaResponseInputContent,
    stable.ResponseOutputText | stable.ResponseOutputRefusal,
    beta.beta_response_output_item.AgentMessageContent,
)
STREAM_EVENTS = (
    stable.ResponseStreamEvent,
    stable.ResponsesServerEvent,
    beta.BetaResponseStreamEvent,
    beta.BetaResponsesServerEvent,
)


class Item(NamedTuple):
    """What an item says. A place is a path, as `content.0.text`; of several with `|`, the first that holds anything."""

    call: str = ""
    """The name of the tool it calls, or `@` and its place."""
    by: str | Callable[[Json], str] = "client"
    arguments: str | tuple[str, ...] = ""
    """Their place, or the fields that are an object of them."""
    result: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    reasoning: tuple[str, ...] = ()
    tools: str = ""
    """The place of a tool it names."""


MESSAGE = ("content.0.text", "content.0.refusal", "content")

ITEMS = {
    "message": Item(text=MESSAGE),
    "agent_message": Item(text=MESSAGE),
    "reasoning": Item(reasoning=("summary.0.text", "content.0.text")),
    # calls
    "function_call": Item("@name", arguments="arguments"),
    "custom_tool_call": Item("@name", arguments="input"),
    "local_shell_call": Item("local_shell", arguments="action"),
    "apply_patch_call": Item("apply_patch", arguments="operation"),
    "computer_call": Item("computer", arguments="action|actions"),
    "shell_call": Item(
        "shell",
        lambda item: "server" if at(item, "environment.type") == "container_reference" else "client",
        arguments="action",
    ),
    "tool_search_call": Item("tool_search", lambda item: item.get("execution") or "server", arguments="arguments"),
    "mcp_call": Item("@name", "server", "arguments", ("output", "error.message|error.content")),
    "multi_agent_call": Item("@action", "server", "arguments"),
    "program": Item("program", "server", "code"),
    "web_search_call": Item("web_search", "server", "action"),
    "file_search_call": Item("file_search", "server", "queries", ("results.0.text|results",)),
    "code_interpreter_call": Item("code_interpreter", "server", "code", ("outputs.0.logs",)),
    "image_generation_call": Item("image_generation", "server", ("action", "revised_prompt"), ("error.message",)),
    # results
    "function_call_output": Item(result=("output.0.text|output",)),
    "custom_tool_call_output": Item(result=("output.0.text|output",)),
    "local_shell_call_output": Item(result=("output",)),
    "shell_call_output": Item(result=("output",)),
    "apply_patch_call_output": Item(result=("output",)),
    "computer_call_output": Item(result=("output",)),
    "tool_search_output": Item(result=("tools",), tools="tools.0"),
    "program_output": Item(result=("result",)),
    "multi_agent_call_output": Item(result=("output.0.text",)),
    # neither
    "additional_tools": Item(tools="tools.0"),
    "mcp_list_tools": Item(tools="tools.0"),
    "mcp_approval_request": Item(),
    "mcp_approval_response": Item(),
    "compaction": Item(),
    "compaction_trigger": Item(),
    "configuration_update": Item(),
    "item_reference": Item(),
}

PARTS = {
    "input_text": "text",
    "output_text": "text",
    "text": "text",
    "summary_text": "text",
    "reasoning_text": "text",
    "refusal": "refusal",
    "input_image": "",
    "input_file": "",
    "computer_screenshot": "",
    "encrypted_content": "",
}
"""The place of a part's text; "" where it has none."""

TOOLS = {
    "function": "@name",
    "custom": "@name",
    "mcp": "@server_label",
    "namespace": "@name",
    "web_search": "web_search",
    "web_search_2025_08_26": "web_search",
    "web_search_preview": "web_search",
    "web_search_preview_2025_03_11": "web_search",
    "file_search": "file_search",
    "code_interpreter": "code_interpreter",
    "image_generation": "image_generation",
    "computer": "computer",
    "computer_use_preview": "computer",
    "local_shell": "local_shell",
    "shell": "shell",
    "apply_patch": "apply_patch",
    "tool_search": "tool_search",
    "programmatic_tool_calling": "program",
    "": "@name",  # a tool of an MCP server's list
}
"""The name that calls of a tool go by, or `@` and its place; a namespace's stands before each of its members'."""


class Event(NamedTuple):
    """What an event says."""

    says: str = ""
    """A field of the answer; `arguments`, `result`, `part` or `failure` of an item; a whole `item`; a `response`, also
    at its `end`; an `error`; "" for nothing."""
    place: str = ""
    """Where the text of it stands; of several with `+`, one after the other."""
    item: str = "mcp_call"
    """The type of the item that was begun before."""


EVENTS = {
    "response.created": Event("response"),
    "response.queued": Event("response"),
    "response.in_progress": Event("response"),
    "response.completed": Event("end"),
    "response.incomplete": Event("end"),
    "response.failed": Event("end"),
    "error": Event("error"),
    "response.output_item.added": Event("item"),
    "response.output_item.done": Event("item"),
    "response.content_part.added": Event(),
    "response.content_part.done": Event("part"),
    "response.output_text.delta": Event("text", "delta", "message"),
    "response.output_text.done": Event("text", "text", "message"),
    "response.output_text.annotation.added": Event(),
    "response.refusal.delta": Event("text", "delta", "message"),
    "response.refusal.done": Event("text", "refusal", "message"),
    "response.audio.delta": Event(),
    "response.audio.done": Event(),
    "response.audio.transcript.delta": Event("text", "delta", "message"),
    "response.audio.transcript.done": Event(),
    "response.reasoning_summary_part.added": Event(),
    "response.reasoning_summary_part.done": Event("reasoning", "part.text", "reasoning"),
    "response.reasoning_summary_text.delta": Event("reasoning", "delta", "reasoning"),
    "response.reasoning_summary_text.done": Event("reasoning", "text", "reasoning"),
    "response.reasoning_text.delta": Event("reasoning", "delta", "reasoning"),
    "response.reasoning_text.done": Event("reasoning", "text", "reasoning"),
    "response.function_call_arguments.delta": Event("arguments", "delta", "function_call"),
    "response.function_call_arguments.done": Event("arguments", "arguments", "function_call"),
    "response.custom_tool_call_input.delta": Event("arguments", "delta", "custom_tool_call"),
    "response.custom_tool_call_input.done": Event("arguments", "input", "custom_tool_call"),
    "response.mcp_call_arguments.delta": Event("arguments", "delta"),
    "response.mcp_call_arguments.done": Event("arguments", "arguments"),
    "response.mcp_call.in_progress": Event(),
    "response.mcp_call.completed": Event(),
    "response.mcp_call.failed": Event("failure"),
    "response.mcp_list_tools.in_progress": Event(),
    "response.mcp_list_tools.completed": Event(),
    "response.mcp_list_tools.failed": Event(),
    "response.code_interpreter_call.in_progress": Event(),
    "response.code_interpreter_call.interpreting": Event(),
    "response.code_interpreter_call.completed": Event(),
    "response.code_interpreter_call_code.delta": Event("arguments", "delta", "code_interpreter_call"),
    "response.code_interpreter_call_code.done": Event("arguments", "code", "code_interpreter_call"),
    "response.file_search_call.in_progress": Event(),
    "response.file_search_call.searching": Event(),
    "response.file_search_call.completed": Event(),
    "response.web_search_call.in_progress": Event(),
    "response.web_search_call.searching": Event(),
    "response.web_search_call.completed": Event(),
    "response.image_generation_call.in_progress": Event(),
    "response.image_generation_call.generating": Event(),
    "response.image_generation_call.partial_image": Event(),
    "response.image_generation_call.completed": Event(),
    "response.shell_call_command.added": Event(),
    "response.shell_call_command.delta": Event("arguments", "delta", "shell_call"),
    "response.shell_call_command.done": Event("arguments", "command", "shell_call"),
    "response.shell_call_output_content.delta": Event("result", "delta.stdout+delta.stderr", "shell_call_output"),
    "response.shell_call_output_content.done": Event("result", "output", "shell_call_output"),
    "response.compaction.compacting": Event(),
    "response.steer.accepted": Event(),
    "response.steer.pending": Event(),
    "response.steer.failed": Event(),
    "response.inject.created": Event(),
    "response.inject.failed": Event(),
}


def at(value: Any, place: str) -> Any:
    """The value at a place; None where there is none."""
    for step in place.split("."):
        if isinstance(value, list):
            value = value[int(step)] if step.isdigit() and len(value) > int(step) else None
        else:
            value = value.get(step) if isinstance(value, dict) else None
    return value


def texts(value: Json, places: tuple[str, ...]) -> str:
    """The texts at places, in their order; other values than texts are skipped."""
    return "\n".join(found for place in places if isinstance(found := at(value, place), str) and found)


def contents(value: Json, places: str | tuple[str, ...]) -> str:
    """What stands at places: texts as they are, anything else as compact JSON."""
    lines = []
    for place in (places,) if isinstance(places, str) else places:
        found = next(filter(None, (at(value, alternative) for alternative in place.split("|"))), None)
        lines.append(found if isinstance(found, str) else dumps(found) if found else "")
    return "\n".join(filter(None, lines))


def named(value: Json, name: str) -> str | None:
    return at(value, name[1:]) if name.startswith("@") else name or None


def all_of(*unions: Any) -> Iterator[Json]:
    for union in unions:
        yield from instances(union)


def type_of(item: Json) -> str:
    return item.get("type") or ("message" if "role" in item else "item_reference")


def read(*events: Json) -> Answer:
    reader = responses.reader(RequestFacts())
    for event in events:
        reader.event(event)
    return reader.finish()


def read_body(body: Json) -> Answer:
    reader = responses.reader(RequestFacts())
    reader.body(body)
    return reader.finish()


CREATED: Json = {"type": "response.created", "response": {"id": "resp_1", "object": "response", "output": []}}
COMPLETED: Json = {"type": "response.completed", "response": {"object": "response", "output": []}}


def item_event(step: str, item: Json) -> Json:
    return {"type": f"response.output_item.{step}", "output_index": 1, "item": item}


def check(answer: Answer, item: Json) -> None:
    """Hold an answer that consists of one item to the item's line."""
    says = ITEMS[type_of(item)]
    link = item.get("call_id") or item.get("id")
    name = named(item, says.call)
    runner = says.by if isinstance(says.by, str) else says.by(item)
    if isinstance(says.arguments, tuple):
        arguments = dumps({key: item[key] for key in says.arguments if item.get(key)})
    else:
        arguments = contents(item, says.arguments) or "{}"
    calls = [(call.call_id, call.name, call.type, call.executor, call.arguments) for call in answer.tool_calls]
    assert calls == ([(link, name, item["type"], runner, arguments)] if says.call else []), item

    result, failed = contents(item, says.result), has_failed(item)
    is_answered = runner == "server" and (result or failed or isinstance(item.get("output"), str))
    has_result = is_answered if says.call else says.result
    results = [(result.call_id, result.content, result.is_error is True) for result in answer.tool_results]
    assert results == ([(link, result, failed)] if has_result else []), item

    assert answer.text == texts(item, says.text), item
    assert answer.reasoning == texts(item, says.reasoning), item


def has_failed(item: Json) -> bool:
    """By its status, error, or outcome: the exit codes of instances are 1."""
    outcome = at(item, "output.0.outcome")
    return bool(item.get("status") in ("failed", "incomplete") or item.get("error") or outcome)


def test_every_item_of_an_answer_says_what_its_line_says():
    for item in all_of(*ITEMS_OF_ANSWERS):
        check(read_body({"object": "response", "status": "completed", "output": [item]}), item)
        check(read(CREATED, COMPLETED | {"response": COMPLETED["response"] | {"output": [item]}}), item)


def test_every_item_of_an_answer_is_read_however_early_its_stream_is_cut():
    for item in all_of(*ITEMS_OF_ANSWERS):
        events = [CREATED, item_event("added", item), item_event("done", item), COMPLETED]
        assert read(*events[:1]).tool_calls == []
        for n in range(2, 5):
            check(read(*events[:n]), item)


def test_every_item_of_a_request_says_what_its_line_says():
    for item in all_of(*ITEMS_OF_REQUESTS):
        kind, says = type_of(item), ITEMS[type_of(item)]
        facts = responses.read_request({"input": [item]})
        assert set(facts.tools) == set(tool_names(at(item, says.tools))) if says.tools else not facts.tools, item

        of_server = kind in ("program_output", "multi_agent_call_output") or item.get("execution") == "server"
        expected = [contents(item, says.result)] if says.result and not says.call and not of_server else []
        assert [result.content for result in facts.tool_results] == expected, item

        is_by = {"user": "user_prompt", "system": "system_prompt", "developer": "system_prompt"}
        prompts: dict[str, str | None] = {"user_prompt": None, "system_prompt": None}
        if kind == "message" and item["role"] in is_by:
            prompts[is_by[item["role"]]] = texts(item, says.text) or None
        assert {name: getattr(facts, name) for name in prompts} == prompts, item


def tool_names(tool: Json) -> list[str]:
    name = named(tool, TOOLS[tool.get("type", "")])
    members = [f"{name}.{member['name']}" for member in tool.get("tools", [])]
    return members if tool.get("type") == "namespace" else [name] if name else []


def test_every_tool_is_offered_under_the_name_of_its_line():
    for tool in all_of(*TOOLS_OFFERED):
        assert responses.read_request({"tools": [tool], "input": []}).tools == tool_names(tool), tool


def test_every_part_has_its_text_where_its_line_says():
    for part in all_of(*PARTS_GIVEN):
        place = PARTS[part["type"]]
        text = part[place] if place else ""
        item = {"type": "message", "role": "assistant", "content": [part]}
        assert read_body({"object": "response", "output": [item]}).text == text, part
        facts = responses.read_request({"input": [{"role": "user", "content": [part]}]})
        assert facts.user_prompt == (text or None), part


def events_of(union: Any) -> Iterator[Json]:
    """All instances of each event; of those that hold an item or a response, which other tests vary, the first two."""
    for member in members(union).values():
        event, *others = instances(member)
        yield event
        yield from others[:1] if {"item", "response"} & event.keys() else others


@pytest.mark.parametrize("union", STREAM_EVENTS, ids=["stream", "websocket", "beta-stream", "beta-websocket"])
def test_every_event_says_what_its_line_says(union):
    for event in events_of(union):
        says = EVENTS[event["type"]]
        read(event)  # also as the first one
        begun = {"type": says.item, "id": "item_1", "call_id": "call_1", "name": "tool", "server_label": "server"}
        before = [CREATED, item_event("added", begun)]
        check_event(read(*before, event), event, says, nothing=read(*before))


def check_event(answer: Answer, event: Json, says: Event, nothing: Answer) -> None:
    said = "".join(contents(event, place) for place in says.place.split("+"))
    match says.says:
        case "":
            assert answer == nothing, event
        case "text" | "reasoning":
            assert getattr(answer, says.says) == said, event
        case "arguments":
            assert [call.arguments for call in answer.tool_calls] == [said], event
        case "result":
            assert [result.content for result in answer.tool_results] == [said], event
        case "part":
            into = "reasoning" if event["part"]["type"] == "reasoning_text" else "text"
            assert getattr(answer, into) == event["part"][PARTS[event["part"]["type"]]], event
        case "failure":
            assert [(result.content, result.is_error) for result in answer.tool_results] == [("", True)], event
        case "item":
            check(read(CREATED, event), event["item"])
        case "error":
            assert answer.error is not None, event
            assert answer.error.message == (event.get("message") or event["error"].get("message")), event
            assert not answer.ended
        case "response" | "end":
            check_response(answer, event["response"], is_end=says.says == "end")


@pytest.mark.parametrize("kind", [stable.Response, beta.BetaResponse], ids=["stable", "beta"])
def test_every_response_is_read_whole_and_at_the_end_of_a_stream(kind):
    for response in instances(kind):
        check_response(read_body(response), response, is_end=True)
        check_response(read({"type": "response.completed", "response": response}), response, is_end=True)


def check_response(answer: Answer, response: Json, *, is_end: bool) -> None:
    assert (answer.response_id, answer.model) == (response["id"], response["model"])
    assert answer.service_tier == response.get("service_tier")
    assert answer.usage.input_tokens == at(response, "usage.input_tokens")
    assert answer.ended is is_end
    if error := response.get("error"):
        assert answer.error is not None
        assert answer.error.message == error["message"]
    if is_end:
        assert answer.finish_reason == (response.get("status") or answer.finish_reason)
        assert answer.finish_detail == at(response, "incomplete_details.reason")
        check(answer, response["output"][0])
        assert answer.usage_final is ("usage" in response and response["usage"] is not None)
        assert bool(answer.fees) is bool(response.get("tool_usage")), response


def test_the_tables_have_no_line_for_what_the_sdk_has_not():
    assert types_of(*ITEMS_OF_ANSWERS, *ITEMS_OF_REQUESTS) == set(ITEMS)
    assert {tool["type"] for tool in all_of(*TOOLS_OFFERED)} == set(TOOLS) - {""}
    assert types_of(*PARTS_GIVEN) == set(PARTS)
    assert types_of(*STREAM_EVENTS) == set(EVENTS)


def types_of(*unions: Any) -> set[str]:
    return {type_of(instance(member)) for union in unions for member in members(union).values()}
