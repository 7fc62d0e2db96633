"""Carrying out the gateway's plan on a flow: the request that leaves, the key that must not stay in the flow, and the
framing of an answer that is changed on its way back."""

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from mitmproxy import http
from mitmproxy.connection import Server

from gateway_addon.api import kind_of_path
from gateway_addon.api.base import ApiKind, Refusal
from gateway_addon.call import Call, Destination, Head, Passage, Request, unread_request
from gateway_addon.captures import notes
from gateway_addon.config import Provider, Settings
from gateway_addon.credentials import REDACTED, credential_kind, may_be_credential
from gateway_addon.gateway import access, patch
from gateway_addon.gateway.access import TOKEN_NEEDED, Caller
from gateway_addon.gateway.answers import WITHHELD, AnswerChange
from gateway_addon.gateway.plan import Plan, admit, plan
from gateway_addon.gateway.replies import INTERNAL_ERROR, reply
from gateway_addon.gateway.routing import PREFIX, Target, route
from gateway_addon.proxy import flows
from gateway_addon.proxy.log import describe
from gateway_addon.proxy.veil import Answer
from gateway_addon.wire.elements import Memory
from gateway_addon.wire.headers import Headers

logger = logging.getLogger(__name__)


@dataclass(slots=True, frozen=True)
class Sent:
    """A request that left with the gateway's credentials, or would have."""

    provider: Provider
    keys: Mapping[str, str] = field(repr=False)
    """The headers with the gateway's key, and their values."""


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


