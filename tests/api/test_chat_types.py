"""Every type that the newest OpenAI SDK knows for Chat Completions, and what it is to us.

The tables are kept by hand: each says what a field or member of a union is, and where in it that stands. A field or
member without a line fails, so that a new release of the SDK shows what is new.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from gateway_addon.api import chat_completions
from gateway_addon.api.base import Answer, Json, RequestFacts
from tests.api.sdk_types import fields, instances, members

openai = pytest.importorskip("openai", minversion="3.57")
sdk = openai.types.chat

type Row = tuple[str | None, ...]
"""What something is, and where that stands; a call: its id, name and arguments."""

NOTHING: Row = ("nothing",)

DELTA: dict[str, Row] = {
    "audio": ("text", "audio.transcript"),
    "content": ("text", "content"),
    "function_call": ("call", None, "function_call.name", "function_call.arguments"),
    "refusal": ("text", "refusal"),
    "role": NOTHING,
    "tool_calls": ("call", "tool_calls.0.id", "tool_calls.0.function.name", "tool_calls.0.function.arguments"),
}

MESSAGE: dict[str, Row] = {
    "annotations": NOTHING,
    "audio": ("text", "audio.transcript"),
    "content": ("text", "content"),
    "function_call": ("call", None, "function_call.name", "function_call.arguments"),
    "refusal": ("text", "refusal"),
    "role": NOTHING,
    "tool_calls": ("call", "tool_calls.0.id", "tool_calls.0.function.name", "tool_calls.0.function.arguments"),
}

TOOL_CALLS: dict[str, Row] = {
    "ChatCompletionMessageFunctionToolCall": ("call", "id", "function.name", "function.arguments"),
    "ChatCompletionMessageCustomToolCall": ("call", "id", "custom.name", "custom.input"),
}

CHOICE: dict[str, Row] = {
    "delta": ("see", "DELTA"),
    "finish_reason": ("finish_reason", "finish_reason"),
    "index": NOTHING,
    "logprobs": NOTHING,
    "message": ("see", "MESSAGE"),
}

ANSWER: dict[str, Row] = {
    "choices": ("see", "CHOICE"),
    "created": NOTHING,
    "id": ("response_id", "id"),
    "metadata": NOTHING,
    "model": ("model", "model"),
    "moderation": NOTHING,
    "object": NOTHING,
    "obfuscation": NOTHING,
    "service_tier": ("service_tier", "service_tier"),
    "system_fingerprint": NOTHING,
    "usage": ("reported_usage", "usage"),
}

USAGE: dict[str, Row] = {
    "completion_tokens": ("output_tokens", "completion_tokens"),
    "completion_tokens_details.accepted_prediction_tokens": NOTHING,
    "completion_tokens_details.audio_tokens": ("output_audio_tokens", "completion_tokens_details.audio_tokens"),
    "completion_tokens_details.reasoning_tokens": ("reasoning_tokens", "completion_tokens_details.reasoning_tokens"),
    "completion_tokens_details.rejected_prediction_tokens": NOTHING,
    "completion_tokens_details.text_tokens": NOTHING,
    "prompt_tokens": ("input_tokens", "prompt_tokens"),
    "prompt_tokens_details.audio_tokens": ("input_audio_tokens", "prompt_tokens_details.audio_tokens"),
    "prompt_tokens_details.cache_write_tokens": ("cache_write_tokens", "prompt_tokens_details.cache_write_tokens"),
    "prompt_tokens_details.cached_tokens": ("cache_read_tokens", "prompt_tokens_details.cached_tokens"),
    "prompt_tokens_details.image_tokens": NOTHING,
    "prompt_tokens_details.text_tokens": NOTHING,
    "total_tokens": NOTHING,
}

TOOLS: dict[str, Row] = {
    "ChatCompletionFunctionToolParam": ("tools", "function.name"),
    "ChatCompletionCustomToolParam": ("tools", "custom.name"),
}

MESSAGES_SENT: dict[str, Row] = {
    "ChatCompletionDeveloperMessageParam": ("system_prompt", "content"),
    "ChatCompletionSystemMessageParam": ("system_prompt", "content"),
    "ChatCompletionUserMessageParam": ("user_prompt", "content"),
    "ChatCompletionAssistantMessageParam": ("see", "ASSISTANT_SENT"),
    "ChatCompletionToolMessageParam": ("result", "tool_call_id", None, "content"),
    "ChatCompletionFunctionMessageParam": ("result", None, "name", "content"),
}

ASSISTANT_SENT: dict[str, Row] = {
    "audio": NOTHING,
    "content": NOTHING,
    "function_call": ("calls", "function_call.name"),
    "name": NOTHING,
    "refusal": NOTHING,
    "role": NOTHING,
    "tool_calls": ("see", "TOOL_CALLS_SENT"),
}

TOOL_CALLS_SENT: dict[str, Row] = {
    "ChatCompletionMessageFunctionToolCallParam": ("calls", "function.name"),
    "ChatCompletionMessageCustomToolCallParam": ("calls", "custom.name"),
}

PARTS_SENT: dict[str, Row] = {
    "ChatCompletionContentPartTextParam": ("user_prompt", "text"),
    "ChatCompletionContentPartImageParam": NOTHING,
    "ChatCompletionContentPartInputAudioParam": NOTHING,
    "File": NOTHING,
}


def leaves(kind: Any) -> dict[str, Any]:
    """The counts of a usage object by their places."""
    counts: dict[str, Any] = {}
    for name, field in fields(kind).items():
        inner = {sub: part for member in members(field).values() for sub, part in fields(member).items()}
        counts |= {f"{name}.{sub}": part for sub, part in inner.items()} or {name: field}
    return counts


TABLES: dict[str, tuple[dict[str, Row], dict[str, Any]]] = {
    "DELTA": (DELTA, fields(sdk.chat_completion_chunk.ChoiceDelta)),
    "MESSAGE": (MESSAGE, fields(sdk.ChatCompletionMessage)),
    "TOOL_CALLS": (TOOL_CALLS, members(sdk.ChatCompletionMessageToolCallUnion)),
    "CHOICE": (CHOICE, fields(sdk.chat_completion_chunk.Choice) | fields(sdk.chat_completion.Choice)),
    "ANSWER": (ANSWER, fields(sdk.ChatCompletionChunk) | fields(sdk.ChatCompletion)),
    "USAGE": (USAGE, leaves(openai.types.CompletionUsage)),
    "TOOLS": (TOOLS, members(sdk.ChatCompletionToolUnionParam)),
    "MESSAGES_SENT": (MESSAGES_SENT, members(sdk.ChatCompletionMessageParam)),
    "ASSISTANT_SENT": (ASSISTANT_SENT, fields(sdk.ChatCompletionAssistantMessageParam)),
    "TOOL_CALLS_SENT": (TOOL_CALLS_SENT, members(sdk.ChatCompletionMessageToolCallUnionParam)),
    "PARTS_SENT": (PARTS_SENT, members(sdk.ChatCompletionContentPartParam)),
}
"""Each table, and what the SDK has of its kind."""


@pytest.mark.parametrize("table", TABLES)
def test_every_type_has_a_line(table: str):
    lines, kinds = TABLES[table]
    assert set(kinds) - set(lines) == set()


def rows(table: str) -> pytest.MarkDecorator:
    """One case for each line of a table: the name of the field or member, its type, and what it is to us."""
    lines, kinds = TABLES[table]
    cases = [pytest.param(name, kinds[name], row, id=name) for name, row in lines.items() if name in kinds]
    return pytest.mark.parametrize(("name", "kind", "row"), cases)


def at(value: Any, path: str | None) -> Any:
    """What stands at a place; None where there is nothing."""
    for step in path.split(".") if path else ():
        if isinstance(value, list):
            value = value[int(step)] if value else None
        else:
            value = value.get(step) if isinstance(value, dict) else None
    return value if path else None


def content(value: Any) -> str:
    """The text of a message's content: a string, or text parts."""
    return value if isinstance(value, str) else "".join(part.get("text", "") for part in value or ())


