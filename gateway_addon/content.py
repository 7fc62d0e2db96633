"""The texts that go with a record (`Content`), and what the option `gateway_content` lets through to the disk of
record and texts (`limited`)."""

import json
import re
from dataclasses import dataclass, field, replace
from typing import Any

from gateway_addon import api
from gateway_addon.api.base import Operation, ToolCall, ToolResult
from gateway_addon.api.errors import is_known_type
from gateway_addon.record import Record
from gateway_addon.wire.elements import Body


@dataclass(slots=True)
class Content:
    """The text that goes with a record, each None where unknown or not to be stored (`gateway_content`)."""

    system_prompt: str | None = None
    user_prompt: str | None = None
    answer_text: str | None = None
    reasoning_text: str | None = None
    tools: list[str] = field(default_factory=list)
    """Names offered (names are not content: they are kept under `gateway_content=none` too)."""
    tool_calls: list[ToolCall] = field(default_factory=list)
    tool_results: list[ToolResult] = field(default_factory=list)
    body: bytes | None = None
    """The request's, content-decoded, as the client sent it."""
    elements: Body | None = field(default=None, repr=False, compare=False)
    """What was read of a body; it is good for `body` only if that is the very same object."""


def arguments_valid(call: ToolCall) -> bool | None:
    """Whether a call's arguments are JSON; None where they need not be, or are not known."""
    if call.arguments is None:
        return call.arguments_valid
    if any(call.type in kind.FREE_TEXT_CALLS for kind in api.KINDS.values()):
        return None
    try:
        json.loads(call.arguments)
    except (ValueError, RecursionError):
        return False
    return True


def without_text(content: Content) -> Content:
    """A copy with names, ids and signs only: everything a model or a person wrote is None."""
    return Content(
        tools=content.tools,
        tool_calls=[
            replace(call, arguments=None, arguments_valid=arguments_valid(call)) for call in content.tool_calls
        ],
        tool_results=[replace(result, content=None) for result in content.tool_results],
    )


def limited(record: Record, content: Content, mode: str) -> tuple[Record, Content]:
    """What the option `gateway_content` lets through to the disk: the one place that decides it.

    `full`: all. `prompts`: what the `prompts` view shows, and error texts, but none of an unreadable 2xx. `none`, and
    any other word: numbers, names and hashes only. What was given is not changed.
    """
    if mode == "full":
        return record, content
    bare = without_text(content)
    if mode == "prompts":
        spoken = tuple(f"/body/{name}" for name in api.members())
        record = replace(record, rewrites=_without_values(record.rewrites, spoken))
        if record.outcome == "unreadable":
            # a 2xx that is no JSON: it is rather a model's answer than an error
            record.error_message = None
        return record, replace(bare, system_prompt=content.system_prompt, user_prompt=content.user_prompt)
    return _without_words(replace(record, rewrites=_without_values(record.rewrites, ("",)))), bare


_NAME = re.compile(r"[\w.:/@+-]{1,128}", re.ASCII)
"""What may be the name or id of something, and is no sentence."""

_NAMED_UPSTREAM = (
    "response_model",
    "finish_reason",
    "finish_detail",
    "response_id",
    "provider_request_id",
    "inference_provider",
    "service_tier",
)
"""Columns that hold what the answer calls something."""


def _without_words(record: Record) -> Record:
    """A copy in which an upstream can say nothing but what it has to: counts, known types of errors, and names."""
    bare = replace(
        record,
        error_message=None,
        error_type=record.error_type if is_known_type(record.error_type) else None,
        usage=_numbers(record.usage),
    )
    for name in _NAMED_UPSTREAM:
        if not _NAME.fullmatch(getattr(record, name) or ""):
            setattr(bare, name, None)
    return bare


def _numbers(value: Any) -> Any:
    """What of a JSON value are numbers and signs, under names."""
    match value:
        case dict():
            members = {name: _numbers(member) for name, member in value.items() if _NAME.fullmatch(name)}
            return {name: member for name, member in members.items() if member is not None} or None
        case list():
            return [member for member in map(_numbers, value) if member is not None] or None
        case str():
            return None
    return value


def _without_values(rewrites: tuple[Operation, ...], places: tuple[str, ...]) -> tuple[Operation, ...]:
    """The operations, those on `places` (beginnings of JSON pointers) without their values."""
    return tuple(
        {name: part for name, part in operation.items() if name != "value"}
        if str(operation.get("path")).startswith(places)
        else operation
        for operation in rewrites
    )