class Forwarder:
    """Sends or refuses the gateway's calls, and knows the keys that are in flows on their way.

    `turn_away` is told of a stranger who was refused and gets no row, because there are too many.
    """

    STRANGERS_A_SECOND = 5
    """Rows for callers who show no token: whoever can reach a listener could fill the disk with them."""

    def __init__(self, turn_away: Callable[[], None], memory: Memory | None = None) -> None:
        self._turn_away = turn_away
        self._memory = memory
        self._strangers = Quota(self.STRANGERS_A_SECOND)
        self._verdicts: dict[str, tuple[Head, Target | Refusal]] = {}
        """Heads that have arrived without their body yet, and what was made of them, by flow id."""
        self._sent: dict[http.HTTPFlow, Sent] = {}
        """Requests that the gateway has let go and that have not been answered yet. Not by id: a flow may be replayed
        several times at once."""

    def admit(self, flow: http.HTTPFlow, caller: Caller, settings: Settings) -> None:
        """A gateway call's head has arrived: judge it before anything of its body is looked at, and answer it here at
        once if it is refused."""
        head = flows.head_of(flow.request)
        verdict = admit(head, caller, settings)
        self._verdicts[flow.id] = head, verdict
        if isinstance(verdict, Refusal):
            self._answer(flow, verdict)

    def forward(
        self, flow: http.HTTPFlow, caller: Callable[[], Caller], settings: Settings
    ) -> tuple[Request, Passage] | None:
        """Turn a gateway call's request into the planned one, or answer it here. None: it is no call to record.

        `caller` is asked for where the head was not for the gateway when it arrived. The gateway fails closed: what it
        could not deal with must not reach anybody.
        """
        try:
            if flow.id not in self._verdicts:
                self.admit(flow, caller(), settings)
            head, admitted = self._verdicts.pop(flow.id)
            if isinstance(admitted, Refusal):
                return self._turned_away(flow, head, admitted, settings)
            request = flows.request_of(flow.request, self._memory, head)
            planned = plan(request, admitted, flows.reverse_target(flow), settings)
            if isinstance(planned, Refusal):
                return self._refuse(flow, request, planned, settings)
            self._sent[flow] = Sent(planned.provider, planned.secret_headers)
            send(flow, planned, settings)
            if planned.kind is None or not planned.logged:
                return None
            return request, _passage(flow, request, planned, planned.kind)
        except Exception as error:
            logger.warning("%s: refused, the gateway failed: %s", flow.id, describe(error))
            self.conceal(flow)
            refuse(flow, INTERNAL_ERROR, kind_of_path(flow.request.path))
            return None

    def is_waiting(self, flow: http.HTTPFlow) -> bool:
        """Whether a flow's head has been judged, and its body has not arrived yet."""
        return flow.id in self._verdicts

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
            return None
        return self._refuse(flow, request, refusal, settings)

    def _refuse(
        self, flow: http.HTTPFlow, request: Request, refusal: Refusal, settings: Settings
    ) -> tuple[Request, Passage] | None:
        target = route(request.method, request.path)
        kind = target.route.kind if isinstance(target, Target) else None
        self._answer(flow, refusal)
        hide_own_tokens(flow, settings)
        if not isinstance(target, Target) or kind is None or not target.route.logged:
            return None
        return request, Passage(kind=kind, destination=None, side_request=target.route.side_request)

    def _answer(self, flow: http.HTTPFlow, refusal: Refusal) -> None:
        target = route(flow.request.method, flow.request.path)
        refuse(flow, refusal, target.route.kind if isinstance(target, Target) else None)
        notes.leave_refusal(flow)

    def renew(self, flow: http.HTTPFlow, settings: Settings, *, with_keys: bool) -> None:
        """A saved request is about to be sent again: give it today's key, if it may have it. `with_keys`: also where
        the client had paid."""
        if flow not in self._sent and (keyed := todays_key(flow, settings, with_keys=with_keys)):
            self._sent[flow] = keyed
        if withheld := withhold_redacted(flow):
            logger.warning("%s: sent again without its redacted %s", flow.id, ", ".join(withheld))

    def arm(self, flow: http.HTTPFlow) -> None:
        """A request is about to leave, and no addon will look at it any more: put the key in."""
        sent = self._sent.get(flow)
        if sent is None or not sent.keys or flow.response or flow.error:
            return
        for name in access.CREDENTIALS:
            # whoever has put some in meanwhile did not mean this provider
            flow.request.headers.pop(name, None)
        for name, value in sent.keys.items():
            flow.request.headers[name] = value

    def pin(self, server: Server) -> None:
        """A server is about to be dialled.

        For a request that is sent again, mitmproxy asks it for the name in the saved `host` header, which anybody may
        have written: another server behind the same address would answer to it, and be handed the key.
        """
        for flow in self._sent:
            request = flow.request
            if flow.is_replay == "request" and server.address == (request.host, request.port) and server.sni:
                server.sni = request.host

    def has_key(self, flow: http.HTTPFlow) -> bool:
        """Whether a key of the gateway's is in a flow's request."""
        sent = self._sent.get(flow)
        return sent is not None and bool(sent.keys)

    def conceal(self, flow: http.HTTPFlow) -> bool:
        """The gateway's key has done its work: it stays in no flow. False if the gateway had not sent this one."""
        self._verdicts.pop(flow.id, None)
        sent = self._sent.pop(flow, None)
        for name in sent.keys if sent else ():
            flow.request.headers[name] = patch.placeholder(sent.provider)  # type: ignore[union-attr]
        return sent is not None

    def conceal_all(self) -> None:
        """The proxy ends."""
        for flow in list(self._sent):
            self.conceal(flow)


def _passage(flow: http.HTTPFlow, request: Request, planned: Plan, kind: ApiKind) -> Passage:
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
        rewrites=patch.on_record(planned, request.headers),
        change=planned.answer,
    )


def hide_own_tokens(flow: http.HTTPFlow, settings: Settings) -> None:
    """The gateway's own tokens have done their work: they stay in no flow."""
    headers = flow.request.headers
    shown = Headers((name, value) for name in access.CREDENTIALS for value in headers.get_all(name))
    for name in access.own_tokens(shown, settings):
        flow.request.headers[name] = access.OWN_TOKEN
    flow.request.path = access.without_own_tokens(flow.request.path, settings)


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


