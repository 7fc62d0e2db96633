"""Which calls the gateway takes, and where on a provider they go: lists of models, and what the kinds' modules name."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote

from gateway_addon.api import KINDS, turns
from gateway_addon.api.base import ApiKind, Refusal
from gateway_addon.terms import SideRequest

PREFIX = re.compile(r"/api/(?:gateway|openrouter)(?=/|$)(?:/v1(?=/|$))*")
"""Both names mean the same, and neither names a provider; clients add `/v1` to a base URL that already has it."""

MODELS = re.compile(r"/models(?:/(?P<id>.+))?")
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
    """A model call: validated, its model resolved, its body rewritten. Else path, credentials and model change."""
    logged: bool = False
    side_request: SideRequest | None = None
    names_model: bool = False
    """The body may name a model: it is resolved as for a model call, and nothing else of the body changes."""
    is_socket: bool = False
    """An upgrade to a WebSocket, on which each message may be a model call."""


@dataclass(slots=True, frozen=True)
class Target:
    """Where a request goes, relative to a provider's `api_url`."""

    route: Route
    path: str
    """Appended to `api_url`: begins with a slash, without query."""
    query: str
    """As the client sent it, with its `?`; "" if there is none."""


SHOWN = 200
"""Characters of a method or path that a refusal repeats: its flow is kept."""


def route(method: str, path: str, *, is_upgrade: bool = False) -> Target | Refusal | None:
    """Find the way of a request; `path` is as on the request line, with query. `is_upgrade`: it wants a WebSocket.

    None: no gateway path at all. A `Refusal`: under a gateway prefix, but none that the gateway takes. The path is
    matched as sent, not normalised: what would need that (`..`, `//`, `%2F`) matches nothing, so that nobody reads it
    differently later.
    """
    path, mark, query = path.partition("?")
    prefix = PREFIX.match(path)
    if prefix is None:
        return None
    if not QUERY.fullmatch(query):
        return Refusal(400, "the query holds characters that no URL has", "unknown_path")
    rest = path[prefix.end() :].removesuffix("/")
    found = next(_routes(method, rest, is_upgrade), None)
    if found is None:
        return Refusal(400, f"the gateway has no {method[:SHOWN]} {path[:SHOWN]}", "unknown_path")
    return Target(found, rest, mark + query)


def _routes(method: str, path: str, is_upgrade: bool) -> Iterator[Route]:
    """What a path behind the prefix may be; the first counts."""
    if is_upgrade and path == turns.KIND.SUFFIX:
        yield Route(turns.KIND, rewritten=True, logged=True, is_socket=True)
    for kind in KINDS.values():
        if method == "POST" and path == kind.SUFFIX:
            yield Route(kind, rewritten=True, logged=True)
    if method == "GET" and _lists_models(path):
        yield Route(None)
    for kind in KINDS.values():
        for side in kind.SIDE_PATHS:
            if method in side.methods and side.path.fullmatch(path):
                yield Route(kind, logged=side.logged, side_request=side.side_request, names_model=side.names_model)


def _lists_models(path: str) -> bool:
    found = MODELS.fullmatch(path)
    # some SDKs send the slash of an id as %2F: looked at as a server would decode it, forwarded as it came
    if found is None or found["id"] is None:
        return found is not None
    return len(found["id"]) <= MAX_MODEL_ID and MODEL_ID.fullmatch(unquote(found["id"])) is not None
