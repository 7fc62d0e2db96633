"""The gateway: from a client's request to what is sent to which provider, or to a refusal. No I/O.

The order of the checks: path 400 → access 401, 403 → body 400 → model 404 → kind 404 → rewrite. A module each:
`routing`, `access`, `models`, `rewrites`, and `answers` for the way back. Nothing is forwarded on any doubt.
"""

import hashlib
import logging
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway_addon.api import chat_completions, messages
from gateway_addon.api.base import ApiKind, Json, Operation, Refusal, RequestFacts
from gateway_addon.config import Provider, ReverseTarget, Settings
from gateway_addon.gateway import access, models, rewrites
from gateway_addon.gateway.answers import AnswerChange
from gateway_addon.gateway.rewrites import pointer
from gateway_addon.gateway.routing import Target, route
from gateway_addon.wire import jsontext

logger = logging.getLogger(__name__)

INTERNAL_ERROR = Refusal(500, "the gateway failed on this request and did not forward it", "internal_error")

SECRET = "<secret>"
"""What stands for a key or token in `rewrites`."""
LONG_VALUE = 200
"""Characters of a value above which `rewrites` holds its hash (design 2.4)."""


@dataclass(slots=True, frozen=True, kw_only=True)
class GatewayRequest:
    """A request on a gateway path, as the client sent it."""

    method: str
    path: str
    """With query."""
    headers: Mapping[str, str]
    """Names in lower case; the values of a repeated one joined by ", " (`anthropic-beta` may repeat)."""
    body: bytes
    """Without content encoding."""
    peer_ip: str
    reverse_target: ReverseTarget


@dataclass(slots=True, frozen=True, kw_only=True)
class Plan:
    """What to send in place of a request."""

    kind: ApiKind | None
    provider: Provider
    url: str
    remove_headers: list[str]
    set_headers: dict[str, str]
    """Names in lower case; no secret among them."""
    secret_headers: dict[str, str] = field(repr=False)
    """The provider's key. In the flow it gives way to `placeholder(provider)` once the request has been sent."""
    operations: list[Operation]
    """RFC 6902, over the client's body."""
    body: bytes
    """What they make of it; the client's own bytes where there is none."""
    request_model: str | None
    upstream_model: str | None
    facts: RequestFacts | None
    """Of the client's body; None where it was not read."""
    client_body: Json | None = field(repr=False)
    """The client's body, parsed; None as for `facts`."""
    logged: bool
    side_request: str | None
    answer: AnswerChange | None
    """None: the answer goes to the client as it comes."""


def plan(request: GatewayRequest, settings: Settings) -> Plan | Refusal:
    """What becomes of a request on a gateway path. Never raises: what goes wrong here is refused with a 500."""
    try:
        return _plan(request, settings)
    except Exception as error:
        # Where, not what: the text of an exception may quote a prompt
        place = traceback.extract_tb(error.__traceback__)[-1]
        logger.error("planning failed: %s at %s:%s", type(error).__name__, Path(place.filename).name, place.lineno)
        return INTERNAL_ERROR


def _plan(request: GatewayRequest, settings: Settings) -> Plan | Refusal:
    target = route(request.method, request.path)
    if target is None:
        return Refusal(400, f"{request.path.partition('?')[0]} is no gateway path", "unknown_path")
    if isinstance(target, Refusal):
        return target
    kind = target.route.kind
    if access.without_own_tokens(request.path, settings) != request.path:
        return Refusal(401, "the client token belongs in a header, where an API key does", "invalid_api_key")
    if refusal := access.refuse(kind, request.headers, request.peer_ip, settings):
        return refusal
    if kind is not None and target.route.rewritten:
        return _model_call(request, settings, target, kind)
    provider = models.choose_provider(kind, settings, request.reverse_target)
    if isinstance(provider, Refusal):
        return provider
    body = jsontext.parse_object(request.body) if target.route.logged else None
    facts = kind.read_request(body) if kind is not None and body is not None else None
    model = facts.model if facts else None
    return _assemble(request, settings, target, provider, client_body=body, facts=facts, upstream_model=model)


def _model_call(request: GatewayRequest, settings: Settings, target: Target, kind: ApiKind) -> Plan | Refusal:
    try:
        body = jsontext.parse(request.body)
    except ValueError:
        body = None
    if refusal := kind.validate(body):
        return refusal
    if _is_named_twice("model", request.body):
        return Refusal(400, "`model` is named twice.", "invalid_body")
    model = body["model"]
    mode = request.headers.get("x-kilocode-mode")
    choice = models.choose(model, kind, mode, settings, request.reverse_target)
    if isinstance(choice, Refusal):
        return choice
    call = rewrites.Call(kind=kind, body=body, headers=request.headers, choice=choice, settings=settings)
    operations = rewrites.operations(call)
    change = AnswerChange(
        kind,
        public_model=model if choice.free else None,
        hide_usage=rewrites.asks_for_usage(operations),
    )
    return _assemble(
        request,
        settings,
        target,
        choice.provider,
        client_body=body,
        facts=kind.read_request(body),
        upstream_model=choice.upstream_model,
        operations=operations,
        answer=change if change.public_model or change.hide_usage else None,
    )


