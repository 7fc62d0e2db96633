"""What the addon leaves in a flow besides its bytes, and what of that is believed when the flow is loaded again.

A flow file may come from anybody. Believed is only what no byte of it tells: how the call ended, its times, the names
of provider and dialect, and what the gateway changed; all type-checked. Everything else is read again.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from mitmproxy import http

from gateway_addon.api.base import Operation
from gateway_addon.dialects import DIALECTS
from gateway_addon.record import COLUMNS, TIMINGS, Record, as_row, from_row
from gateway_addon.terms import Outcome, Warning
from gateway_addon.times import MAX_TIME
from gateway_addon.wire import jsontext
from gateway_addon.wire.text import storable

METADATA = "gateway"
"""The key in `flow.metadata` of the row, by column; what is NULL is left out."""

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
    warnings: tuple[Warning, ...] = ()
    """Those that the flow itself does not show (`UNSEEN`)."""
    timings: Mapping[str, float] = field(default_factory=dict)
    """Milliseconds, by the names of `TIMINGS`."""


def read(flow: http.HTTPFlow) -> Notes | None:
    """The notes of a loaded flow; None if it has none, and for a live one. Never raises."""
    noted = flow.metadata.get(METADATA)
    if flow.live or not isinstance(noted, dict) or not noted:
        return None
    outcome, warnings = _text(noted, "outcome"), _text(noted, "warnings")
    provider, dialect = _text(noted, "provider"), _text(noted, "dialect")
    return Notes(
        outcome=outcome if outcome in _OUTCOMES else None,  # type: ignore[arg-type]
        error_type=_text(noted, "error_type"),
        provider=provider if provider and re.fullmatch(r"[A-Za-z0-9._-]{1,100}", provider) else None,
        dialect=dialect if dialect in DIALECTS else None,
        rewrites=_operations(_text(noted, "rewrites")),
        warnings=tuple(warning for warning in UNSEEN if f'"{warning}"' in (warnings or "")),
        timings={name: value for name in TIMINGS if (value := _duration(noted.get(name))) is not None},
    )


def kind_in(flow: http.HTTPFlow) -> str | None:
    """The name of the kind of call that a finished flow is, by what was left in it; None: nothing says so. Cheap."""
    noted = flow.metadata.get(METADATA)
    return _text(noted, "api_kind") if isinstance(noted, dict) else None


def record_of(flow: http.HTTPFlow) -> Record | None:
    """The row that was left in a flow, for showing it; None if there is none, or what there is is no row."""
    noted = flow.metadata.get(METADATA)
    try:
        return from_row(dict.fromkeys(COLUMNS) | noted) if noted else None
    except (TypeError, ValueError, AttributeError):
        return None


def leave(flow: http.HTTPFlow, record: Record, pace: list[list[int]] | None) -> None:
    """Note a finished call in its flow. A mark that is there already is a person's."""
    worry = MARKS["stream_error"] if any(warning in WORRYING for warning in record.warnings) else ""
    flow.marked = flow.marked or MARKS.get(record.outcome, worry)
    if pace:
        flow.metadata[PACE] = pace
    flow.metadata[METADATA] = {
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
