"""Carrying out the gateway's plan on a flow: the request is sent as planned, all but its key (`keys`), or refused."""

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from mitmproxy import http
from mitmproxy.log import ALERT

from gateway_addon.api import kind_of_path, turns
from gateway_addon.api.base import ApiKind, Operation, Refusal
from gateway_addon.call import Destination, Head, Passage, Request, unread_request
from gateway_addon.captures import notes
from gateway_addon.config import Settings
from gateway_addon.credentials import credential_kind
from gateway_addon.gateway import patch
from gateway_addon.gateway.access import TOKEN_NEEDED, Caller
from gateway_addon.gateway.answers import AnswerChange
from gateway_addon.gateway.plan import UPGRADE_REQUIRED, Plan, admit, is_doubtful, plan, plan_turn
from gateway_addon.gateway.replies import INTERNAL_ERROR, reply
from gateway_addon.gateway.routing import PREFIX, Target, route
from gateway_addon.proxy import flows
from gateway_addon.proxy.keys import Keys, Sent, hide_own_tokens
from gateway_addon.proxy.log import describe
from gateway_addon.proxy.websocket import Decision
from gateway_addon.terms import Transport
from gateway_addon.wire.elements import Memory

logger = logging.getLogger(__name__)


def is_gateway_call(flow: http.HTTPFlow) -> bool:
    """Whether a live request is the gateway's to answer for, and nobody has answered it yet."""
    return is_for_gateway(flow) and flow.response is None and flow.error is None


def is_for_gateway(flow: http.HTTPFlow) -> bool:
    """Whether a request is live, under the gateway's prefixes as its client sent it, on a reverse-mode listener, and
    no replay of what the gateway has dealt with before."""
    return (
        flow.live
        and flow.is_replay is None
        and flows.is_reverse(flow)
        and PREFIX.match(flow.request.path.partition("?")[0]) is not None
    )


class Quota:
    """So many a second, and no more."""

    def __init__(self, a_second: int) -> None:
        self._taken: deque[float] = deque(maxlen=a_second)

    def take(self) -> bool:
        """Whether there was one left."""
        now = time.monotonic()
        if len(self._taken) == self._taken.maxlen and now - self._taken[0] < 1:
            return False
        self._taken.append(now)
        return True


@dataclass(slots=True, frozen=True)
class Prepared:
    """What was decided of a request, before anything is done about it."""

    request: Request
    planned: Plan | Refusal
    rewrites: tuple[Operation, ...]
    """As they stand on record."""


