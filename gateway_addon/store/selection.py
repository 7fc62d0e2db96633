"""Which calls are meant: what a person asks for, as a condition on rows of `requests`."""

from dataclasses import dataclass
from typing import Any


@dataclass(slots=True, frozen=True, kw_only=True)
class Selection:
    """Calls that are like this in every way that is given. Times as they are stored: RFC 3339, UTC, milliseconds."""

    since: str | None = None
    until: str | None = None
    """Before it."""
    session: str | None = None
    model: str | None = None
    """Any of the call's names for it."""
    kind: str | None = None
    outcome: str | None = None

    @property
    def is_all(self) -> bool:
        return self == ALL

    def condition(self) -> tuple[str, dict[str, Any]]:
        """SQL that is true of the rows of `requests` that are meant, and the values of its parameters."""
        given = {name: value for name in _CONDITIONS if (value := getattr(self, name)) is not None}
        return " AND ".join(_CONDITIONS[name] for name in given) or "TRUE", given


_CONDITIONS = {
    "since": "requests.started_at >= :since",
    "until": "requests.started_at < :until",
    "session": "requests.session_id = :session",
    "model": ":model IN (requests.request_model, requests.upstream_model, requests.response_model)",
    "kind": "requests.api_kind = :kind",
    "outcome": "requests.outcome = :outcome",
}

ALL = Selection()
