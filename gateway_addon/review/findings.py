"""What a review finds. No finding holds a secret: neither whole, nor in the text around it."""

import hashlib
from dataclasses import dataclass, field

SEVERITIES = ("info", "low", "medium", "high")

MAX_SHOWN = 200
"""Characters of a text that a finding shows."""


@dataclass(slots=True, frozen=True)
class Place:
    """Where in the recorded calls something stands."""

    request_id: str
    """Of the call; of what is no call, the flow's id."""
    started_at: str
    """Of that call: RFC 3339 UTC."""
    turn: int | None
    """Which call of its conversation it is, from 1; None where no session is known."""
    place: str
    """`tool result`, `user prompt`, `system prompt` or `request` (anywhere else in it); of an answer `answer`,
    `reasoning` or `tool arguments`; or `headers`. In a flow that is no call, which part of it."""
    tool: str | None = None
    """The name of the tool whose result or arguments these are."""
    call_id: str | None = None
    agent: str | None = None
    """The id of the sub-agent whose call it is, as its client says; None: none is named."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Link:
    """One step on the way that something took."""

    step: str
    """`brought` (it came in by this), `sent` (calls that sent it), `carried` (a tool's arguments have it), `named` (a
    text that names a host or what was run), `told` (an instruction), `did` (what was done)."""
    place: Place
    what: str = ""
    """A line of the text, masked; of a result, what the tool was called with."""
    count: int = 1
    hosts: dict[str, int] = field(default_factory=dict)
    """Of `sent`, how often to which; of a tool call, the hosts its arguments name."""
    calls: tuple[str, ...] = ()
    """Of `sent`: the calls, the first ones of them."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Finding:
    """One thing found, however often it was sent."""

    rule: str
    severity: str
    """One of `SEVERITIES`."""
    what: str
    """In a few words; a secret is masked."""
    fingerprint: str
    """The same in each review of a database. A secret's is a keyed hash, so that nobody can check a guess by it."""
    first_seen: Place
    count: int
    """Calls that sent it, or did it."""
    hosts: dict[str, int]
    """The same by the host it was sent to. Of a tool call: the hosts its arguments name, and how often."""
    name: str | None = None
    """To which a secret was assigned."""
    opens: str | None = None
    """What a secret opens, in a few words."""
    context: str | None = None
    """The line in which a secret stands, masked."""
    chain: tuple[Link, ...] = ()
    """Where it came from and where it went."""


def fingerprint(rule: str, *said: str) -> str:
    """Of a finding that is about no secret."""
    return hashlib.sha256("\0".join((rule, *said)).encode("utf-8", "replace")).hexdigest()[:16]


def short(text: str, limit: int = MAX_SHOWN) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
