"""What was said in a session, by whom, in the order in which it became known: each thing once, however often a client
sent it again, across sub-agents and compactions.

A session is gone through as often as somebody needs it; no text is kept.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from hashlib import blake2b
from typing import Literal

from gateway_addon.api import KINDS
from gateway_addon.api.base import HistoryItem, ToolCall
from gateway_addon.api.prompts import is_tool_result
from gateway_addon.review.findings import Place
from gateway_addon.store import steps
from gateway_addon.store.database import Database
from gateway_addon.store.steps import Row
from gateway_addon.wire import jsontext
from gateway_addon.wire.cut import CONVERSATION

type Origin = Literal["system prompt", "user prompt", "tool result", "answer", "reasoning", "tool arguments"]


@dataclass(slots=True, frozen=True)
class Action:
    """A tool that the model called."""

    name: str
    arguments: str
    executor: str


@dataclass(slots=True, frozen=True)
class Step:
    """One thing that was said."""

    origin: Origin
    place: Place
    text: str
    action: Action | None = None
    """Whose arguments this is, or whose result, as far as that is known."""

    @property
    def is_result(self) -> bool:
        return self.origin == "tool result"


class Session:
    """The calls of a session; where none is known, of a conversation."""

    def __init__(self, db: Database, chains: steps.Chains, calls: Sequence[Row], turns: dict[str, int]) -> None:
        self._db, self._chains, self._turns = db, chains, turns
        self.calls = calls
        self.id: str | None = calls[0]["session_id"]

    def steps(self) -> Iterator[Step]:
        """All that was said, in its order."""
        return _Telling(self._db, self._chains, self._turns).of(self.calls)


class Timeline:
    """The sessions of a database."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._calls = steps.calls(db)

    @cached_property
    def turns(self) -> dict[str, int]:
        """By call, which of its conversation it is, from 1; none of those without a session."""
        counts: defaultdict[tuple[object, ...], int] = defaultdict(int)
        turns = {}
        for call in self._calls:
            if call["session_id"] is not None:
                conversation = (call["session_id"], call["agent_id"], call["conversation_id"])
                counts[conversation] += 1
                turns[call["id"]] = counts[conversation]
        return turns

    @cached_property
    def sessions(self) -> list[Session]:
        """In the order in which they began."""
        groups: defaultdict[tuple[object, ...], list[Row]] = defaultdict(list)
        for call in self._calls:
            known = call["session_id"] or call["conversation_id"]
            groups[call["session_id"] is None, known or call["id"]].append(call)
        chains = steps.Chains(self._db)
        return [Session(self._db, chains, calls, self.turns) for calls in groups.values()]

    def steps(self) -> Iterator[Step]:
        for session in self.sessions:
            yield from session.steps()

    def place(self, call: Row, place: str, tool: str | None = None, call_id: str | None = None) -> Place:
        """`call`: its `id`, `started_at`, and `agent_id` if that is at hand."""
        agent = call.get("agent_id")
        return Place(call["id"], call["started_at"], self.turns.get(call["id"]), place, tool, call_id, agent)