def withhold_redacted(flow: http.HTTPFlow) -> list[str]:
    """Before a saved request is sent again: take out what a redaction has left of its credentials, which is none.

    Returns where it stood.
    """
    headers, names = flow.request.headers, []
    for name in list(headers):
        if may_be_credential(name) and REDACTED.search(headers.get(name, "")):
            del headers[name]
            names.append(name)
    path, mark, query = flow.request.path.partition("?")
    parts = query.split("&")
    left = [part for part in parts if not REDACTED.search(unquote(part))]
    if left != parts:
        flow.request.path = f"{path}{mark if left else ''}{'&'.join(left)}"
        names.append("query")
    return names


def todays_key(flow: http.HTTPFlow, settings: Settings, *, with_keys: bool = False) -> Sent | None:
    """Before a saved request is sent again: today's key for where the placeholder stands, which is taken out, if it
    goes to that provider; else None.

    `with_keys`: also for where the client's own credentials stand, at any provider that is known by its address.
    A flow file may come from anybody: one that names another host must not be handed the key.
    """
    headers = flow.request.headers
    providers = {patch.placeholder(provider): provider for provider in settings.providers.values()}
    held = [name for name in access.CREDENTIALS if headers.get(name) in providers]
    provider = providers[headers[held[0]]] if held else None
    if provider is None and with_keys:
        provider = settings.provider_of_host(flow.request.host, flow.request.port, flow.request.path)
        held = [name for name in access.CREDENTIALS if name in headers]
    if provider is None or not _goes_to(flow.request, provider):
        return None
    credentials = access.provider_credentials(provider, kind_of_path(flow.request.path), settings)
    keys = {name: value for name, value in credentials.items() if name in access.CREDENTIALS}
    if not keys:
        return None
    for name in held:
        del headers[name]
    return Sent(provider, keys)


def _goes_to(request: http.Request, provider: Provider) -> bool:
    """Whether a request's address is one below `api_url`, by its `host` header as well: TLS asks for the server that
    the header names, and that may be another one behind the same address."""
    # written as mitmproxy writes a URL: lower case, without a default port
    api_url = http.Request.make("GET", f"{provider.api_url}/").url
    return all(url.startswith(api_url) for url in (request.url, request.pretty_url))


def changed_answer(call: Call, response: http.Response, pieces: list[bytes], *, withheld: bool) -> Answer:
    """What a client gets of a whole answer that is changed, or must be withheld, before any of it was sent."""
    body = b"".join(pieces)
    if withheld:
        headers = http.Headers(content_type="application/json", x_should_retry="false", content_length=str(len(body)))
        return Answer(WITHHELD.status, b"Bad Gateway", headers, body, None)
    headers = response.headers.copy()
    _without_costs(headers, call.passage.change)
    for name in ("content-encoding", "transfer-encoding"):
        headers.pop(name, None)
    headers["content-length"] = str(len(body))
    return Answer(response.status_code, response.data.reason, headers, body, response.trailers)


def prepare_head(flow: http.HTTPFlow, change: AnswerChange) -> None:
    """Prepare the answer's head for a body that is changed on its way.

    Lengths are not known beforehand, so the body becomes chunked for HTTP/1.1 (else the connection would have to end
    with it); a compressed one leaves decoded.
    """
    assert flow.response is not None
    headers = flow.response.headers
    _without_costs(headers, change)
    headers.pop("content-encoding", None)
    if headers.pop("content-length", None) is not None and flow.request.is_http11:
        headers["transfer-encoding"] = "chunked"


def _without_costs(headers: http.Headers, change: AnswerChange | None) -> None:
    if change and change.public_model is not None:
        # at one go, however many there are
        headers.fields = tuple(field for field in headers.fields if not _tells_money(field[0]))


_MONEY_HEADERS = (b"x-litellm-key-spend",)
"""Headers of an answer that tell money without a cost in their name."""


def _tells_money(name: bytes) -> bool:
    return b"cost" in name.lower() or name.lower() in _MONEY_HEADERS


def restore_head(response: http.Response, received: http.Headers) -> None:
    """Once the client has its head: let the flow hold the answer as received, but for the framing, by which mitmproxy
    still has to end the body."""
    framing = response.headers.get("transfer-encoding")
    response.headers = received
    if framing:
        response.headers.pop("content-length", None)
        response.headers["transfer-encoding"] = framing
