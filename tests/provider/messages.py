"""Messages on the wire."""

import json
from collections.abc import Callable
from dataclasses import replace

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

NAME = "messages"
SUFFIX = "/messages"
REQUEST_ID_HEADER = "request-id"

STOP_REASON = {"tool_calls": "tool_use", "length": "max_tokens", "content_filter": "refusal"}
"""By finish; any other finish is `end_turn`."""

ACCEPTED_KEYS = {
    *("model", "messages", "max_tokens", "system", "stream", "stop_sequences", "temperature", "top_p", "top_k"),
    *("tools", "tool_choice", "thinking", "output_config", "metadata", "service_tier", "cache_control"),
    *("container", "inference_geo", "speed", "diagnostics"),
}
"""Top-level keys that the native API accepts without a beta header."""


def body(answer: Answer) -> Json:
    if answer.error:
        return error_body(answer.error)
    metadata = {"provider_metadata": {"gateway": answer.gateway}} if answer.gateway else {}
    content = [block for block, _ in _blocks(answer)]
    message = _message(answer) | {"content": content, "stop_reason": _stop_reason(answer)}
    return message | usage_field(answer, _usage) | metadata


def events(answer: Answer) -> list[bytes]:
    return sse.keep_alives(answer.keep_alives) + list(map(sse.typed, _events(answer)))


def error_body(error: Error) -> Json:
    return {"type": "error", "error": {"type": error.type, "message": error.message}, "request_id": "req_toy"}


def read(body: Json) -> Asked:
    return read_history(
        objects(body.get("messages")),
        [body.get("system"), body.get("tools")],
        [tool["name"] for tool in objects(body.get("tools")) if "name" in tool],
        is_prompt=lambda message: message.get("role") == "user" and not _results_in(message),
        is_answer=lambda message: message.get("role") == "assistant",
        results_in=_results_in,
    )


def refused_key(body: Json) -> str | None:
    """The first thing in a request that a strict back end refuses, as a path: `reasoning`, `metadata.session`."""
    metadata = body.get("metadata")
    keys = [key for key in body if key not in ACCEPTED_KEYS]
    if isinstance(metadata, dict):
        keys += [f"metadata.{key}" for key in metadata if key != "user_id"]
    return keys[0] if keys else None


def _results_in(message: Json) -> int:
    return sum(block.get("type") == "tool_result" for block in objects(message.get("content")))


def _events(answer: Answer) -> list[Json]:
    error = answer.error
    if error and error.place == "first":
        return [error_body(error)]
    start = usage_field(replace(answer, billing={}), _start_usage(answer))
    events: list[Json] = [{"type": "message_start", "message": _message(answer) | start}, {"type": "ping"}]
    blocks = _blocks(answer)
    calls = [index for index, (block, _) in enumerate(blocks) if block["type"] == "tool_use"]
    for index, (block, deltas) in enumerate(blocks):
        if index not in calls:
            events += [_start(index, block), *(_delta(index, delta) for delta in deltas), _stop(index)]
    events += [_start(index, blocks[index][0] | {"input": {}}) for index in calls]
    events += [
        _delta(calls[position], {"type": "input_json_delta", "partial_json": part})
        for position, part in argument_deltas(answer.tool_calls)
    ]
    events += [_stop(index) for index in calls]
    if error and error.place in {"middle", "finish"}:
        return [*events, error_body(error)]
    metadata = {"provider_metadata": {"gateway": answer.gateway}} if answer.gateway else {}
    delta = {"stop_reason": _stop_reason(answer), "stop_sequence": None}
    final = {"type": "message_delta", "delta": delta} | usage_field(answer, _final_usage(answer)) | metadata
    last = error_body(error) if error else {"type": "message_stop"}
    return [*events, final, last]


def _start_usage(answer: Answer) -> Callable[[Usage], Json]:
    """The start knows the input only; behind Vercel it knows nothing and says zeros."""
    if answer.gateway:
        return lambda usage: {"input_tokens": 0, "output_tokens": 0}
    return lambda usage: _usage(usage) | {"output_tokens": 1}


def _final_usage(answer: Answer) -> Callable[[Usage], Json]:
    """The final usage repeats the input only where the start did not know it."""
    return _usage if answer.gateway else lambda usage: {"output_tokens": usage.output}


def _message(answer: Answer) -> Json:
    return {
        "id": f"msg_{answer.id}",
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _stop_reason(answer: Answer) -> str:
    return "refusal" if answer.refusal else STOP_REASON.get(answer.finish, "end_turn")


def _blocks(answer: Answer) -> list[tuple[Json, list[Json]]]:
    """Each finished content block with the deltas that stream it (those of tool calls are interleaved elsewhere)."""
    block: Json
    blocks: list[tuple[Json, list[Json]]] = []
    if answer.reasoning:
        block = {"type": "thinking", "thinking": answer.reasoning, "signature": "c2lnbmVk"}
        deltas: list[Json] = [{"type": "thinking_delta", "thinking": part} for part in words(answer.reasoning)]
        blocks.append((block, [*deltas, {"type": "signature_delta", "signature": "c2lnbmVk"}]))
    if said := answer.text or answer.refusal:
        blocks.append(({"type": "text", "text": said}, [{"type": "text_delta", "text": part} for part in words(said)]))
    for i, call in enumerate(answer.tool_calls):
        block = {"type": "tool_use", "id": f"toolu_{answer.id}_{i}", "name": call.name, "input": _input(call.arguments)}
        blocks.append((block, []))
    return blocks


def _start(index: int, block: Json) -> Json:
    emptied = block | {key: "" for key in ("text", "thinking", "signature") if key in block}
    return {"type": "content_block_start", "index": index, "content_block": emptied}


def _delta(index: int, delta: Json) -> Json:
    return {"type": "content_block_delta", "index": index, "delta": delta}


def _stop(index: int) -> Json:
    return {"type": "content_block_stop", "index": index}


def _input(arguments: str) -> Json:
    """The arguments as the object that a whole answer holds; one that was cut off is left empty."""
    try:
        parsed = json.loads(arguments or "{}")
    except ValueError:
        return {}
    assert isinstance(parsed, dict)
    return parsed


def _usage(usage: Usage) -> Json:
    return {
        "input_tokens": usage.input - usage.cache_read - usage.cache_write,
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation_input_tokens": usage.cache_write,
        "cache_creation": {"ephemeral_5m_input_tokens": usage.cache_write, "ephemeral_1h_input_tokens": 0},
        "output_tokens": usage.output,
        "output_tokens_details": {"thinking_tokens": usage.reasoning},
        "service_tier": "standard",
    }
