"""One model call as values: what its client asked for, and what became of that. No I/O, no clock.

mitmproxy's side makes a `Call` from a flow, live or saved; whatever comes after cannot tell which it was.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from gateway_addon import clients
from gateway_addon.api import base
from gateway_addon.api.base import ApiKind, Json, Operation, RequestFacts
from gateway_addon.gateway.answers import AnswerChange
from gateway_addon.terms import SideRequest, Source, Transport, Warning
from gateway_addon.wire import encodings, jsontext
from gateway_addon.wire.elements import Body, Memory
from gateway_addon.wire.headers import Headers

MAX_REQUEST = 64 * 1024 * 1024
"""Bytes. A longer request body (content-decoded) is not read. Observed, it is forwarded all the same; on a gateway
path, where it would have to be understood, it is refused."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Head:
    """A request before its body: all that is looked at to say who may call."""

    method: str
    path: str
    """With query."""
    headers: Headers

    @property
    def is_upgrade(self) -> bool:
        """Whether it wants a WebSocket."""
        return self.method == "GET" and self.headers.get("upgrade", "").lower() == "websocket"


@dataclass(slots=True, frozen=True, kw_only=True)
class Request(Head):
    """A request as its client sent it, decoded and parsed once. Made by `read_request`, or by `unread_request`."""

    size: int | None
    """Bytes of the body as sent; None if it is unknown."""
    body: bytes | None = field(repr=False)
    """Without content encoding; None if it is unknown, or too much to be read."""
    json: Json | None = field(repr=False)
    """The body parsed; None if it is no JSON object that was read. Nobody may change it: other requests share its
    elements."""
    elements: Body | None = field(repr=False, default=None)
    """The body as its elements, where a memory has read it."""
    warnings: tuple[Warning, ...] = ()
    """Why the body is unknown, or cannot be read."""
    sha256: str | None = None
    """Of the body, in hex, where it has been computed already."""


def read_request(method: str, path: str, headers: Headers, raw: bytes | None, memory: Memory | None = None) -> Request:
    """Decode and parse a request; `raw` is its body as sent, None if that is not known. Never raises.

    A `memory` of what was sent before makes it faster, not different.
    """
    body: bytes | None = None
    json: Json | None = None
    elements: Body | None = None
    warning: Warning | None = None
    if raw is None:
        warning = "request_missing"
    else:
        try:
            body = encodings.decode(raw, headers.joined("content-encoding"), MAX_REQUEST)
            elements = _elements(body, memory)
            json = elements.json if elements else _parsed(body)
        except (encodings.TooLargeError, jsontext.TooManyValuesError):
            body, warning = None, "request_too_large"
        except encodings.DecodeError:
            warning = "request_undecodable"
    if warning is None and json is None and method == "POST":
        warning = "request_unreadable"
    return Request(
        method=method,
        path=path,
        headers=headers,
        size=None if raw is None else len(raw),
        body=body,
        json=json,
        elements=elements,
        warnings=(warning,) if warning else (),
        sha256=elements.sha256 if elements else None,
    )


def _elements(body: bytes, memory: Memory | None) -> Body | None:
    try:
        return memory.read(body) if memory else None
    except jsontext.TooManyValuesError:
        raise
    except ValueError:
        return None


def _parsed(body: bytes) -> Json | None:
    jsontext.check_values(body)
    return jsontext.parse_object(body)


MAX_STRANGE = 256
"""Characters of a header's value, beyond which it is nothing to a row of somebody who was turned away."""


def unread_request(head: Head) -> Request:
    """The request of a caller who was turned away for its head: nothing is known of its body."""
    return Request(
        method=head.method,
        path=head.path,
        headers=Headers({name: value for name, value in head.headers.items() if len(value) <= MAX_STRANGE}),
        size=None,
        body=None,
        json=None,
        warnings=("request_missing",),
    )


@dataclass(slots=True, frozen=True, kw_only=True)
class Destination:
    """Where a request goes, and who pays there."""

    host: str
    path: str
    """Without query."""
    provider: str | None
    """The id of the configured provider; None where none is configured for the host."""
    dialect: str | None
    """The provider's, where it has one."""
    model: str | None
    """Named in the request as it was sent."""
    payer: Literal["client", "gateway"]
    """Whose credentials went with it."""
    client_credential: str | None
    """The kind of the client's own credential that went along (`credentials.credential_kind`)."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Passage:
    """What becomes of a request that is a model call."""

    kind: ApiKind
    destination: Destination | None
    """None: it goes nowhere, the addon answers it."""
    transport: Transport = "http"
    model: str | None = None
    """What its path says that the client asks for; its body goes before."""
    side_request: SideRequest | None = None
    """What its path says it is; else its body and headers tell."""
    rewrites: tuple[Operation, ...] = ()
    """RFC 6902 over `{"url", "headers", "body"}`, from the client's request to what was sent."""
    change: AnswerChange | None = None
    """How the answer is to be changed on its way to the client."""
    warnings: tuple[Warning, ...] = ()


@dataclass(slots=True, frozen=True, kw_only=True)
class Call:
    """A model call, all that is known of it before its answer."""

    id: str
    """The row's."""
    run_id: str
    source: Source
    started: float
    """Seconds since the epoch."""
    request: Request
    passage: Passage
    facts: RequestFacts
    """What the request says, as its client sent it."""
    client: clients.Client


def open_call(
    request: Request,
    passage: Passage,
    *,
    id: str,
    run_id: str,
    source: Source,
    started: float,
    failed: Callable[[Exception], None],
) -> Call:
    """Read what a request says and who sent it. `failed` is told if that raises: a call must not go without a row."""
    facts, client = RequestFacts(), clients.Client()
    try:
        if request.json is not None:
            of = request.elements.of if request.elements else base.of
            facts = passage.kind.read_request(request.json, of)
        facts = clients.with_durations(request.headers, clients.with_own_prompts(request.headers, facts))
        client = clients.identify(request.headers, request.json, facts)
    except Exception as error:
        failed(error)
    facts.model = facts.model or passage.model
    return Call(
        id=id,
        run_id=run_id,
        source=source,
        started=started,
        request=request,
        passage=passage,
        facts=facts,
        client=client,
    )
