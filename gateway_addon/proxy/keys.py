"""A provider's key in a request: put in as it leaves, and taken out of the flow again once it has left.

The request is planned without its key, which `Keys` holds meanwhile, so that no other addon sees it and no file keeps
it. What stands in the flow afterwards is the placeholder `{gateway:PROVIDER}`, and for the gateway's own tokens
`{gateway:token}`. A request that is sent again from a file is given today's key, if it goes to that key's provider.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from mitmproxy import http
from mitmproxy.connection import Server

from gateway_addon.api import kind_of_path
from gateway_addon.config import Provider, Settings
from gateway_addon.credentials import REDACTED, may_be_credential
from gateway_addon.gateway import access, patch
from gateway_addon.wire.headers import Headers

logger = logging.getLogger(__name__)


@dataclass(slots=True, frozen=True)
class Sent:
    """A request that left with the gateway's credentials, or would have."""

    provider: Provider
    keys: Mapping[str, str] = field(repr=False)
    """The headers with the gateway's key, and their values; none where the client pays."""


class Keys:
    """The requests that the gateway has let go and that have not been answered yet, each with its key."""

    def __init__(self) -> None:
        self._sent: dict[http.HTTPFlow, Sent] = {}
        """Not by id: a flow may be replayed several times at once."""

    def hold(self, flow: http.HTTPFlow, sent: Sent) -> None:
        """The gateway lets a request go: its key is put in when it leaves (`arm`)."""
        self._sent[flow] = sent

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
        sent = self._sent.pop(flow, None)
        if sent is None:
            return False
        for name in sent.keys:
            flow.request.headers[name] = patch.placeholder(sent.provider)
        return True

    def conceal_all(self) -> None:
        """The proxy ends."""
        for flow in list(self._sent):
            self.conceal(flow)


def hide_own_tokens(flow: http.HTTPFlow, settings: Settings) -> None:
    """The gateway's own tokens have done their work: they stay in no flow."""
    headers = flow.request.headers
    for name in access.own_tokens(Headers(headers.items(multi=True)), settings):
        if access.without_own_tokens(name, settings) == name:
            headers[name] = access.OWN_TOKEN
        else:
            del headers[name]
    flow.request.path = access.without_own_tokens(flow.request.path, settings)


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
