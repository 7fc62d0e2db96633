"""A turn of a conversation as values: what was said to a model, what it said, and the tools it used.

Whoever shows turns (a transcript, a view, an export) takes these, and cannot tell whether a turn was read from the wire
a moment ago or from a database.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gateway_addon.api import KINDS
from gateway_addon.api.base import HistoryItem, ToolCall, ToolResult
from gateway_addon.content import Content
from gateway_addon.record import Record, from_row
from gateway_addon.terms import Role
from gateway_addon.wire import jsontext


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
class Said:
    """One thing that was said before an answer, as the request has it: of the fields behind `role` one is set."""

    role: Role
    text: str | None = None
    reasoning: str | None = None
    tool_use: ToolUse | None = None
    """With the result, wherever in the request that stands. Of a result without its call the arguments are None."""
    note: str | None = None
    """What stands for a part that is no text."""
    answered: Record | None = None
    """The recorded call whose answer ends here."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Turn:
    """One call of a conversation. Texts are None where they are unknown or not stored."""

    record: Record
    history: tuple[Said, ...] | None = None
    """All that the request says, the prompts among it; None where its body is not there to be read."""
    missing: str | None = None
    """What was said before and is not here, or why it is not, in a few words."""
    system_prompt: str | None = None
    user_prompt: str | None = None
    reasoning_text: str | None = None
    answer_text: str | None = None
    tool_uses: tuple[ToolUse, ...] = field(default_factory=tuple)


def turn_of(record: Record, content: Content) -> Turn:
    """The turn of a call that has just ended: its tools have no results yet, but for those the server ran."""
    return Turn(
        record=record,
        system_prompt=content.system_prompt,
        user_prompt=content.user_prompt,
        reasoning_text=content.reasoning_text,
        answer_text=content.answer_text,
        tool_uses=tuple(uses(content.tool_calls, content.tool_results)),
    )


def uses(calls: Iterable[ToolCall], results: Iterable[ToolResult]) -> Iterator[ToolUse]:
    """Calls with the results that are there already."""
    answered = {result.call_id: result for result in results}
    for call in calls:
        use = ToolUse(name=call.name, call_id=call.call_id, arguments=call.arguments)
        result = answered.get(call.call_id)
        yield use if result is None else _answered(use, result)


def turn_of_row(row: Mapping[str, Any]) -> Turn:
    """The turn of a stored call, as `queries.conversation` or `queries.told` gives it.

    Raises `ValueError` for no such row.
    """
    record = from_row(row)
    body: bytes | None = row.get("body")
    history = read_history(record.api_kind, body, row["earlier"]) if body is not None else None
    return Turn(
        record=record,
        history=history,
        missing=row.get("missing") or ("the body is no JSON object" if body is not None and history is None else None),
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


def read_history(
    api_kind: str, body: bytes | str, earlier: Iterable[tuple[int, Record]] = ()
) -> tuple[Said, ...] | None:
    """What a request's body says (`history`); None if it is no JSON object."""
    parsed = jsontext.parse_object(body)
    return None if parsed is None else history(KINDS[api_kind].history(parsed), earlier)


def history(told: Iterable[HistoryItem], earlier: Iterable[tuple[int, Record]] = ()) -> tuple[Said, ...]:
    """What a request says, in its order, each tool's result with its call.

    `earlier`: recorded calls whose requests this one begins with, in their order, each with how many messages it had.
    """
    said: list[Said] = []
    unanswered: defaultdict[str | None, list[int]] = defaultdict(list)
    waiting, last = list(earlier), -1
    for item in told:
        last = item.message
        if item.role != "assistant":
            # the answer to a request is what the assistant says behind its last message
            said += [Said(role="assistant", answered=record) for count, record in waiting if count <= last]
            waiting = [(count, record) for count, record in waiting if count > last]
        if item.tool_result and (places := unanswered[item.tool_result.call_id]):
            place = places.pop(0)
            use = said[place].tool_use
            assert use is not None
            said[place] = replace(said[place], tool_use=_answered(use, item.tool_result))
            continue
        if item.tool_call:
            unanswered[item.tool_call.call_id].append(len(said))
        said += _said(item)
    said += [Said(role="assistant", answered=record) for count, record in waiting if count <= last]
    return tuple(said)


def _said(item: HistoryItem) -> Iterator[Said]:
    match item:
        case HistoryItem(tool_call=ToolCall() as call):
            use = ToolUse(name=call.name, call_id=call.call_id, arguments=call.arguments)
            yield Said(role=item.role, tool_use=use)
        case HistoryItem(tool_result=ToolResult() as result):
            use = _answered(ToolUse(name=result.name, call_id=result.call_id, arguments=None), result)
            yield Said(role=item.role, tool_use=use)
        case _ if item.text or item.reasoning or item.note:
            yield Said(role=item.role, text=item.text, reasoning=item.reasoning, note=item.note)


def _answered(use: ToolUse, result: ToolResult) -> ToolUse:
    return replace(use, is_answered=True, result=result.content, is_error=result.is_error)


def said_before(turns: Iterable[Turn]) -> Iterator[Said]:
    """All that was said before the answer of the last turn: what each request says, and the answers in between."""
    answer: Iterable[Said] = ()
    for turn in turns:
        yield from answer
        yield from turn.history or _prompts(turn)
        answer = (*_answer(turn), Said(role="assistant", answered=turn.record))


def _prompts(turn: Turn) -> Iterator[Said]:
    prompts: tuple[tuple[Role, str | None], ...] = (("system", turn.system_prompt), ("user", turn.user_prompt))
    yield from (Said(role=role, text=text) for role, text in prompts if text)


def _answer(turn: Turn) -> Iterator[Said]:
    return answer(turn.reasoning_text, turn.answer_text, turn.tool_uses)


def answer(reasoning: str | None, text: str | None, tool_uses: Iterable[ToolUse]) -> Iterator[Said]:
    """What a model answered, as a later request would tell it."""
    if reasoning:
        yield Said(role="assistant", reasoning=reasoning)
    if text:
        yield Said(role="assistant", text=text)
    yield from (Said(role="assistant", tool_use=use) for use in tool_uses)