def answers(events: list[Json]) -> Iterator[Answer]:
    """The answer of a stream cut after each of its events."""
    for end in range(len(events) + 1):
        reader = chat_completions.reader(RequestFacts())
        for event in events[:end]:
            reader.event(event)
        yield reader.finish()


def whole_answer(body: Json) -> Answer:
    reader = chat_completions.reader(RequestFacts())
    reader.body(body)
    return reader.finish()


def content_of(answer: Answer) -> Json:
    calls = [(call.call_id, call.name, call.arguments) for call in answer.tool_calls]
    return {"text": answer.text, "reasoning": answer.reasoning, "calls": calls, "results": answer.tool_results}


def expected_content(row: Row, value: Json) -> Json:
    what, *places = row
    found = [at(value, place) for place in places]
    expected: Json = {"text": "", "reasoning": "", "calls": [], "results": []}
    if what == "text":
        expected["text"] = found[0] or ""
    elif what == "call" and any(value.values()):
        expected["calls"] = [(found[0], found[1], found[2] or "{}")]
    return expected


@rows("DELTA")
def test_what_a_delta_adds(name: str, kind: Any, row: Row):
    for value in instances(kind, name):
        events = [
            {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": end}]}
            for delta, end in (({"role": "assistant"}, None), ({name: value}, None), ({}, "stop"))
        ]
        before, opened, *rest = map(content_of, answers(events))
        assert before == opened == expected_content(NOTHING, {})
        assert rest == [expected_content(row, {name: value})] * 2


@rows("MESSAGE")
def test_what_a_message_says(name: str, kind: Any, row: Row):
    for value in instances(kind, name):
        if name == "tool_calls" and value and value[0]["type"] != "function":
            continue  # see TOOL_CALLS
        answer = whole_answer({"choices": [{"index": 0, "message": {name: value}}]})
        assert content_of(answer) == expected_content(row, {name: value})


@rows("TOOL_CALLS")
def test_what_is_a_call(name: str, kind: Any, row: Row):
    for value in instances(kind):
        message = {"tool_calls": [value]}
        assert content_of(whole_answer({"choices": [{"message": message}]})) == expected_content(row, value)
        *_, streamed = answers([{"choices": [{"delta": message}]}])
        assert content_of(streamed) == expected_content(row, value)
        assert [call.type for call in streamed.tool_calls] == [value["type"]]


@rows("CHOICE")
def test_what_a_choice_says(name: str, kind: Any, row: Row):
    for value in instances(kind, name):
        *_, streamed = answers([{"choices": [{name: value}]}])
        whole = whole_answer({"choices": [{name: value}]})
        for answer in (streamed, whole):
            assert answer.finish_reason == (value if row[0] == "finish_reason" else None)
            assert row[0] == "see" or content_of(answer) == expected_content(NOTHING, {})


@rows("ANSWER")
def test_what_an_answer_says(name: str, kind: Any, row: Row):
    nothing = whole_answer({"object": "chat.completion"})
    for value in instances(kind, name):
        body = {"object": "chat.completion", name: value}
        *_, streamed = answers([body])
        for answer in (streamed, whole_answer(body)):
            for field in ("response_id", "model", "service_tier", "reported_usage"):
                assert getattr(answer, field) == (value if field == row[0] else None)
            assert answer.error is None
            assert row[0] == "see" or content_of(answer) == content_of(nothing)


@rows("USAGE")
def test_what_a_usage_counts(name: str, kind: Any, row: Row):
    holder, _, count = name.rpartition(".")
    usage: Json = {count: 7}
    if holder:
        usage = {holder: usage}
    answer = whole_answer({"choices": [], "usage": usage})
    found = {field for field in answer.usage.__slots__ if getattr(answer.usage, field) is not None}
    assert found == ({row[0]} - {"nothing"})
    assert answer.fees == {}


@rows("TOOLS")
def test_what_a_tool_is_called(name: str, kind: Any, row: Row):
    for value in instances(kind):
        assert chat_completions.read_request({"tools": [value]}).tools == [at(value, row[1])]


def test_the_tools_of_old():
    function = members(sdk.completion_create_params.Function)["Function"]
    for value in instances(function):
        assert chat_completions.read_request({"functions": [value]}).tools == ["name"]


def said(message: Json) -> Json:
    facts = chat_completions.read_request({"messages": [message]})
    found: Json = {"system_prompt": facts.system_prompt, "user_prompt": facts.user_prompt}
    found["calls"] = [name for _, name in chat_completions._calls_made(message) if name]
    found["results"] = [(result.call_id, result.name, result.content) for result in facts.tool_results]
    return {name: value for name, value in found.items() if value}


@rows("MESSAGES_SENT")
def test_what_a_message_of_a_request_says(name: str, kind: Any, row: Row):
    what, *places = row
    for value in instances(kind):
        if what == "result":
            call_id, function, result = (at(value, place) for place in places)
            assert said(value) == {"results": [(call_id, function, content(result))]}
        elif what != "see":
            text = content(at(value, places[0]))
            assert said(value) == ({what: text} if text else {})
        else:
            said(value)


@rows("ASSISTANT_SENT")
def test_what_an_assistant_message_of_a_request_says(name: str, kind: Any, row: Row):
    for value in instances(kind, name):
        message = {"role": "assistant", name: value}
        used = at(message, row[1]) if row[0] == "calls" else None
        assert row[0] == "see" or said(message) == ({"calls": [used]} if used else {})


@rows("TOOL_CALLS_SENT")
def test_what_is_a_call_in_a_request(name: str, kind: Any, row: Row):
    for value in instances(kind):
        assert said({"role": "assistant", "tool_calls": [value]}) == {"calls": [at(value, row[1])]}


@rows("PARTS_SENT")
def test_what_a_part_of_a_message_says(name: str, kind: Any, row: Row):
    for value in instances(kind):
        assert said({"role": "user", "content": [value]}) == ({} if row == NOTHING else {row[0]: at(value, row[1])})
