"""A turn of a conversation as values: what was said to a model, what it said, and the tools it used.

Whoever shows turns (a transcript, a view, an export) takes these, and cannot tell whether a turn was read from the wire
a moment ago or from a database.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway_addon.record import Content, Record, from_row


@dataclass(slots=True, frozen=True, kw_only=True)
class ToolUse:
    """A call the model made, with its result once one has come."""

    name: str | None
    call_id: str | None = None
    arguments: str | None
    """None: not known."""
    is_answered: bool = False
    result: str | None = None
    """None: not known, or not stored."""
    is_error: bool | None = None
    """None: nothing says so."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Turn:
    """One call of a conversation. Texts are None where they are unknown or not stored."""

    record: Record
    system_prompt: str | None = None
    user_prompt: str | None = None
    reasoning_text: str | None = None
    answer_text: str | None = None
    tool_uses: tuple[ToolUse, ...] = field(default_factory=tuple)


def turn_of(record: Record, content: Content) -> Turn:
    """The turn of a call that has just ended: its tools have no results yet, but for those the server ran."""
    results = {result.call_id: result for result in content.tool_results}
    return Turn(
        record=record,
        system_prompt=content.system_prompt,
        user_prompt=content.user_prompt,
        reasoning_text=content.reasoning_text,
        answer_text=content.answer_text,
        tool_uses=tuple(
            ToolUse(
                name=call.name,
                call_id=call.call_id,
                arguments=call.arguments,
                is_answered=(found := results.get(call.call_id)) is not None,
                result=found.content if found else None,
                is_error=found.is_error if found else None,
            )
            for call in content.tool_calls
        ),
    )


def turn_of_row(row: Mapping[str, Any]) -> Turn:
    """The turn of a stored call, as `queries.conversation` gives it. Raises `ValueError` for no such row."""
    return Turn(
        record=from_row(row),
        system_prompt=row["system_prompt"],
        user_prompt=row["user_prompt"],
        reasoning_text=row["reasoning_text"],
        answer_text=row["answer_text"],
        tool_uses=tuple(_tool_uses(row["tool_calls"])),
    )


def _tool_uses(calls: Iterable[Mapping[str, Any]]) -> Iterable[ToolUse]:
    for call in calls:
        yield ToolUse(
            name=call["name"],
            call_id=call.get("call_id"),
            arguments=call["arguments"],
            is_answered=call["result_request_id"] is not None,
            result=call["result"],
            is_error=None if call["is_error"] is None else bool(call["is_error"]),
        )
