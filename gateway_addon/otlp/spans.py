"""Finished calls as spans: a call is one, and so is a tool that a client ran between two calls. No I/O, no clock.

The ids are hashes of what they stand for, so that whoever makes the spans of a call again makes the same. A trace is a
person's turn: the calls from a prompt to the next. A session is an attribute: as a trace it would last for days.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from gateway_addon.api import KINDS
from gateway_addon.otlp import names
from gateway_addon.record import Record, from_row
from gateway_addon.times import seconds

Row = Mapping[str, Any]
Value = str | bool | int | float | Sequence[str]

FAILED = frozenset({"stream_error", "http_error", "unreadable", "upstream_cut", "rejected"})
"""Outcomes that are errors; that a client hangs up, or the proxy ends, is none."""

MAX_TEXT = 64_000
"""Characters that are sent of one text."""


class Context(NamedTuple):
    """What tells a span from every other."""

    trace_id: int
    span_id: int


@dataclass(slots=True, frozen=True, kw_only=True)
class Span:
    """A span as values. Times are nanoseconds since the epoch."""

    name: str
    kind: Literal["client", "internal"]
    context: Context
    parent: Context | None
    parent_is_remote: bool = False
    """The parent is a span of the client's own."""
    links: tuple[Context, ...] = ()
    start: int
    end: int
    attributes: Mapping[str, Value]
    failed: bool = False
    message: str | None = None
    """What a failure says of itself; text, like prompts."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Texts:
    """The texts of a call and of its tools, without the secrets that were in them (`cleaned`)."""

    of_call: Row
    """As `finished.texts_of`."""
    of_tools: Sequence[tuple[str | None, str | None]]
    """Arguments and result of each of the row's `executed`."""


def spans(row: Row, texts: Texts | None = None) -> Iterator[Span]:
    """The spans of a row of `finished.finished`. `texts`: send them, too."""
    record = from_row(row)
    yield _call(record, row, texts)
    for number, tool in enumerate(row["executed"]):
        yield _tool(tool, texts.of_tools[number] if texts and tool["has_texts"] else None)


def cleaned(value: Any, clean: Callable[[str], str]) -> Any:
    """A value with every text in it cleaned, and cut to `MAX_TEXT` after that."""
    match value:
        case str():
            text = clean(value)
            return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}… {len(text) - MAX_TEXT} more characters"
        case Mapping():
            return {name: cleaned(item, clean) for name, item in value.items()}
        case list() | tuple():
            return type(value)(cleaned(item, clean) for item in value)
    return value


def _call(record: Record, row: Row, texts: Texts | None) -> Span:
    remote = _remote(record.traceparent)
    trace_id = _trace_id(record.traceparent, row["turn_id"], row["turn_traceparent"])
    first = Context(trace_id, _span_id("call", row["turn_id"]))
    context = Context(trace_id, _span_id("call", record.id))
    links: tuple[Context, ...] = ()
    if before := row["previous_turn_id"]:
        links = (Context(_trace_id(None, before, row["previous_traceparent"]), _span_id("call", before)),)
    start = _nanoseconds(record.started_at)
    failed = record.outcome in FAILED
    attributes = _attributes(record, row)
    if failed:
        attributes[names.ERROR_TYPE] = record.error_type or str(record.http_status or record.outcome)
    if texts and row["has_texts"]:
        attributes |= _messages(record, texts.of_call, begins=row["turn_id"] == record.id)
    return Span(
        name=f"{names.CHAT} {attributes.get(names.REQUEST_MODEL) or ''}".rstrip(),
        kind="client",
        context=context,
        parent=remote or (first if first != context else None),
        parent_is_remote=remote is not None,
        links=links,
        start=start,
        end=start + _nanoseconds((record.duration_ms or 0) / 1000),
        attributes=attributes,
        failed=failed,
        message=texts.of_call["error_message"] if failed and texts and row["has_texts"] else None,
    )


def _tool(tool: Row, texts: tuple[str | None, str | None] | None) -> Span:
    """What a client did between the end of the call that asked for it and the start of the one with the result."""
    trace_id = _trace_id(tool["traceparent"], tool["turn_id"], tool["turn_traceparent"])
    start = _nanoseconds(seconds(tool["started_at"]) + (tool["duration_ms"] or 0) / 1000)
    attributes = {
        names.OPERATION: names.EXECUTE_TOOL,
        names.TOOL_NAME: tool["name"],
        names.TOOL_CALL_ID: tool["call_id"],
        names.TOOL_TYPE: names.FUNCTION,
        names.CONVERSATION: tool["session_id"],
        names.REQUEST_ID: tool["request_id"],
        names.ERROR_TYPE: names.OTHER_ERROR if tool["is_error"] else None,
    }
    if texts:
        attributes |= dict(zip((names.TOOL_ARGUMENTS, names.TOOL_RESULT), texts, strict=True))
    return Span(
        name=f"{names.EXECUTE_TOOL} {tool['name'] or ''}".rstrip(),
        kind="internal",
        context=Context(trace_id, _span_id("tool", tool["request_id"], str(tool["position"]))),
        parent=Context(trace_id, _span_id("call", tool["request_id"])),
        start=start,
        end=max(start, _nanoseconds(seconds(tool["answered_at"]))),
        attributes=_known(attributes),
        failed=bool(tool["is_error"]),
    )


