"""Chat Completions on the wire.

Usage is sent whether or not the client asks for it, as OpenRouter does.
"""

from collections.abc import Sequence

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

NAME = "chat_completions"
SUFFIX = "/chat/completions"
REQUEST_ID_HEADER = "x-request-id"


def body(answer: Answer) -> Json:
    if answer.error and answer.error.place != "finish":
        return error_body(answer.error)
    message: Json = {"role": "assistant", "content": answer.text or None, "refusal": answer.refusal or None}
    if answer.reasoning:
        message |= _reasoning(answer.reasoning)
    if answer.tool_calls:
        message["tool_calls"] = [
            _tool_call(answer, i) | {"function": {"name": call.name, "arguments": call.arguments}}
            for i, call in enumerate(answer.tool_calls)
        ]
    message |= _metadata(answer)
    choice = {"index": 0, "finish_reason": _finish_reason(answer), "message": message} | _choice_error(answer)
    return _envelope(answer, "chat.completion", [choice]) | usage_field(answer, _usage) | _generation(answer)


def events(answer: Answer) -> list[bytes]:
    return sse.keep_alives(answer.keep_alives) + list(map(sse.event, _chunks(answer))) + [sse.DONE]


def error_body(error: Error) -> Json:
    return SHAPES[error.vendor or "openai"](error)


def read(body: Json) -> Asked:
    tools = [tool["function"]["name"] for tool in objects(body.get("tools")) if tool.get("type") == "function"]
    return read_history(
        objects(body.get("messages")),
        body.get("tools"),
        tools,
        is_prompt=lambda message: message.get("role") == "user",
        is_answer=lambda message: message.get("role") == "assistant",
        results_in=lambda message: message.get("role") == "tool",
    )


def _chunks(answer: Answer) -> list[Json]:
    error = answer.error
    if error and error.place == "first":
        return [error_body(error)]
    deltas: list[Json] = [{"role": "assistant", "content": ""}]
    deltas += [_reasoning(part) for part in words(answer.reasoning)]
    deltas += [{"content": part} for part in words(answer.text)]
    deltas += [{"refusal": part} for part in words(answer.refusal)]
    deltas += [
        {"tool_calls": [{"index": i} | _tool_call(answer, i) | {"function": {"name": call.name, "arguments": ""}}]}
        for i, call in enumerate(answer.tool_calls)
    ]
    deltas += [
        {"tool_calls": [{"index": i, "function": {"arguments": part}}]}
        for i, part in argument_deltas(answer.tool_calls)
    ]
    chunks = [_chunk(answer, delta) for delta in deltas]
    if error and error.place == "middle":
        return [*chunks, _chunk(answer, {}, "error") | error_body(error)]
    chunks.append(_chunk(answer, _metadata(answer), _finish_reason(answer)))
    chunks[-1]["choices"][0] |= _choice_error(answer)
    usage = usage_field(answer, _usage)
    if error and error.place == "after-finish":
        return [*chunks, _chunk(answer, {"content": ""}) | error_body(error) | usage]
    if answer.gateway:  # Vercel reports everything on the finish chunk
        chunks[-1] |= usage | _generation(answer)
    elif usage:
        chunks.append(_envelope(answer, "chat.completion.chunk", []) | usage)
    return chunks


def _envelope(answer: Answer, type_: str, choices: Sequence[Json]) -> Json:
    served_by = {"provider": answer.inference_provider} if answer.inference_provider else {}
    id_ = f"gen-{answer.id}" if answer.billing else f"chatcmpl-{answer.id}"
    return {"id": id_, "object": type_, "created": 1790000000, "model": answer.model} | served_by | {"choices": choices}


def _chunk(answer: Answer, delta: Json, finish_reason: str | None = None) -> Json:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return _envelope(answer, "chat.completion.chunk", [choice])


def _finish_reason(answer: Answer) -> str:
    if answer.error and answer.error.place == "finish":
        return "error"
    return {"queued": "stop"}.get(answer.finish, answer.finish)


def _choice_error(answer: Answer) -> Json:
    if answer.error and answer.error.place == "finish":
        return {"error": {"code": answer.error.status, "message": answer.error.message}}
    return {}


def _tool_call(answer: Answer, position: int) -> Json:
    return {"id": f"call_{answer.id}_{position}", "type": "function"}


def _reasoning(text: str) -> Json:
    """The same text twice, as OpenRouter sends it."""
    return {"reasoning": text, "reasoning_details": [{"type": "reasoning.text", "index": 0, "text": text}]}


def _metadata(answer: Answer) -> Json:
    return {"provider_metadata": {"gateway": answer.gateway}} if answer.gateway else {}


def _generation(answer: Answer) -> Json:
    return {"generationId": answer.gateway["generationId"]} if answer.gateway else {}


def _usage(usage: Usage) -> Json:
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read, "cache_write_tokens": usage.cache_write},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }
