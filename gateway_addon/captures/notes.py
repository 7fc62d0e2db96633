"""What the addon leaves in a flow besides its bytes, and what of that is believed when the flow is loaded again.

A flow file may come from anybody. Believed is only what no byte of it tells: how the call ended, its times, the names
of provider and dialect, and what the gateway changed; all type-checked. Everything else is read again.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from mitmproxy import http

from gateway_addon.api import turns as socket
from gateway_addon.api.base import Operation
from gateway_addon.dialects import DIALECTS
from gateway_addon.record import COLUMNS, TIMINGS, Record, as_row, from_row
from gateway_addon.terms import Outcome, Warning
from gateway_addon.times import MAX_TIME
from gateway_addon.wire import jsontext
from gateway_addon.wire.text import storable

METADATA = "gateway"
"""The key in `flow.metadata` of the row, by column; what is NULL is left out."""

TURNS, LEFT_OUT = "turns", "turns_left_out"
"""What stands there for a WebSocket: the rows of its turns, and how many are not in the flow any more."""

PACE = "gateway_pace"
"""The key in `flow.metadata` of the answer's pace: a list of [milliseconds since the request's start, body bytes]."""

CUT = "gateway_cut"
"""The key in `flow.metadata` of what `cut_head` has taken out of a request: names of its parts."""

MAX_METHOD, MAX_PATH, MAX_FIELD, MAX_FIELDS = 20, 1000, 200, 800
"""Characters that `cut_head` leaves of a method, a path, a header with its value, and of all headers."""

UNSEEN: tuple[Warning, ...] = ("response_truncated", "response_undecodable", "answer_withheld", "secret_masked")
"""Warnings of a call that its flow may not show: what was left out of it, or was never in it."""

MARKS: dict[Outcome, str] = {
    "stream_error": ":warning:",  # the only sign: its status is 200
    "http_error": ":x:",
    "unreadable": ":grey_question:",
    "upstream_cut": ":scissors:",
    "interrupted": ":scissors:",
    "rejected": ":no_entry:",
}
"""The mark in a flow's list of a call that somebody should look at, by its outcome. Clients hang up all the time."""

WORRYING: tuple[Warning, ...] = ("answer_withheld", "content_dropped", "reader_failed")
"""Warnings of a call that gets the mark of an error, although it is complete."""

_OUTCOMES = get_args(Outcome.__value__)


@dataclass(slots=True, frozen=True, kw_only=True)
class Notes:
    """What an earlier run of the addon left in a loaded flow, as far as it is believed."""

    outcome: Outcome | None = None
    error_type: str | None = None
    provider: str | None = None
    dialect: str | None = None
    rewrites: tuple[Operation, ...] = ()
    upstream_model: str | None = None
    """What those made of the model's name; None if they left it alone."""
    warnings: tuple[Warning, ...] = ()
    """Those that the flow itself does not show (`UNSEEN`)."""
    timings: Mapping[str, float] = field(default_factory=dict)
    """Milliseconds, by the names of `TIMINGS`."""


def read(flow: http.HTTPFlow) -> Notes | None:
    """The notes of a loaded flow; None if it has none, and for a live one. Never raises."""
    noted = _noted(flow)
    return None if noted is None else _notes(noted)


def _noted(flow: http.HTTPFlow) -> Mapping[str, Any] | None:
    noted = flow.metadata.get(METADATA)
    return None if flow.live or not isinstance(noted, dict) or not noted else noted


def _notes(noted: Mapping[str, Any]) -> Notes:
    outcome, warnings = _text(noted, "outcome"), _text(noted, "warnings")
    provider, dialect = _text(noted, "provider"), _text(noted, "dialect")
    rewrites = _operations(_text(noted, "rewrites"))
    is_renamed = any(operation.get("path") == "/body/model" for operation in rewrites)
    return Notes(
        outcome=outcome if outcome in _OUTCOMES else None,  # type: ignore[arg-type]
        error_type=_text(noted, "error_type"),
        provider=provider if provider and re.fullmatch(r"[A-Za-z0-9._-]{1,100}", provider) else None,
        dialect=dialect if dialect in DIALECTS else None,
        rewrites=rewrites,
        upstream_model=_text(noted, "upstream_model") if is_renamed else None,
        warnings=tuple(warning for warning in UNSEEN if f'"{warning}"' in (warnings or "")),
        timings={name: value for name in TIMINGS if (value := _duration(noted.get(name))) is not None},
    )


def kind_in(flow: http.HTTPFlow) -> str | None:
    """The name of the kind of call that a finished flow is, by what was left in it; None: nothing says so. Cheap."""
    noted = flow.metadata.get(METADATA)
    if not isinstance(noted, dict):
        return None
    return socket.KIND.NAME if TURNS in noted else _text(noted, "api_kind")


def record_of(flow: http.HTTPFlow) -> Record | None:
    """The row that was left in a flow, for showing it; None if there is none, or what there is is no row."""
    return _record(flow.metadata.get(METADATA))


def records_of_turns(flow: http.HTTPFlow) -> list[Record]:
    """The rows that were left in the flow of a WebSocket, as far as they are rows."""
    noted = flow.metadata.get(METADATA)
    turns = noted.get(TURNS) if isinstance(noted, dict) else None
    return [record for turn in turns or () if (record := _record(turn))]


