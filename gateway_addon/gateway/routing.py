"""Which calls the gateway takes, and where on a provider they go. What no row names is refused."""

import re
from dataclasses import dataclass
from urllib.parse import unquote

from gateway_addon.api import chat_completions, messages, responses
from gateway_addon.api.base import ApiKind, Refusal
from gateway_addon.terms import SideRequest

PREFIX = re.compile(r"/api/(?:gateway|openrouter)(?=/|$)(?:/v1(?=/|$))*")
"""Both names mean the same, and neither names a provider; clients add `/v1` to a base URL that already has it."""

ID = r"[\w.:~-]+"
MODEL_ID = re.compile(r"(?!\.{1,2}(?:/|$))[\w.:~@+-]+(?:/(?!\.{1,2}(?:/|$))[\w.:~@+-]+)*", re.ASCII)
"""A decoded model id: `vendor/model:variant`, no dot segments, nothing that is still encoded."""
MAX_MODEL_ID = 1000
"""Characters of one as it is sent."""
QUERY = re.compile(r"[!-~]*")
"""What HTTP/2 lets through beside it, a space or a line end, would end the request line for an HTTP/1 provider."""


@dataclass(slots=True, frozen=True)
class Route:
    """One way through the gateway."""

    kind: ApiKind | None
    """None: the path tells no kind (lists of models)."""
    rewritten: bool = False
    """A model call: validated, its model resolved, its body rewritten. Else only path and credentials change."""
    logged: bool = False
    side_request: SideRequest | None = None


@dataclass(slots=True, frozen=True)
class Target:
    """Where a request goes, relative to a provider's `api_url`."""

    route: Route
    path: str
    """Appended to `api_url`: begins with a slash, without query."""
    query: str
    """As the client sent it, with its `?`; "" if there is none."""


_CALLS = [
    (("POST",), kind.SUFFIX, Route(kind, rewritten=True, logged=True))
    for kind in (chat_completions, responses, messages)
]
ROUTES: tuple[tuple[tuple[str, ...], re.Pattern[str], Route], ...] = tuple(
    (methods, re.compile(path, re.ASCII), route)
    for methods, path, route in (
        *_CALLS,
        (("GET",), r"/models(?:/(?P<model>.+))?", Route(None)),
        (("POST",), r"/messages/count_tokens", Route(messages)),
        (("POST",), r"/responses/input_tokens", Route(responses)),
        (("POST",), r"/responses/compact", Route(responses, logged=True, side_request="compaction")),
        (("GET", "POST"), rf"/responses/(?!\.{{1,2}}(?:/|$)){ID}(?:/cancel)?", Route(responses)),
    )
)
"""Methods, path behind the prefix, what becomes of the call. The first row that fits counts."""


def route(method: str, path: str) -> Target | Refusal | None:
    """Find the way of a request; `path` is as on the request line, with query.

    None: no gateway path at all. A `Refusal`: under a gateway prefix, but in no row of `ROUTES`. The path is matched as
    sent, not normalised: what would need that (`..`, `//`, `%2F`) is in no row, so nobody reads it differently later.
    """
    path, mark, query = path.partition("?")
    prefix = PREFIX.match(path)
    if prefix is None:
        return None
    if not QUERY.fullmatch(query):
        return Refusal(400, "the query holds characters that no URL has", "unknown_path")
    rest = path[prefix.end() :].removesuffix("/")
    for methods, pattern, found in ROUTES:
        match = pattern.fullmatch(rest)
        if match and method in methods and _is_model_id(match.groupdict().get("model")):
            return Target(found, rest, mark + query)
    return Refusal(400, f"the gateway has no {method} {path}", "unknown_path")


def _is_model_id(encoded: str | None) -> bool:
    # some SDKs send the slash of an id as %2F: looked at as a server would decode it, forwarded as it came
    if encoded is None:
        return True
    return len(encoded) <= MAX_MODEL_ID and MODEL_ID.fullmatch(unquote(encoded)) is not None
