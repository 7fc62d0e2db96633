"""Carrying out the gateway's plan on a flow: the request that leaves, the key that must not stay in the flow, and the
framing of an answer that is changed on its way back."""

import logging
from dataclasses import dataclass
from urllib.parse import unquote

from mitmproxy import http
from mitmproxy.connection import Server
from mitmproxy.proxy.mode_specs import ReverseMode

from gateway_addon.api import kind_of_path
from gateway_addon.api.base import ApiKind, Refusal
from gateway_addon.call import Destination, Passage, Request
from gateway_addon.captures import notes
from gateway_addon.config import Provider, Settings
from gateway_addon.credentials import REDACTED, credential_kind, is_credential
from gateway_addon.gateway import access, patch
from gateway_addon.gateway.answers import AnswerChange
from gateway_addon.gateway.plan import Caller, Plan, plan
from gateway_addon.gateway.replies import INTERNAL_ERROR, reply
from gateway_addon.gateway.routing import PREFIX, Target, route
from gateway_addon.proxy import flows
from gateway_addon.proxy.log import describe

logger = logging.getLogger(__name__)


@dataclass(slots=True, frozen=True)
class Sent:
    """A request that left with the gateway's credentials, or would have."""

    flow: http.HTTPFlow
    provider: Provider
    key_headers: tuple[str, ...]


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


class Forwarder:
    """Sends or refuses the gateway's calls, and knows the keys that are in flows on their way."""

    def __init__(self) -> None:
        self._sent: dict[str, Sent] = {}
        """Requests that the gateway has let go and that have not been answered yet, by flow id."""

    def forward(self, flow: http.HTTPFlow, settings: Settings) -> tuple[Request, Passage] | None:
        """Turn a gateway call's request into the planned one, or answer it here. None: it is no call to record.

        The gateway fails closed: what it could not deal with must not reach anybody.
        """
        try:
            request = flows.request_of(flow.request)
            planned = plan(request, _caller(flow), settings)
            if isinstance(planned, Refusal):
                return self._refuse(flow, request, planned, settings)
            self._sent[flow.id] = Sent(flow, planned.provider, tuple(planned.secret_headers))
            send(flow, planned, settings)
        except Exception as error:
            logger.warning("%s: refused, the gateway failed: %s", flow.id, describe(error))
            self.conceal(flow)
            refuse(flow, INTERNAL_ERROR, kind_of_path(flow.request.path))
            return None
        if planned.kind is None or not planned.logged:
            return None
        return request, _passage(flow, request, planned, planned.kind)

    def _refuse(
        self, flow: http.HTTPFlow, request: Request, refusal: Refusal, settings: Settings
    ) -> tuple[Request, Passage] | None:
        target = route(request.method, request.path)
        kind = target.route.kind if isinstance(target, Target) else None
        hide_own_tokens(flow, settings)
        refuse(flow, refusal, kind)
        notes.leave_refusal(flow)
        if not isinstance(target, Target) or kind is None or not target.route.logged:
            return None
        return request, Passage(kind=kind, destination=None, side_request=target.route.side_request)

    def renew(self, flow: http.HTTPFlow, settings: Settings, *, with_keys: bool) -> None:
        """A saved request is about to be sent again: give it today's key, if it may have it. `with_keys`: also where
        the client had paid."""
        injected = todays_key(flow, settings, with_keys=with_keys)
        if withheld := withhold_redacted(flow):
            logger.warning("%s: sent again without its redacted %s", flow.id, ", ".join(withheld))
        if injected:
            provider, names = injected
            self._sent[flow.id] = Sent(flow, provider, tuple(names))

    def pin(self, server: Server) -> None:
        """A server is about to be dialled.

        For a request that is sent again, mitmproxy asks it for the name in the saved `host` header, which anybody may
        have written: another server behind the same address would answer to it, and be handed the key.
        """
        for sent in self._sent.values():
            request = sent.flow.request
            if sent.flow.is_replay == "request" and server.address == (request.host, request.port) and server.sni:
                server.sni = request.host

    def has_key(self, flow: http.HTTPFlow) -> bool:
        """Whether a key of the gateway's is in a flow's request."""
        sent = self._sent.get(flow.id)
        return sent is not None and bool(sent.key_headers)

    def conceal(self, flow: http.HTTPFlow) -> bool:
        """The gateway's key has done its work: it stays in no flow. False if the gateway had not sent this one."""
        sent = self._sent.pop(flow.id, None)
        for name in sent.key_headers if sent else ():
            flow.request.headers[name] = patch.placeholder(sent.provider)  # type: ignore[union-attr]
        return sent is not None

    def conceal_all(self) -> None:
        """The proxy ends."""
        for sent in list(self._sent.values()):
            self.conceal(sent.flow)


