"""What a review finds. No finding holds a secret: neither whole, nor in the text around it."""

from dataclasses import dataclass

SEVERITIES = ("info", "low", "medium", "high")


@dataclass(slots=True, frozen=True)
class Place:
    """Where in the recorded calls something stands."""

    request_id: str
    started_at: str
    """Of that call: RFC 3339 UTC."""
    turn: int | None
    """Which call of its conversation it is, from 1; None where no session is known."""
    place: str
    """`tool result`, `user prompt`, `system prompt` or `request` (anywhere else in it); of an answer `answer`,
    `reasoning` or `tool arguments`; or `headers`."""
    tool: str | None = None
    """The name of the tool whose result or arguments these are."""
    call_id: str | None = None


@dataclass(slots=True, frozen=True, kw_only=True)
class Finding:
    """One thing found, however often it was sent."""

    rule: str
    severity: str
    """One of `SEVERITIES`."""
    what: str
    """In a few words; a secret is masked."""
    fingerprint: str | None = None
    """Of a secret: tells it from others of the same mask, and is the same in each review of a database."""
    first_seen: Place
    count: int
    """Calls that sent it, or did it."""
    hosts: dict[str, int]
    """The same by the host it was sent to. Of a tool call: the hosts its arguments name, and how often."""
