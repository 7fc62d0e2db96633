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
from gateway_addon.record import TIMINGS, Record, as_row
from gateway_addon.terms import Outcome, Warning
from gateway_addon.times import MAX_TIME
from gateway_addon.wire import jsontext
from gateway_addon.wire.text import storable

METADATA = "gateway"
"""The key in `flow.metadata` of the row, by column; what is NULL is left out."""

PACE = "gateway_pace"
"""The key in `flow.metadata` of the answer's pace: a list of [milliseconds since the request's start, body bytes]."""

UNSEEN: tuple[Warning, ...] = ("response_truncated", "response_undecodable", "answer_withheld", "secret_masked")
"""Warnings of a call that its flow may not show: what was left out of it, or was never in it."""

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


def leave(flow: http.HTTPFlow, record: Record, pace: list[list[int]] | None) -> None:
    """Note a finished call in its flow."""
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


def remove(flow: http.HTTPFlow) -> None:
    """Forget what an earlier call left in a flow that is sent again: it is not true of the new one."""
    flow.metadata.pop(METADATA, None)
    flow.metadata.pop(PACE, None)
    flow.comment = ""


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