class Forwarder:
    """Sends or refuses the gateway's calls. `keys` is given the key of each that it sends.

    `turn_away` is told of a stranger who was refused and gets no row, because there are too many.
    """

    STRANGERS_A_SECOND = 5
    """Rows for callers who show no token: whoever can reach a listener could fill the disk with them."""

    def __init__(self, keys: Keys, turn_away: Callable[[], None], memory: Memory | None = None) -> None:
        self._keys = keys
        self._turn_away = turn_away
        self._memory = memory
        self._strangers = Quota(self.STRANGERS_A_SECOND)
        self._verdicts: dict[str, tuple[Head, Target | Refusal]] = {}
        """Heads that have arrived without their body yet, and what was made of them, by flow id."""
        self.ways: dict[http.HTTPFlow, Turns] = {}
        """Where the turns go of the WebSockets that it has let open; whoever sees one end takes it out."""
        self.unrecorded_changes: dict[http.HTTPFlow, tuple[AnswerChange, ...]] = {}
        """How answers may be changed of what was sent and is no call to record. Whoever does so takes it out."""

    def admit(self, flow: http.HTTPFlow, caller: Caller, settings: Settings) -> None:
        """A gateway call's head has arrived: judge it before anything of its body is looked at, and answer it here at
        once if it is refused."""
        head = flows.head_of(flow.request)
        verdict = admit(head, caller, settings)
        self._verdicts[flow.id] = head, verdict
        if isinstance(verdict, Refusal):
            self._answer(flow, verdict)

    def prepare(self, flow: http.HTTPFlow, settings: Settings, read: Request | None = None) -> Prepared | None:
        """Decide what becomes of a request whose head was admitted; None: it was not. Changes nothing, so that it may
        be done in a thread. `read`: the request, where that has been done already."""
        head, admitted = self._verdicts.get(flow.id, (None, None))
        if head is None or admitted is None or isinstance(admitted, Refusal):
            return None
        request = read or flows.request_of(flow.request, self._memory)
        # as it came: mitmproxy's `host` has been put right since
        request = replace(request, method=head.method, path=head.path, headers=head.headers)
        planned = plan(request, admitted, flows.reverse_target(flow), settings)
        rewrites = patch.on_record(planned, head.headers) if isinstance(planned, Plan) else ()
        return Prepared(request, planned, rewrites)

    def forward(
        self, flow: http.HTTPFlow, caller: Callable[[], Caller], settings: Settings, prepared: Prepared | None = None
    ) -> tuple[Request, Passage] | None:
        """Turn a gateway call's request into the planned one, or answer it here. None: it is no call to record.

        `caller` is asked for where the head was not for the gateway when it arrived; `prepared`, where that has been
        done already. The gateway fails closed: what it could not deal with must not reach anybody.
        """
        try:
            if flow.id not in self._verdicts:
                self.admit(flow, caller(), settings)
            prepared = prepared or self.prepare(flow, settings)
            head, admitted = self._verdicts.pop(flow.id)
            if isinstance(admitted, Refusal):
                return self._turned_away(flow, head, admitted, settings)
            assert prepared is not None
            request, planned = prepared.request, prepared.planned
            if isinstance(planned, Refusal):
                return self._refuse(flow, request, planned, settings)
            self._keys.hold(flow, Sent(planned.provider, planned.secret_headers))
            send(flow, planned, settings)
            if admitted.route.is_socket:
                self.ways[flow] = Turns(flow, head, admitted, planned)
                return None
            if planned.kind is None or not planned.logged:
                if planned.answers:
                    self.unrecorded_changes[flow] = planned.answers
                return None
            return request, _passage(flow, planned, planned.kind, prepared.rewrites)
        except Exception as error:
            logger.warning("%s: refused, the gateway failed: %s", flow.id, describe(error))
            self.forget(flow)
            self._keys.conceal(flow)
            refuse(flow, INTERNAL_ERROR, kind_of_path(flow.request.path))
            return None

    def is_waiting(self, flow: http.HTTPFlow) -> bool:
        """Whether a flow's head has been judged, and its body has not arrived yet."""
        return flow.id in self._verdicts

    def forget(self, flow: http.HTTPFlow) -> None:
        """A flow has been answered or has ended: its body is not waited for any more."""
        if (waited := self._verdicts.pop(flow.id, None)) and isinstance(waited[1], Refusal):
            notes.cut_head(flow)

    def _turned_away(
        self, flow: http.HTTPFlow, head: Head, refusal: Refusal, settings: Settings
    ) -> tuple[Request, Passage] | None:
        """A caller was refused for the head; the body has come since, and is neither decoded nor kept."""
        request = unread_request(head)
        flow.request.content = None
        if refusal is TOKEN_NEEDED and not self._strangers.take():
            self._answer(flow, refusal)
            hide_own_tokens(flow, settings)
            self._turn_away()
            opened = None
        else:
            opened = self._refuse(flow, request, refusal, settings)
        # mitmproxy saves every flow, and whoever reaches the listener can have a head refused
        notes.cut_head(flow)
        return opened

    def _refuse(
        self, flow: http.HTTPFlow, request: Request, refusal: Refusal, settings: Settings
    ) -> tuple[Request, Passage] | None:
        target = route(request.method, request.path, is_upgrade=request.is_upgrade)
        kind = target.route.kind if isinstance(target, Target) else None
        self._answer(flow, refusal)
        hide_own_tokens(flow, settings)
        if refusal.status == UPGRADE_REQUIRED:
            # the same call comes by HTTP at once
            logger.log(ALERT, "gateway-addon: %s", refusal.message)
            return None
        if not isinstance(target, Target) or kind is None or not target.route.logged:
            return None
        transport: Transport = "websocket" if target.route.is_socket else "http"
        side_request = target.route.side_request
        return request, Passage(kind=kind, destination=None, transport=transport, side_request=side_request)

    def _answer(self, flow: http.HTTPFlow, refusal: Refusal) -> None:
        head = flows.head_of(flow.request)
        target = route(head.method, head.path, is_upgrade=head.is_upgrade)
        refuse(flow, refusal, target.route.kind if isinstance(target, Target) else None)
        notes.leave_refusal(flow)