def _is_named_twice(name: str, body: bytes) -> bool:
    """Whether a JSON object has two members of a name: back ends differ in which of them they read."""
    text = body.decode().removeprefix(jsontext.BOM)
    return sum(member.key == name for member in jsontext.members(text)) > 1


def _assemble(
    request: GatewayRequest,
    settings: Settings,
    target: Target,
    provider: Provider,
    *,
    client_body: Json | None,
    facts: RequestFacts | None,
    upstream_model: str | None,
    operations: Sequence[Operation] = (),
    answer: AnswerChange | None = None,
) -> Plan:
    """The plan for a request that may go: its operations divided among headers and body, credentials exchanged."""
    kind = target.route.kind
    set_headers = {
        operation["path"].removeprefix("/"): operation["value"] for operation in _under("/headers", operations)
    }
    if answer:
        # an answer that is to be changed must be readable
        set_headers["accept-encoding"] = "identity"
    credentials = access.provider_credentials(provider, kind, settings)
    for name in credentials.keys() - set(access.CREDENTIALS):
        # the client's own `anthropic-version` says what the client can read
        set_headers[name] = request.headers.get(name, credentials[name])
    withheld = access.withheld(request.headers, provider, settings)
    body_operations = _under("/body", operations)
    # a changed body leaves as it is: not every provider takes compressed ones
    encoding = ["content-encoding"] if body_operations and "content-encoding" in request.headers else []
    return Plan(
        kind=kind,
        provider=provider,
        url=provider.api_url + target.path + target.query,
        remove_headers=[*(name for name in withheld if name not in credentials), *encoding],
        set_headers={name: value for name, value in set_headers.items() if request.headers.get(name) != value},
        secret_headers={name: value for name, value in credentials.items() if name in access.CREDENTIALS},
        operations=body_operations,
        body=jsontext.apply(request.body, body_operations),
        request_model=facts.model if facts else None,
        upstream_model=upstream_model,
        facts=facts,
        client_body=client_body,
        logged=target.route.logged,
        side_request=target.route.side_request,
        answer=answer,
    )


def _under(place: str, operations: Sequence[Operation]) -> list[Operation]:
    """The operations on one part of the request, as seen from there."""
    return [op | {"path": op["path"].removeprefix(place)} for op in operations if op["path"].startswith(place + "/")]


def placeholder(provider: Provider) -> str:
    """What stands in a flow for a provider's key; on client replay it becomes today's."""
    return f"{{gateway:{provider.id}}}"


def reply(refusal: Refusal, kind: ApiKind | None, headers: Mapping[str, str]) -> tuple[int, bytes]:
    """Status and JSON body of a refusal, in the shape the client's SDK understands (design 2.6).

    Without a kind: the OpenAI shape, unless the client speaks Anthropic's. `headers`: names in lower case.
    """
    shape: ApiKind = kind or (messages if "anthropic-version" in headers else chat_completions)
    return refusal.status, jsontext.dumps(shape.error_body(refusal)).encode()


def rewrites_json(plan: Plan, request: GatewayRequest, *, without_values: bool = False) -> str:
    """The column `rewrites`: RFC 6902 over `{"url", "headers", "body"}`, from the client's request to what was sent.

    Keys and tokens are `"<secret>"`, values over 200 characters `{"sha256", "bytes"}`; `without_values` leaves all out
    (`gateway_content=none`).
    """
    changed = plan.set_headers | dict.fromkeys(plan.secret_headers, SECRET)
    operations: list[Operation] = [
        {"op": "replace", "path": "/url", "value": plan.url},
        *({"op": "remove", "path": pointer("headers", name)} for name in plan.remove_headers),
        *(
            {"op": "replace" if name in request.headers else "add", "path": pointer("headers", name), "value": value}
            for name, value in changed.items()
        ),
        *(operation | {"path": "/body" + operation["path"]} for operation in plan.operations),
    ]
    return jsontext.dumps([_recorded(operation, without_values) for operation in operations])


def _recorded(operation: Operation, without_values: bool) -> Operation:
    if "value" not in operation:
        return operation
    if without_values:
        return {key: part for key, part in operation.items() if key != "value"}
    return operation | {"value": _short(operation["value"])}


def _short(value: Any) -> Any:
    text = value if isinstance(value, str) else jsontext.dumps(value)
    if len(text) <= LONG_VALUE:
        return value
    data = text.encode("utf-8", "surrogatepass")
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
