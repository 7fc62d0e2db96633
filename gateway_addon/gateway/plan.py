"""From a client's request to what is sent to which provider, or to a refusal.

The order of the checks: path 400 → access 401, 403 (`admit`, which sees no more than the head) → body 400 → model 404 →
kind 404 → rewrite (`plan`). Nothing is forwarded on any doubt.
"""

import logging
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gateway_addon.api import turns
from gateway_addon.api.base import ApiKind, Operation, Refusal
from gateway_addon.api.refusals import check_model, check_object
from gateway_addon.call import Head, Request
from gateway_addon.config import Provider, ReverseTarget, Settings
from gateway_addon.gateway import access, models, rewrites
from gateway_addon.gateway.access import Caller
from gateway_addon.gateway.answers import AnswerChange
from gateway_addon.gateway.replies import INTERNAL_ERROR
from gateway_addon.gateway.routing import SHOWN, Target, route
from gateway_addon.terms import SideRequest
from gateway_addon.wire import jsontext

logger = logging.getLogger(__name__)

UPGRADE_REQUIRED = 426
"""The answer to an upgrade that sends agents to HTTP at once; any other has them try again for seconds, or give up."""


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
    upstream_model: str | None
    """None where the body was not read."""
    logged: bool
    side_request: SideRequest | None
    answers: tuple[AnswerChange, ...]
    """How the answer is changed: as the one says, or, where its model is not known before, as that of them says whose
    model it names. None: it goes to the client as it comes."""


def admit(head: Head, caller: Caller, settings: Settings) -> Target | Refusal:
    """Whether a request on a gateway path may be made, by this caller; told from its head alone, in time linear in it.

    Never raises: what goes wrong here is refused with a 500.
    """
    return _or_refused(lambda: _admit(head, caller, settings))


def plan(request: Request, target: Target, reverse_target: ReverseTarget, settings: Settings) -> Plan | Refusal:
    """What becomes of a request that was admitted to `target`. Never raises: what goes wrong is refused with a 500."""
    return _or_refused(lambda: _plan(request, target, reverse_target, settings))


def plan_turn(
    request: Request, target: Target, provider: Provider, reverse_target: ReverseTarget, settings: Settings
) -> Plan | Refusal:
    """What becomes of a message on a WebSocket that was admitted to `target`, and leads to `provider`: body, model and
    answer of the plan count, as the rest was sent with the upgrade. Never raises, as `plan`."""
    return _or_refused(lambda: _turn(request, target, provider, reverse_target, settings))


def is_doubtful(request: Request) -> bool:
    """Whether a message that seems to begin no turn may be taken for one that does, or may ask another model for
    something: there is no other message that names one."""
    return request.json is None or "model" in request.json or _is_named_twice("type", request)


def _or_refused[T](decide: Callable[[], T | Refusal]) -> T | Refusal:
    try:
        return decide()
    except Exception as error:
        # Where, not what: the text of an exception may quote a prompt
        place = traceback.extract_tb(error.__traceback__)[-1]
        logger.error("planning failed: %s at %s:%s", type(error).__name__, Path(place.filename).name, place.lineno)
        return INTERNAL_ERROR


def _admit(head: Head, caller: Caller, settings: Settings) -> Target | Refusal:
    target = route(head.method, head.path, is_upgrade=head.is_upgrade)
    if target is None:
        return Refusal(400, f"{head.path.partition('?')[0][:SHOWN]} is no gateway path", "unknown_path")
    if isinstance(target, Refusal):
        return target
    if access.without_own_tokens(head.path, settings) != head.path:
        return Refusal(401, "the client token belongs in a header, where an API key does", "invalid_api_key")
    return access.refuse(target.route.kind, head, caller, settings) or target


def _plan(request: Request, target: Target, reverse_target: ReverseTarget, settings: Settings) -> Plan | Refusal:
    kind = target.route.kind
    if kind is not None and target.route.is_socket:
        return _upgrade(request, reverse_target, settings, target, kind)
    if kind is not None and (target.route.rewritten or target.route.names_model):
        return _model_call(request, reverse_target, settings, target, kind)
    return _as_it_came(request, reverse_target, settings, target)


def _as_it_came(request: Request, reverse_target: ReverseTarget, settings: Settings, target: Target) -> Plan | Refusal:
    kind = target.route.kind
    provider = models.choose_provider(kind, settings, reverse_target)
    if isinstance(provider, Refusal):
        return provider
    # it may show an answer that the provider has
    answers = [
        AnswerChange(kind, public_model=name, upstream_model=model.model, where_named=True)
        for name, model in settings.models.items()
        if kind and model.free and model.model and (model.provider or provider.id) == provider.id
    ]
    return _assemble(request, settings, target, provider, upstream_model=None, answers=answers)