class _Telling:
    """Goes through a session once, and remembers what it has told."""

    def __init__(self, db: Database, chains: steps.Chains, turns: dict[str, int]) -> None:
        self._db, self._chains, self._turns = db, chains, turns
        self._nodes: set[int] = set()
        self._elements: set[int] = set()
        self._told: set[bytes] = set()
        self._called: dict[str | None, Action] = {}

    def of(self, calls: Iterable[Row]) -> Iterator[Step]:
        for call, is_answer in _in_order(calls):
            for step in self._answer(call) if is_answer else self._request(call):
                if step.action and not step.is_result:
                    self._called[step.place.call_id] = step.action
                if self._is_new(step):
                    yield step

    def _is_new(self, step: Step) -> bool:
        """A history has what an answer has said, maybe written in another way, and a fork what another has."""
        said = _normal(step.text) if step.origin == "tool arguments" else step.text
        who = "model" if step.origin in ("answer", "tool arguments", "reasoning") else step.origin
        what = [who, step.place.tool, step.place.call_id, said]
        digest = blake2b(json.dumps(what).encode(), digest_size=16).digest()
        is_new = digest not in self._told
        self._told.add(digest)
        return is_new

    def _request(self, call: Row) -> Iterator[Step]:
        prompts: tuple[tuple[Origin, str], ...] = (
            ("system prompt", "system_prompt_id"),
            ("user prompt", "user_prompt_id"),
        )
        for origin, content in prompts:
            # a prompt that the body has is told where it stands
            if call[content] is not None and (origin == "system prompt" or not call["has_body"]):
                yield self._step(call, origin, steps.text(self._db, call[content]))
        if not call["has_body"]:
            for row in steps.tool_results(self._db, call["id"]):
                yield self._result(call, row["name"], row["call_id"], row["text"])
        kind = KINDS.get(call["api_kind"])
        if kind is None:
            return
        if call["whole_body_id"] is not None:
            body = jsontext.parse_object(steps.whole_body(self._db, call["id"]) or b"")
            for item in kind.history(body or {}):
                yield from self._item(call, item)
            return
        member = next(name for name, part in kind.MEMBERS.items() if part == CONVERSATION)
        for element in self._chains.new_elements(call["conversation_tip_id"], self._nodes, self._elements):
            value = jsontext.parse_any(steps.element(self._db, element))
            body = {member: value if isinstance(value, str) else [value]}
            for item in kind.history(body):
                yield from self._item(call, item)

    def _item(self, call: Row, item: HistoryItem) -> Iterator[Step]:
        match item:
            case HistoryItem(tool_call=ToolCall() as made):
                yield self._call(call, made.name or made.type, made.call_id, made.arguments, made.executor)
            case HistoryItem(tool_result=result) if result is not None:
                if result.content:
                    yield self._result(call, result.name, result.call_id, result.content)
            case HistoryItem(role="system", text=str(text)):
                yield self._step(call, "system prompt", text)
            case HistoryItem(role="assistant", text=str(text)):
                yield self._step(call, "answer", text)
            case HistoryItem(text=str(text)) if text:
                # some clients write results as a person's words
                yield self._step(call, "tool result" if is_tool_result(text) else "user prompt", text)
            case HistoryItem(reasoning=str(text)):
                yield self._step(call, "reasoning", text)

    def _answer(self, call: Row) -> Iterator[Step]:
        said: tuple[tuple[Origin, str], ...] = (("reasoning", "reasoning_text_id"), ("answer", "answer_text_id"))
        for origin, content in said:
            if call[content] is not None:
                yield self._step(call, origin, steps.text(self._db, call[content]))
        for made in steps.tool_calls(self._db, call["id"]):
            yield self._call(call, made["name"] or made["type"], made["call_id"], made["arguments"], made["executor"])
        if call["has_body"]:
            # of tools that a server ran; those of the client's are in the next request
            for row in steps.tool_results(self._db, call["id"]):
                if row["call_id"] in self._called and self._called[row["call_id"]].executor == "server":
                    yield self._result(call, row["name"], row["call_id"], row["text"])

    def _step(self, call: Row, origin: Origin, text: str) -> Step:
        return Step(origin, self._place(call, origin), text)

    def _call(self, call: Row, name: str, call_id: str | None, arguments: str | None, executor: str) -> Step:
        action = Action(name, arguments or "", executor)
        return Step("tool arguments", self._place(call, "tool arguments", name, call_id), action.arguments, action)

    def _result(self, call: Row, name: str | None, call_id: str | None, text: str) -> Step:
        action = self._called.get(call_id)
        place = self._place(call, "tool result", name or (action.name if action else None), call_id)
        return Step("tool result", place, text, action)

    def _place(self, call: Row, place: str, tool: str | None = None, call_id: str | None = None) -> Place:
        turn = self._turns.get(call["id"])
        return Place(call["id"], call["started_at"], turn, place, tool, call_id, call["agent_id"])


def _in_order(calls: Iterable[Row]) -> Iterator[tuple[Row, bool]]:
    """Calls with `False`, and with `True` where their answers end, in the order of time."""
    moments = []
    for number, call in enumerate(calls):
        started = datetime.fromisoformat(call["started_at"]).timestamp()
        moments.append((started, number, 0, call))
        moments.append((started + (call["duration_ms"] or 0.0) / 1000, number, 1, call))
    moments.sort(key=lambda moment: moment[:3])
    return ((call, bool(is_answer)) for _, _, is_answer, call in moments)


def _normal(arguments: str) -> str:
    value = jsontext.parse_any(arguments) if arguments else None
    try:
        return arguments if value is None else json.dumps(value, sort_keys=True, default=str)
    except (RecursionError, ValueError):
        return arguments
