"""Carrying out the gateway's plan on a mitmproxy flow: the request that leaves, the key that must not stay in the
flow, and the framing of an answer that is changed on its way back."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace

from mitmproxy import http
from mitmproxy.proxy.mode_specs import ReverseMode

from gateway_addon import gateway
from gateway_addon.api import kind_of_path
from gateway_addon.api.base import ApiKind, Refusal
from gateway_addon.config import Provider, Settings
from gateway_addon.gateway import GatewayRequest, Plan, access
from gateway_addon.gateway.answers import COST_HEADERS, AnswerChange
from gateway_addon.gateway.routing import PREFIX
from gateway_addon.wire import encodings

logger = logging.getLogger(__name__)

MAX_REQUEST = 64 * 1024 * 1024
"""Bytes. A longer request body (content-decoded) is not read. Observed, it is forwarded all the same; on a gateway
path, where it would have to be understood, it is refused."""

Filter = Callable[[bytes], list[bytes]]
"""What changes an answer's chunks on their way, and takes b"" at the end."""


def is_gateway_call(flow: http.HTTPFlow) -> bool:
    """Whether a live request is the gateway's to answer for, and nobody has answered it yet."""
    return is_for_gateway(flow) and flow.response is None and flow.error is None


def is_for_gateway(flow: http.HTTPFlow) -> bool:
    """Whether a request is live, under the gateway's prefixes as its client sent it, on a reverse-mode listener, and
    no replay of what the gateway has dealt with before."""
    return (
        flow.live
        and flow.is_replay is None
        and isinstance(flow.client_conn.proxy_mode, ReverseMode)
        and PREFIX.match(flow.request.path.partition("?")[0]) is not None
    )


def consult(flow: http.HTTPFlow, settings: Settings) -> tuple[GatewayRequest, Plan | Refusal]:
    """The request of a gateway call as the client sent it, and what becomes of it."""
    mode = flow.client_conn.proxy_mode
    assert isinstance(mode, ReverseMode)
    headers = joined_headers(flow.request)
    request = GatewayRequest(
        method=flow.request.method,
        path=flow.request.path,
        headers=headers,
        body=b"",
        peer_ip=flow.client_conn.peername[0] if flow.client_conn.peername else "",
        reverse_target=(mode.scheme, *mode.address),
    )
    try:
        body = encodings.decode(flow.request.raw_content or b"", headers.get("content-encoding"), MAX_REQUEST)
    except encodings.DecodeError:
        # an empty body is refused where one is needed; elsewhere the body is not looked at
        body = b""
    request = replace(request, body=body)
    return request, gateway.plan(request, settings)


def hide_own_tokens(flow: http.HTTPFlow, settings: Settings) -> None:
    """The gateway's own tokens have done their work: they stay in no flow."""
    for name in access.own_tokens(joined_headers(flow.request), settings):
        flow.request.headers[name] = access.OWN_TOKEN
    flow.request.path = access.without_own_tokens(flow.request.path, settings)


def joined_headers(request: http.Request) -> dict[str, str]:
    """Names in lower case; the values of a repeated one joined by ", "."""
    return {name.lower(): ", ".join(request.headers.get_all(name)) for name in request.headers}


def send(flow: http.HTTPFlow, plan: Plan, settings: Settings) -> None:
    """Turn the flow's request into the planned one. The client's own stays in the flow's backup (`revert`)."""
    headers = flow.request.headers
    hide_own_tokens(flow, settings)
    flow.backup()
    for name in plan.remove_headers:
        headers.pop(name, None)
    for name, value in (plan.set_headers | plan.secret_headers).items():
        headers[name] = value
    flow.request.url = plan.url
    if plan.operations:
        flow.request.content = plan.body


def refuse(flow: http.HTTPFlow, refusal: Refusal, kind: ApiKind | None) -> None:
    """Answer the request here; nothing goes upstream."""
    status, body = gateway.reply(refusal, kind, joined_headers(flow.request))
    if flow.request.method.upper() == "HEAD":
        # mitmproxy would send it all the same, and the client take it for the next answer on the connection
        body = b""
    flow.response = http.Response.make(status, body, {"content-type": "application/json"})


def holds_placeholder(flow: http.HTTPFlow) -> bool:
    """Whether the gateway's key was in a saved request."""
    return any(flow.request.headers.get(name, "").startswith("{gateway:") for name in access.CREDENTIALS)


def conceal_key(flow: http.HTTPFlow, provider: Provider, names: Iterable[str]) -> None:
    """The request has been sent: put the placeholder where the provider's key was."""
    for name in names:
        flow.request.headers[name] = gateway.placeholder(provider)


def todays_key(flow: http.HTTPFlow, settings: Settings) -> tuple[Provider, list[str]] | None:
    """Before a saved request is sent again: put today's key where the placeholder stands, if it goes to that provider.

    Returns the provider and the names of the headers that now hold its key; None if there was nothing to put in. A
    flow file may come from anybody: one that names another host must not be handed the key.
    """
    headers = flow.request.headers
    providers = {gateway.placeholder(provider): provider for provider in settings.providers.values()}
    held = [name for name in access.CREDENTIALS if headers.get(name) in providers]
    provider = providers[headers[held[0]]] if held else None
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


def change_body(flow: http.HTTPFlow, change: AnswerChange) -> None:
    """Change an answer that is here as a whole."""
    assert flow.response is not None
    body = flow.response.raw_content
    if body and (pass_on := answer_filter(flow, change)):
        flow.response.raw_content = b"".join([*pass_on(body), *pass_on(b"")])


def answer_filter(flow: http.HTTPFlow, change: AnswerChange) -> Filter | None:
    """Prepare the answer's head for a body that is changed on its way, and return what changes it.

    None: this answer passes as it comes. Lengths are not known beforehand, so the body becomes chunked for HTTP/1.1
    (else the connection would have to end with it); a compressed one leaves decoded (mitmproxy-notes §1.2).
    """
    assert flow.response is not None
    headers = flow.response.headers
    streamed = headers.get("content-type", "").partition(";")[0].strip().lower() == "text/event-stream"
    rewriter = change.rewriter(streamed=streamed)
    if change.public_model is not None:
        for name in COST_HEADERS:
            headers.pop(name, None)
    if rewriter is None:
        return None
    try:
        decoder = encodings.decoder(headers.get("content-encoding"))
    except encodings.DecodeError:
        # it was asked for without encoding, and cannot be changed in this one
        return None
    headers.pop("content-encoding", None)
    if headers.pop("content-length", None) is not None and flow.request.is_http11:
        headers["transfer-encoding"] = "chunked"
    broken = False

    def pass_on(chunk: bytes) -> list[bytes]:
        nonlocal broken
        if not chunk:
            return rewriter.finish()
        out: list[bytes] = []
        try:
            for piece in () if broken else decoder.feed(chunk):
                out += rewriter.feed(piece)
        except encodings.DecodeError as error:
            # nothing behind the damage can be read by anybody
            broken = True
            logger.warning("%s: an answer that must be changed cannot be decoded: %s", flow.id, error)
        return out

    return pass_on