def _upgrade(
    request: Request, reverse_target: ReverseTarget, settings: Settings, target: Target, kind: ApiKind
) -> Plan | Refusal:
    provider = models.choose_provider(kind, settings, reverse_target)
    if isinstance(provider, Refusal):
        return provider
    if not provider.takes_websockets:
        return Refusal(UPGRADE_REQUIRED, f"the provider {provider.id!r} takes no WebSockets, only HTTP", "no_websocket")
    # what the rules make of the headers, which no turn has of its own
    call = rewrites.RuleContext(
        kind=kind,
        body={"model": ""},
        headers=access.without_tokens(request.headers, settings),
        choice=models.Choice(provider, upstream_model=""),
        settings=settings,
    )
    operations = [operation for operation in rewrites.operations(call) if operation["path"].startswith("/headers/")]
    return _assemble(request, settings, target, provider, upstream_model=None, operations=operations)


def _turn(
    request: Request, target: Target, provider: Provider, reverse_target: ReverseTarget, settings: Settings
) -> Plan | Refusal:
    if refusal := check_object(request.json):
        return refusal
    if (request.json or {}).get("type") != turns.CREATE or _is_named_twice("type", request):
        return Refusal(400, f"a message that names a model must be a {turns.CREATE!r}.", "invalid_body")
    if _is_named_twice("stream_id", request):
        return Refusal(400, "`stream_id` is named twice.", "invalid_body")
    planned = _model_call(request, reverse_target, settings, target, turns.KIND)
    if isinstance(planned, Plan) and planned.provider.id != provider.id:
        model = (request.json or {}).get("model")
        return Refusal(404, f"the model {model!r} is not served on a WebSocket to {provider.id!r}", "model_not_found")
    return planned


def _model_call(
    request: Request, reverse_target: ReverseTarget, settings: Settings, target: Target, kind: ApiKind
) -> Plan | Refusal:
    body = request.json
    is_side = not target.route.rewritten
    if refusal := check_object(body) if is_side else kind.validate(body):
        return refusal
    assert body is not None
    assert request.body is not None
    if _is_named_twice("model", request):
        return Refusal(400, "`model` is named twice.", "invalid_body")
    if is_side and body.get("model") is None and "models" not in body:
        # it asks about an answer that the provider has
        return _as_it_came(request, reverse_target, settings, target)
    if refusal := check_model(body):
        return refusal
    model = body["model"]
    mode = request.headers.get("x-kilocode-mode")
    choice = models.choose(model, kind, mode, settings, reverse_target)
    if isinstance(choice, Refusal):
        return choice
    headers = access.without_tokens(request.headers, settings)
    call = rewrites.RuleContext(
        kind=kind, body=body, headers=headers, choice=choice, settings=settings, is_side=is_side
    )
    operations = rewrites.operations(call)
    change = AnswerChange(
        kind,
        public_model=model if choice.free else None,
        upstream_model=choice.upstream_model,
        hide_usage=rewrites.asks_for_usage(operations),
    )
    return _assemble(
        request,
        settings,
        target,
        choice.provider,
        upstream_model=choice.upstream_model,
        operations=operations,
        answers=[change] if change.public_model or change.hide_usage else [],
    )


def _is_named_twice(name: str, request: Request) -> bool:
    """Whether a request's body has two members of a name: back ends differ in which of them they read."""
    # no member of it stands in what is said
    body = request.elements.frame if request.elements else request.body or b""
    if body.count(b'"%b"' % name.encode()) < 2 and b"\\u" not in body:
        return False
    text = body.decode().removeprefix(jsontext.BOM)
    return sum(member.key == name for member in jsontext.members(text)) > 1


def _assemble(
    request: Request,
    settings: Settings,
    target: Target,
    provider: Provider,
    *,
    upstream_model: str | None,
    operations: Sequence[Operation] = (),
    answers: Sequence[AnswerChange] = (),
) -> Plan:
    """The plan for a request that may go: its operations divided among headers and body, credentials exchanged."""
    kind = target.route.kind
    set_headers = {
        operation["path"].removeprefix("/"): operation["value"] for operation in _under("/headers", operations)
    }
    if answers:
        # an answer that is to be changed must be readable
        set_headers["accept-encoding"] = "identity"
    credentials = access.provider_credentials(provider, kind, settings)
    for name in credentials.keys() - set(access.CREDENTIALS):
        # the client's own `anthropic-version` says what the client can read
        set_headers[name] = access.without_tokens(request.headers, settings).get(name, credentials[name])
    withheld = access.withheld(request.headers, provider, settings)
    body_operations = _under("/body", operations)
    # a changed body leaves as it is: not every provider takes compressed ones
    encoding = ["content-encoding"] if body_operations and "content-encoding" in request.headers else []
    return Plan(
        kind=kind,
        provider=provider,
        url=provider.api_url + target.path + target.query,
        remove_headers=[*(name for name in withheld if name not in credentials | set_headers), *encoding],
        set_headers={name: value for name, value in set_headers.items() if request.headers.get(name) != value},
        secret_headers={name: value for name, value in credentials.items() if name in access.CREDENTIALS},
        operations=body_operations,
        body=jsontext.apply(request.body or b"", body_operations),
        upstream_model=upstream_model,
        logged=target.route.logged,
        side_request=target.route.side_request,
        answers=(*answers,),
    )


def _under(place: str, operations: Sequence[Operation]) -> list[Operation]:
    """The operations on one part of the request, as seen from there."""
    return [op | {"path": op["path"].removeprefix(place)} for op in operations if op["path"].startswith(place + "/")]
