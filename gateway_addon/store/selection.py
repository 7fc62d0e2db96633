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
    """Its id; where there is none like that, all that begin so."""
    model: str | None = None
    """Any of the call's names for it; `*` stands for anything."""
    client: str | None = None
    agent: str | None = None
    """Its id, or the beginning of it; `MAIN` for the one that is nobody's sub-agent."""
    outcome: str | None = None
    kind: str | None = None
    side: str | None = None
    """What a request is for that is no turn of a person; `ANY` of these, or `NONE`."""

    @property
    def is_all(self) -> bool:
        return self == ALL

    def condition(self) -> tuple[str, dict[str, Any]]:
        """SQL that is true of the rows of `requests` that are meant, and the values of its parameters."""
        given = {name: value for name in _CONDITIONS if (value := getattr(self, name)) is not None}
        return " AND ".join(_CONDITIONS[name] for name in given) or "TRUE", given


MAIN = "main"
ANY, NONE = "any", "none"

_CONDITIONS = {
    "since": "requests.started_at >= :since",
    "until": "requests.started_at < :until",
    "session": """(requests.session_id = :session
        OR substr(requests.session_id, 1, length(:session)) = :session
           AND NOT EXISTS (SELECT 1 FROM requests AS named WHERE named.session_id = :session))""",
    "model": """(:model IN (requests.request_model, requests.upstream_model, requests.response_model)
        OR requests.request_model GLOB :model OR requests.upstream_model GLOB :model
        OR requests.response_model GLOB :model)""",
    "client": "requests.client = :client",
    "agent": f"""CASE :agent WHEN '{MAIN}' THEN requests.agent_id IS NULL
        ELSE substr(requests.agent_id, 1, length(:agent)) = :agent END""",
    "outcome": "requests.outcome = :outcome",
    "kind": "requests.api_kind = :kind",
    "side": f"""CASE :side WHEN '{ANY}' THEN requests.side_request IS NOT NULL
        WHEN '{NONE}' THEN requests.side_request IS NULL ELSE requests.side_request = :side END""",
}

ALL = Selection()
