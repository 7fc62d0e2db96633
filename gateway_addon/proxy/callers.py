"""Who calls the gateway: what a connection tells of its client, and the name the client called the gateway by."""

import ipaddress
import time
from collections import deque
from typing import Any

from mitmproxy import ctx, http
from mitmproxy.connection import Server
from mitmproxy.net.http import url
from mitmproxy.proxy.mode_specs import ReverseMode
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from gateway_addon.gateway.access import Caller
from gateway_addon.proxy import flows

type Ends = tuple[tuple[str, int], tuple[str, int]]
"""The two ends of a TCP connection, the one that made it first."""

_OVER_TLS = ("https", "http3", "quic", "tls", "dtls")
"""Schemes of reverse-mode targets for which mitmproxy sets the server's name by itself."""


class HostHeaders:
    """The `Host` header as clients send it, and the one that leaves.

    On a reverse-mode listener mitmproxy overwrites it before any hook can see it, unless `keep_host_header` is set; the
    addon sets that to judge the client's, and then does what mitmproxy would have done, for every request there.
    """

    def __init__(self) -> None:
        self.are_ours = False
        """It is this addon that has set `keep_host_header`."""

    def put_right(self, flow: http.HTTPFlow) -> str | None:
        """A request's head has arrived: have it name the target. Returns what its client had called it; None if that is
        not known. Does so little that nothing of it can fail."""
        if not flow.live or flow.error or not isinstance(flow.client_conn.proxy_mode, ReverseMode):
            return None
        if not self.are_ours and not getattr(ctx.options, "keep_host_header", False):
            return None
        named = flow.request.host_header or ""
        if self.are_ours:
            flow.request.host_header = url.hostport(flow.request.scheme, flow.request.host, flow.request.port)
        return named

    def name_server(self, data: ServerConnectionHookData) -> None:
        """A listener's own target is about to be dialled: ask it for itself, not for the name its client used."""
        mode = data.client.proxy_mode
        if (
            self.are_ours
            and isinstance(mode, ReverseMode)
            and mode.scheme in _OVER_TLS
            and data.server.address == mode.address
            and data.server.sni in (None, data.client.sni)
        ):
            data.server.sni = mode.address[0]


class OwnConnections:
    """The proxy's own connections to this machine. One that leads to a listener of the same proxy looks local there,
    whoever had it made: a client of a forward proxy that listens for others, or of another reverse-mode listener."""

    REMEMBERED = 60.0
    """Seconds for which a closed one is still known: what it had sent may be read later."""

    def __init__(self) -> None:
        self._ends: set[Ends] = set()
        self._closed: deque[tuple[float, Ends]] = deque()

    def opened(self, server: Server) -> None:
        if (ends := _ends(server.sockname, server.peername)) and _is_loopback(ends):
            self._ends.add(ends)

    def closed(self, server: Server) -> None:
        now = time.monotonic()
        if (ends := _ends(server.sockname, server.peername)) in self._ends:
            self._closed.append((now, ends))
        while self._closed and now - self._closed[0][0] > self.REMEMBERED:
            self._ends.discard(self._closed.popleft()[1])

    def made(self, flow: http.HTTPFlow) -> bool:
        """Whether a flow came in by one of them."""
        return _ends(flow.client_conn.peername, flow.client_conn.sockname) in self._ends


def caller_of(flow: http.HTTPFlow, host: str | None, own: OwnConnections) -> Caller:
    """Who has sent a flow of a reverse-mode listener. `host`: as the client's `Host` header has it, None if unknown."""
    client, mode = flow.client_conn, flow.client_conn.proxy_mode
    assert isinstance(mode, ReverseMode)
    names = (mode.listen_host(getattr(ctx.options, "listen_host", "")), client.sockname[0] if client.sockname else "")
    return Caller(
        peer_ip=client.peername[0] if client.peername else "",
        reverse_target=flows.reverse_target(flow),
        host=host,
        listener=tuple(name.lower() for name in names if name),
        is_own=own.made(flow),
    )


def _ends(near: Any, far: Any) -> Ends | None:
    """Sockets' names hold more than address and port for IPv6, and IPv4 addresses mapped into it."""
    return (_address(near), _address(far)) if near and far else None


def _address(name: tuple[Any, ...]) -> tuple[str, int]:
    host, port = str(name[0]), int(name[1])
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return host, port
    return str(getattr(ip, "ipv4_mapped", None) or ip), port


def _is_loopback(ends: Ends) -> bool:
    try:
        return ipaddress.ip_address(ends[0][0]).is_loopback
    except ValueError:
        return False