def _record(noted: Any) -> Record | None:
    try:
        return from_row(dict.fromkeys(COLUMNS) | noted) if noted else None
    except (TypeError, ValueError, AttributeError):
        return None


def turns(flow: http.HTTPFlow) -> dict[str, Notes]:
    """The notes on each turn of a loaded flow of a WebSocket, by what its row's id has behind the flow's."""
    return {(_text(noted, "id") or "").rpartition("/")[2]: _notes(noted) for noted in _noted_turns(flow)}


def left_out(flow: http.HTTPFlow) -> int:
    """How many turns of a WebSocket, its first ones, are not in its loaded flow."""
    noted = _noted(flow)
    number = noted.get(LEFT_OUT) if noted else None
    return number if isinstance(number, int) and 0 <= number < 10**9 else 0


def _noted_turns(flow: http.HTTPFlow) -> list[Mapping[str, Any]]:
    noted = (_noted(flow) or {}).get(TURNS)
    return [turn for turn in noted if isinstance(turn, dict)] if isinstance(noted, list | tuple) else []


def begin_turns(flow: http.HTTPFlow, turns_left_out: int) -> None:
    """Forget what is noted in the flow of a WebSocket, all but how many of its first turns have no messages in it."""
    flow.metadata[METADATA] = {TURNS: []}
    leave_out(flow, turns_left_out)


def leave_turn(flow: http.HTTPFlow, record: Record) -> None:
    """Note a finished turn of a WebSocket in its flow; a mark that it gives stays."""
    _mark(flow, record)
    flow.metadata[METADATA][TURNS].append(_values(record))


def leave_out(flow: http.HTTPFlow, turns: int) -> None:
    """Forget the first turns of a WebSocket, whose messages are not in its flow any more, but their number."""
    noted = flow.metadata[METADATA]
    if turns:
        noted[TURNS] = [turn for turn in noted[TURNS] if _number(turn["id"]) > turns]
        noted[LEFT_OUT] = turns


def leave(flow: http.HTTPFlow, record: Record, pace: list[list[int]] | None) -> None:
    """Note a finished call in its flow. A mark that is there already is a person's."""
    _mark(flow, record)
    if pace:
        flow.metadata[PACE] = pace
    flow.metadata[METADATA] = _values(record)


def _mark(flow: http.HTTPFlow, record: Record) -> None:
    worry = MARKS["stream_error"] if any(warning in WORRYING for warning in record.warnings) else ""
    flow.marked = flow.marked or MARKS.get(record.outcome, worry)


def _number(id: str) -> int:
    return int(id.rpartition("/")[2].partition(".")[0])


def _values(record: Record) -> dict[str, Any]:
    return {
        # mitmproxy cannot save lone surrogates either
        name: storable(value) if isinstance(value, str) else value
        for name, value in as_row(record).items()
        if value is not None
    }


def leave_refusal(flow: http.HTTPFlow) -> None:
    """Note that a request was answered by the addon and went nowhere: it may be one that has no row."""
    flow.metadata[METADATA] = {"outcome": "rejected"}


def cut_head(flow: http.HTTPFlow) -> None:
    """Leave of a refused request what a file may keep of a stranger's: its size is bounded, whatever was sent.

    Headers that are too long are left out, and those behind what is enough. The one that says whether the connection
    goes on stays: mitmproxy reads it once more, behind the answer.
    """
    data = flow.request.data
    kept: list[tuple[bytes, bytes]] = []
    room = MAX_FIELDS
    for name, value in data.headers.fields:
        # with what a file writes around them
        size = len(name) + len(value) + 20
        if name.lower() == b"connection" and size > MAX_FIELD:
            value = b"close"
        elif name.lower() != b"connection" or any(kept_name.lower() == b"connection" for kept_name, _ in kept):
            if size > min(MAX_FIELD, room):
                continue
            room -= size
        kept.append((name, value))
    cut = {
        "path": len(data.path) > MAX_PATH,
        "headers": len(kept) < len(data.headers.fields),
        "method": len(data.method) > MAX_METHOD,
        "authority": len(data.authority) > MAX_FIELD,
        "trailers": data.trailers is not None,
    }
    data.path, data.headers = data.path[:MAX_PATH], http.Headers(kept)
    data.method, data.authority, data.trailers = data.method[:MAX_METHOD], data.authority[:MAX_FIELD], None
    if parts := [name for name, is_cut in cut.items() if is_cut]:
        flow.metadata[CUT] = parts


def remove(flow: http.HTTPFlow) -> None:
    """Forget what an earlier call left in a flow that is sent again: it is not true of the new one."""
    flow.metadata.pop(METADATA, None)
    flow.metadata.pop(PACE, None)
    flow.metadata.pop(CUT, None)
    flow.comment = ""
    if flow.marked in MARKS.values():
        flow.marked = ""


def _text(noted: Mapping[str, Any], name: str) -> str | None:
    value = noted.get(name)
    return value if isinstance(value, str) else None


def _operations(text: str | None) -> tuple[Operation, ...]:
    operations = jsontext.parse_any(text or "[]")
    if isinstance(operations, list) and all(isinstance(operation, dict) for operation in operations):
        return tuple(operations)
    return ()


def _duration(value: object) -> float | None:
    return value if isinstance(value, float) and 0 <= value < MAX_TIME else None
