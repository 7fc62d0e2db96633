"""How a record and its texts become rows. Every function wants to be called inside a transaction."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from sqlite_utils import Database

from gateway_addon import times
from gateway_addon.api import KINDS
from gateway_addon.api.base import HistoryItem, ToolCall, ToolResult
from gateway_addon.content import Content, arguments_valid
from gateway_addon.record import COLUMNS, TIMINGS, Record, as_row
from gateway_addon.store import bodies
from gateway_addon.store.contents import content_id, tool_set_id
from gateway_addon.store.conversations import inherit
from gateway_addon.store.turns import assign_turn
from gateway_addon.wire import jsontext
from gateway_addon.wire.cut import CONVERSATION
from gateway_addon.wire.elements import Body
from gateway_addon.wire.text import storable

TEXTS = ("system_prompt", "user_prompt", "reasoning_text", "answer_text")
"""The fields of `Content` that the columns of the same name with `_id` refer to."""

REFERENCES = (*(f"{name}_id" for name in TEXTS), "tool_set_id", *bodies.COLUMNS)
"""The columns of `requests` that no `Record` has."""

KEPT = ("finish_sequence", "turn_id")
"""The columns of `requests` that the database fills in, and that reading a call again does not take away."""


def texts(content: Content) -> Iterator[str]:
    """All text that a content holds, names aside."""
    found = [getattr(content, name) for name in TEXTS]
    found += [call.arguments for call in content.tool_calls]
    found += [result.content for result in content.tool_results]
    return (text for text in found if text is not None)


def insert_begun(db: Database, record: Record) -> None:
    """Insert the row of a call that has begun, unless the call has one."""
    db.execute(_BEGIN, _storable((*as_row(record).values(), *[None] * len(REFERENCES))))


def replace_finished(db: Database, record: Record, content: Content, nodes: bodies.Nodes | None = None) -> None:
    """Insert the row, texts and tool calls of a finished call, or replace those it has. `nodes`: see `store_body`.

    A flow that holds only the beginning of its answer knows less than the row of the call itself, which then stays.
    """
    request_id = storable(record.id)
    if record.source != "live" and "response_truncated" in record.warnings and _is_finished(db, request_id):
        return
    references = {f"{name}_id": content_id(db, getattr(content, name)) for name in TEXTS}
    references["tool_set_id"] = tool_set_id(db, content.tools)
    elements = bodies.read_elements(content.body, content.elements)
    body = bodies.store_body(db, content.body, elements, nodes)
    references |= body
    db.execute(_FINISH, _storable((*as_row(record).values(), *(references[name] for name in REFERENCES))))
    for table in ("stored_tool_calls", "stored_tool_results"):
        db.execute(f"DELETE FROM {table} WHERE request_id = ?", [request_id])
    for position, (link, call) in enumerate(_linked(content.tool_calls)):
        columns = {
            "request_id": request_id,
            "position": position,
            "link": link,
            "call_id": call.call_id,
            "name": call.name,
            "type": call.type,
            "executor": call.executor,
            "arguments_id": content_id(db, call.arguments),
            "arguments_valid": arguments_valid(call),
        }
        db.execute(_insert("stored_tool_calls", columns), _storable(columns.values()))
    earlier = _earlier_results(db, record, content.body, elements, body)
    for position, (link, result) in enumerate(chain(_linked(content.tool_results), earlier)):
        columns = {
            "request_id": request_id,
            "position": position,
            "link": link,
            "call_id": result.call_id,
            "name": result.name,
            "result_id": content_id(db, result.content),
            "is_error": result.is_error,
            "duration_ms": result.duration_ms,
        }
        db.execute(_insert("stored_tool_results", columns), _storable(columns.values()))
    inherit(db, request_id, continues=record.previous_id is not None)
    assign_turn(db, request_id)


def _earlier_results(
    db: Database, record: Record, body: bytes | None, elements: Body | None, columns: Mapping[str, Any]
) -> list[tuple[str, ToolResult]]:
    """The results in front of the last answer in a history, as far as no earlier call has sent it; each with its link.

    Of a turn that follows a recorded one only the new messages are looked at, and there are none.
    """
    kind = KINDS.get(record.api_kind)
    tip = columns["conversation_tip_id"]
    if kind is None or body is None or (tip is None and columns["whole_body_id"] is None):
        return []
    new = None
    if tip is not None and elements is not None:
        new = bodies.new_messages(db, storable(record.id), tip)
        messages = [element.value for element in elements.part(CONVERSATION)[-new:]] if new else []
        found = _before_answer(kind.history({"messages": messages, "input": messages}))
        # as a rule none; or an old message is new only in how it is spelled
        said = {(result.call_id and storable(result.call_id), content_id(db, result.content)) for _, result in found}
        if not said or said <= _sent_before(db, record):
            return []
    history = list(kind.history((elements.json if elements else jsontext.parse_object(body)) or {}))
    first = max((item.message for item in history), default=-1) + 1 - new if new is not None else 0
    results = _before_answer(history)
    often = Counter(result.call_id for _, result in results)
    return [
        # of an id that comes again nobody can say which call it is
        (id_ if (id_ := result.call_id) and often[id_] == 1 else f"{id_ or ''}#earlier {number}", result)
        for number, (message, result) in enumerate(results)
        if message >= first
    ]


def _sent_before(db: Database, record: Record) -> set[tuple[str | None, int | None]]:
    """The results that earlier calls of the same agent have sent in their session: id of the call, and row of the
    text. Some providers number the calls of each answer anew."""
    sql = """SELECT call_id, result_id FROM requests JOIN stored_tool_results ON request_id = id
             WHERE session_id = ? AND agent_id IS ? AND started_at < ? AND call_id IS NOT NULL"""
    asked = [record.session_id, record.agent_id, times.timestamp(record.started_at)]
    return set(db.execute(sql, _storable(asked)).fetchall())


def _before_answer(history: Iterable[HistoryItem]) -> list[tuple[int, ToolResult]]:
    """The results that are not behind the last answer, each with the number of its message."""
    items = list(history)
    last = max((item.message for item in items if item.role == "assistant"), default=-1)
    return [(item.message, item.tool_result) for item in items if item.tool_result and item.message <= last]


def _is_finished(db: Database, request_id: str) -> bool:
    query = "SELECT 1 FROM requests WHERE id = ? AND outcome NOT IN ('in_flight', 'interrupted')"
    return db.execute(query, [request_id]).fetchone() is not None


def _linked[T: (ToolCall, ToolResult)](found: Sequence[T]) -> Iterator[tuple[str, T]]:
    """Each with what ties a call to its result: the call's id, with `#2`, ... where it is there again.

    Some providers give none, or the same to all calls of an answer: then their order tells.
    """
    times: Counter[str] = Counter()
    for item in found:
        call_id = item.call_id or ""
        times[call_id] += 1
        yield (call_id if times[call_id] == 1 else f"{call_id}#{times[call_id]}"), item


def _storable(values: Iterable[Any]) -> list[Any]:
    return [None if value is None else _storable_value(value) for value in values]


def _storable_value(value: Any) -> Any:
    """What SQLite can hold of a value. A number beyond its range is one that nobody has counted."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return None
    return value


def _insert(table: str, columns: Collection[str]) -> str:
    # by position: to bind seventy values by their names takes longer than to store them
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' for _ in columns)})"


def _replacements() -> Iterator[str]:
    """What reading a call again changes in its row: all but where it was first seen, and timings that are known."""
    for name in (*COLUMNS, *REFERENCES):
        if name in TIMINGS:
            yield f"{name} = COALESCE(requests.{name}, excluded.{name})"
        elif name == "source":
            # the run that saw the call begin learns later that a file answered it (server replay)
            yield "source = CASE requests.run_id WHEN excluded.run_id THEN excluded.source ELSE requests.source END"
        elif name not in ("id", "run_id"):
            yield f"{name} = excluded.{name}"


_INSERT_REQUEST = _insert("requests", (*COLUMNS, *REFERENCES))
# a flow file may hold a call that is there already, and finished
_BEGIN = f"{_INSERT_REQUEST} ON CONFLICT (id) DO NOTHING"
_FINISH = f"{_INSERT_REQUEST} ON CONFLICT (id) DO UPDATE SET {', '.join(_replacements())}"