class Turns:
    """The way of the turns of a WebSocket that the gateway has let open (`websocket.Way`)."""

    fails_closed = True

    def __init__(self, flow: http.HTTPFlow, head: Head, target: Target, upgrade: Plan) -> None:
        self.head = head
        self._flow = flow
        self._target = target
        self._upgrade = upgrade

    def is_doubtful(self, request: Request) -> bool:
        return is_doubtful(request)

    def decide(self, request: Request, noted: notes.Notes, settings: Settings) -> Decision:
        there = flows.reverse_target(self._flow)
        planned = plan_turn(request, self._target, self._upgrade.provider, there, settings)
        if isinstance(planned, Refusal):
            return Decision(Passage(kind=turns.KIND, destination=None, transport="websocket"), refusal=planned)
        whole = replace(
            self._upgrade,
            operations=planned.operations,
            upstream_model=planned.upstream_model,
            answers=planned.answers,
        )
        rewrites = patch.on_record(whole, request.headers)
        passage = replace(_passage(self._flow, whole, turns.KIND, rewrites), transport="websocket")
        return Decision(passage, sent=planned.body if planned.operations else None)


def _passage(flow: http.HTTPFlow, planned: Plan, kind: ApiKind, rewrites: tuple[Operation, ...]) -> Passage:
    pays = bool(planned.secret_headers)
    return Passage(
        kind=kind,
        destination=Destination(
            host=flow.request.host,
            path=flow.request.path.partition("?")[0],
            provider=planned.provider.id,
            dialect=planned.provider.dialect,
            model=planned.upstream_model,
            payer="gateway" if pays else "client",
            client_credential=None if pays else credential_kind(flows.headers_of(flow.request)),
        ),
        side_request=planned.side_request,
        rewrites=rewrites,
        change=next((change for change in planned.answers if not change.where_named), None),
    )


def send(flow: http.HTTPFlow, planned: Plan, settings: Settings) -> None:
    """Turn the flow's request into the planned one, all but the key. The client's own stays in the flow's backup
    (`revert`)."""
    headers = flow.request.headers
    hide_own_tokens(flow, settings)
    flow.backup()
    for name in (*planned.remove_headers, *planned.secret_headers):
        headers.pop(name, None)
    for name, value in planned.set_headers.items():
        headers[name] = value
    flow.request.url = planned.url
    if planned.operations:
        flow.request.content = planned.body
    elif planned.body and "content-length" not in headers and "transfer-encoding" not in headers:
        # HTTP/2 needs neither; HTTP/1 would take the body for another request, and mitmproxy adds none
        headers["content-length"] = str(len(flow.request.raw_content or b""))


def refuse(flow: http.HTTPFlow, refusal: Refusal, kind: ApiKind | None) -> None:
    """Answer the request here; nothing goes upstream. The vendors' SDKs ask again after a 500, unless they are told."""
    status, body = reply(refusal, kind, flow.request.headers)
    if flow.request.method.upper() == "HEAD":
        # mitmproxy would send it all the same, and the client take it for the next answer on the connection
        body = b""
    headers = {"content-type": "application/json", "x-should-retry": "false"}
    flow.response = http.Response.make(status, body, headers)
