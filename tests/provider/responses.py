"""Responses on the wire."""

import json
from itertools import count

from tests.provider import sse
from tests.provider.answer import (
    Answer,
    Asked,
    Error,
    Json,
    Usage,
    argument_deltas,
    objects,
    read_history,
    usage_field,
    words,
)
from tests.provider.errors import SHAPES

NAME = "responses"
SUFFIX = "/responses"
REQUEST_ID_HEADER = "x-request-id"

STATUS = {
    "length": ("incomplete", "max_output_tokens"),
    "content_filter": ("incomplete", "content_filter"),
    "queued": ("queued", None),
}
"""Status and reason by finish; any other finish is `completed`."""


def body(answer: Answer) -> Json:
    if answer.error and answer.error.place != "finish":
        return error_body(answer.error)
    return _final(answer)


def events(answer: Answer) -> list[bytes]:
    numbers = count()
    numbered = [sse.typed(event | {"sequence_number": next(numbers)}) for event in _events(answer)]
    return sse.keep_alives(answer.keep_alives) + numbered


def error_body(error: Error) -> Json:
    return SHAPES[error.vendor or "openai"](error)


def read(body: Json) -> Asked:
    input_ = body.get("input")
    turns = [{"role": "user", "content": input_}] if isinstance(input_, str) else objects(input_)
    return read_history(
        turns,
        [body.get("instructions"), body.get("tools")],
        [tool["name"] for tool in objects(body.get("tools")) if tool.get("type") == "function"],
        is_prompt=lambda item: item.get("role") == "user",
        is_answer=lambda item: item.get("role") == "assistant" or item.get("type") in {"reasoning", "function_call"},
        results_in=lambda item: item.get("type") == "function_call_output",
    )


def _events(answer: Answer) -> list[Json]:
    error = answer.error
    if error and error.place == "first":
        return [_flat_error(error)]
    opening = _response(answer, "queued" if answer.finish == "queued" else "in_progress")
    events: list[Json] = [{"type": "response.created", "response": opening}]
    events.append({"type": "response.in_progress", "response": opening})
    items = _output(answer)
    for index, item in enumerate(items):
        events += _ITEM_EVENTS[item["type"]](index, item)
    calls = [(index, item) for index, item in enumerate(items) if item["type"] == "function_call"]
    events += [_added(index, item | {"arguments": "", "status": "in_progress"}) for index, item in calls]
    for position, part in argument_deltas(answer.tool_calls):
        index, item = calls[position]
        events.append(
            {
                "type": "response.function_call_arguments.delta",
                "output_index": index,
                "item_id": item["id"],
                "delta": part,
            }
        )
    for index, item in calls:
        arguments_done = {
            "type": "response.function_call_arguments.done",
            "output_index": index,
            "item_id": item["id"],
            "name": item["name"],
            "arguments": item["arguments"],
        }
        events += [arguments_done, _done(index, item)]
    if error and error.place == "middle":
        nested = {"type": "error", "error": {"type": error.type, "code": error.type, "message": error.message}}
        return [*events, nested, {"type": "response.failed", "response": _failed(answer, error)}]
    final = _final(answer)
    if final["status"] != "queued":
        events.append({"type": f"response.{final['status']}", "response": final})
    if error and error.place == "after-finish":
        events.append(_flat_error(error))
    return events


def _added(index: int, item: Json) -> Json:
    return {"type": "response.output_item.added", "output_index": index, "item": item}


def _done(index: int, item: Json) -> Json:
    return {"type": "response.output_item.done", "output_index": index, "item": item}


def _reasoning_events(index: int, item: Json) -> list[Json]:
    place = {"output_index": index, "item_id": item["id"], "summary_index": 0}
    (part,) = item["summary"]
    deltas = [{"type": "response.reasoning_summary_text.delta", "delta": word} for word in words(part["text"])]
    parts: list[Json] = [
        {"type": "response.reasoning_summary_part.added", "part": {"type": "summary_text", "text": ""}},
        *deltas,
        {"type": "response.reasoning_summary_text.done", "text": part["text"]},
        {"type": "response.reasoning_summary_part.done", "part": part},
    ]
    return [_added(index, item | {"summary": []}), *(event | place for event in parts), _done(index, item)]


def _message_events(index: int, item: Json) -> list[Json]:
    place = {"output_index": index, "item_id": item["id"], "content_index": 0}
    (part,) = item["content"]
    key, type_ = ("refusal", "refusal") if part["type"] == "refusal" else ("text", "output_text")
    parts: list[Json] = [
        {"type": "response.content_part.added", "part": part | {key: ""}},
        *({"type": f"response.{type_}.delta", "delta": word} for word in words(part[key])),
        {"type": f"response.{type_}.done", key: part[key]},
        {"type": "response.content_part.done", "part": part},
    ]
    opening = item | {"content": [], "status": "in_progress"}
    return [_added(index, opening), *(event | place for event in parts), _done(index, item)]


_ITEM_EVENTS = {
    "reasoning": _reasoning_events,
    "message": _message_events,
    "function_call": lambda index, item: [],  # calls run in parallel: their events are interleaved in _events
}


def _output(answer: Answer) -> list[Json]:
    items: list[Json] = []
    if answer.reasoning:
        summary = [{"type": "summary_text", "text": answer.reasoning}]
        items.append({"type": "reasoning", "id": f"rs_{answer.id}", "summary": summary})
    if answer.text or answer.refusal:
        part: Json = {"type": "output_text", "text": answer.text, "annotations": []}
        if answer.refusal:
            part = {"type": "refusal", "refusal": answer.refusal}
        message = {"type": "message", "id": f"msg_{answer.id}", "status": "completed", "role": "assistant"}
        items.append(message | {"content": [part]})
    items += [
        {
            "type": "function_call",
            "id": f"fc_{answer.id}_{i}",
            "call_id": f"call_{answer.id}_{i}",
            "name": call.name,
            "arguments": call.arguments or "{}",
            "status": "incomplete" if answer.finish == "length" else "completed",
        }
        for i, call in enumerate(answer.tool_calls)
    ]
    return items


def _final(answer: Answer) -> Json:
    if answer.error and answer.error.place == "finish":
        return _failed(answer, answer.error)
    status, reason = STATUS.get(answer.finish, ("completed", None))
    if status == "queued":
        return _response(answer, status)
    metadata = {"provider_metadata": {"gateway": answer.gateway}} if answer.gateway else {}
    details = {"reason": reason} if reason else None
    final = {"output": _output(answer), "incomplete_details": details}
    return _response(answer, status) | final | usage_field(answer, _usage) | metadata


def _failed(answer: Answer, error: Error) -> Json:
    return _response(answer, "failed") | {"error": {"code": error.type, "message": error.message}}


def _response(answer: Answer, status: str) -> Json:
    """The response object without anything the model said."""
    return {
        "id": f"resp_{answer.id}",
        "object": "response",
        "created_at": 1790000000,
        "status": status,
        "model": answer.model,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": None,
    }


def _flat_error(error: Error) -> Json:
    return {"type": "error", "code": error.type, "message": error.message, "param": None}


def _usage(usage: Usage) -> Json:
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cache_read, "cache_write_tokens": usage.cache_write},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.input + usage.output,
    }


def without_final_output(pieces: list[bytes]) -> list[bytes]:
    """An edit of a delivery: the terminal event says `output: []`, as the ChatGPT back end does."""
    *others, last = pieces
    name, _, data = last.partition(b"\ndata: ")
    if name != b"event: response.completed":
        return pieces
    event = json.loads(data)
    event["response"]["output"] = []
    return [*others, sse.typed(event)]