def _attributes(record: Record, row: Row) -> dict[str, Value]:
    columns = names.OF_COLUMN | {names.OWN + column: column for column in names.OWN_COLUMNS}
    attributes = {name: _value(record, column) for name, column in columns.items()}
    attributes |= {
        names.OPERATION: names.CHAT,
        names.PROVIDER: record.provider or record.dialect or KINDS[record.api_kind].VENDOR,
        names.CONVERSATION: record.session_id,
        names.REQUEST_MODEL: record.upstream_model or record.request_model,
        # or it is the session that the request continues
        names.PREVIOUS_RESPONSE: record.previous_id if record.previous_id != record.session_id else None,
        names.FINISH_REASONS: [record.finish_reason] if record.finish_reason else None,
        names.REQUEST_ID: record.id,
    }
    if record.time_to_first_byte_ms is not None:
        attributes[names.TIME_TO_FIRST_CHUNK] = record.time_to_first_byte_ms / 1000
    if found := row["cache_break"]:
        attributes[names.BREAK_TOKENS] = found["rewritten_tokens"]
        attributes[names.BREAK_COST] = found["cost_microdollars"]
    return _known(attributes)


def _value(record: Record, column: str) -> Any:
    value = getattr(record, column)
    if value is not None and column in names.BOOLEANS:
        return bool(value)
    # a list that is empty says nothing
    return (list(value) or None) if isinstance(value, tuple) else value


def _known(attributes: Mapping[str, Any]) -> dict[str, Value]:
    """What is not known is left out."""
    return {name: value for name, value in attributes.items() if value is not None}


def _messages(record: Record, texts: Row, *, begins: bool) -> dict[str, Value]:
    """What a call had to say: its prompt and the results it brought, and the answer. The rest of its history is in the
    calls before it, and the system prompt with the call that begins a turn."""
    told = [{"role": "user", "parts": [_text("text", texts["user_prompt"])]}] if texts["user_prompt"] else []
    for result in texts["tool_results"]:
        brought = {"type": "tool_call_response", "id": result["call_id"] or None, "response": result["result"]}
        # a message each: of several in one, some backends show the last
        told.append({"role": "tool", "parts": [brought]})
    answered = [_text(kind, texts[name]) for kind, name in _ANSWER.items() if texts[name]]
    answered += [
        {"type": "tool_call", "id": call["call_id"], "name": call["name"], "arguments": call["arguments"]}
        for call in texts["tool_calls"]
    ]
    found: dict[str, Value] = {}
    if begins and texts["system_prompt"]:
        found[names.SYSTEM_INSTRUCTIONS] = _json([_text("text", texts["system_prompt"])])
    if told:
        found[names.INPUT_MESSAGES] = _json(told)
    if answered:
        answer = {"role": "assistant", "parts": answered, "finish_reason": record.finish_reason or "error"}
        found[names.OUTPUT_MESSAGES] = _json([answer])
    return found


_ANSWER = {"reasoning": "reasoning_text", "text": "answer_text"}


def _text(kind: str, content: str) -> dict[str, Any]:
    return {"type": kind, "content": content}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})(?P<trace>[0-9a-f]{32})-(?!0{16})(?P<span>[0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?"
)


def _remote(traceparent: str | None) -> Context | None:
    """The client's own span, if it names one as https://www.w3.org/TR/trace-context/ has it."""
    found = _TRACEPARENT.fullmatch((traceparent or "").strip())
    return Context(int(found["trace"], 16), int(found["span"], 16)) if found else None


def _trace_id(traceparent: str | None, turn_id: str, turn_traceparent: str | None) -> int:
    """The client's trace, if it names one here or where the turn began; else the turn's own."""
    remote = _remote(traceparent) or _remote(turn_traceparent)
    return remote.trace_id if remote else _hash(16, "turn", turn_id)


def _span_id(*named: str) -> int:
    return _hash(8, *named)


def _hash(size: int, *named: str) -> int:
    digest = hashlib.sha256("\0".join(named).encode("utf-8", "replace")).digest()
    # zero means no id
    return int.from_bytes(digest[:size]) or 1


def _nanoseconds(time: float) -> int:
    # a thousandth of a millisecond is all that a float still tells of a time since the epoch
    return round(time * 1_000_000) * 1000