def _caller(flow: http.HTTPFlow) -> Caller:
    mode = flow.client_conn.proxy_mode
    assert isinstance(mode, ReverseMode)
    return Caller(
        peer_ip=flow.client_conn.peername[0] if flow.client_conn.peername else "",
        reverse_target=(mode.scheme, *mode.address),
    )


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
    for name in access.own_tokens(flows.headers_of(flow.request), settings):
        flow.request.headers[name] = access.OWN_TOKEN
    flow.request.path = access.without_own_tokens(flow.request.path, settings)


def send(flow: http.HTTPFlow, planned: Plan, settings: Settings) -> None:
    """Turn the flow's request into the planned one. The client's own stays in the flow's backup (`revert`)."""
    headers = flow.request.headers
    hide_own_tokens(flow, settings)
    flow.backup()
    for name in planned.remove_headers:
        headers.pop(name, None)
    for name, value in (planned.set_headers | planned.secret_headers).items():
        headers[name] = value
    flow.request.url = planned.url
    if planned.operations:
        flow.request.content = planned.body


def refuse(flow: http.HTTPFlow, refusal: Refusal, kind: ApiKind | None) -> None:
    """Answer the request here; nothing goes upstream."""
    status, body = reply(refusal, kind, flows.headers_of(flow.request))
    if flow.request.method.upper() == "HEAD":
        # mitmproxy would send it all the same, and the client take it for the next answer on the connection
        body = b""
    flow.response = http.Response.make(status, body, {"content-type": "application/json"})


def withhold_redacted(flow: http.HTTPFlow) -> list[str]:
    """Before a saved request is sent again: take out what a redaction has left of its credentials, which is none.

    Returns where it stood.
    """
    headers, names = flow.request.headers, []
    for name in list(headers):
        if is_credential(name) and REDACTED.search(headers.get(name, "")):
            del headers[name]
            names.append(name)
    path, mark, query = flow.request.path.partition("?")
    parts = query.split("&")
    left = [part for part in parts if not REDACTED.search(unquote(part))]
    if left != parts:
        flow.request.path = f"{path}{mark if left else ''}{'&'.join(left)}"
        names.append("query")
    return names


def todays_key(
    flow: http.HTTPFlow, settings: Settings, *, with_keys: bool = False
) -> tuple[Provider, list[str]] | None:
    """Before a saved request is sent again: put today's key where the placeholder stands, if it goes to that provider.

    `with_keys`: also in the place of the client's own credentials, at any provider that is known by its address and has
    a key. Returns the provider and the names of the headers that now hold its key; None if there was nothing to put in.
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
    for name, value in keys.items():
        headers[name] = value
    return provider, list(keys)


def _goes_to(request: http.Request, provider: Provider) -> bool:
    """Whether a request's address is one below `api_url`, by its `host` header as well: TLS asks for the server that
    the header names, and that may be another one behind the same address."""
    # written as mitmproxy writes a URL: lower case, without a default port
    api_url = http.Request.make("GET", f"{provider.api_url}/").url
    return all(url.startswith(api_url) for url in (request.url, request.pretty_url))


def prepare_head(flow: http.HTTPFlow, change: AnswerChange) -> None:
    """Prepare the answer's head for a body that is changed on its way.

    Lengths are not known beforehand, so the body becomes chunked for HTTP/1.1 (else the connection would have to end
    with it); a compressed one leaves decoded.
    """
    assert flow.response is not None
    headers = flow.response.headers
    if change.public_model is not None:
        for name in [name for name in headers if "cost" in name.lower() or name.lower() in _MONEY_HEADERS]:
            headers.pop(name, None)
    headers.pop("content-encoding", None)
    if headers.pop("content-length", None) is not None and flow.request.is_http11:
        headers["transfer-encoding"] = "chunked"


_MONEY_HEADERS = ("x-litellm-key-spend",)
"""Headers of an answer that tell money without a cost in their name."""


def restore_head(response: http.Response, received: http.Headers) -> None:
    """Once the client has its head: let the flow hold the answer as received, but for the framing, by which mitmproxy
    still has to end the body."""
    framing = response.headers.get("transfer-encoding")
    response.headers = received
    if framing:
        response.headers.pop("content-length", None)
        response.headers["transfer-encoding"] = framing
